"""System calls that a process which only serves files or requests never needs, as a filter that refuses them.

A filter of the kernel (seccomp(2)) compares numbers, and each architecture has its own: asm/unistd_64.h of x86-64, and
asm-generic/unistd.h, which arm64 uses.
"""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False  # typing and collections would cost each start of a process as much as all of this
if TYPE_CHECKING:
    from collections.abc import Collection

# name: (x86-64, arm64). None: that architecture does not have it.
REFUSED: dict[str, tuple[int, int | None]] = {
    # other programs and processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "kill": (62, 129),
    "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "prlimit64": (302, 261), "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122), "sched_setattr": (314, 274),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    # memory and queues that processes share by a name which is no path
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # the network, beyond the one connection that is there
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "setns": (308, 268), "unshare": (272, 97),
    # files by handle: past the directory that is served
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    # the kernel itself
    "bpf": (321, 280), "userfaultfd": (323, 282), "perf_event_open": (298, 241), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "iopl": (172, None), "ioperm": (173, None),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "personality": (135, 92), "fanotify_init": (300, 262),
}  # fmt: skip
# What a program needs that starts others and talks to them over sockets: QEMU with its user network.
STARTING = {
    *("fork", "vfork", "execve", "kill", "tkill", "tgkill"),
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
}
# A program in C sends signals to its own threads, and asks for its own limits.
OWN_THREADS, OWN_LIMITS = "tgkill", "prlimit64"
# A thread is made by clone with this flag; without it, it is a process. The flags of clone3 lie in memory, which a
# filter does not see: it does not exist for us, upon which the C library takes clone.
CLONE, CLONE3, CLONE_THREAD = (56, 220), 435, 0x10000
SECCOMP = (317, 277)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # linux/audit.h
X32 = 0x40000000  # set in the numbers of x86-64's second set of calls, which nobody of ours uses
SET_MODE_FILTER, NEW_LISTENER = 1, 8  # linux/seccomp.h
ALLOW, REFUSE_EPERM, REFUSE_ENOSYS, KILL, ASK = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000, 0x7FC00000
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_IF_SET, ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
ARCHITECTURE_AT, NUMBER_AT, FIRST_ARGUMENT_AT = 4, 0, 16  # in struct seccomp_data

Step = tuple[int, int, int, int]


def known() -> bool:
    """Whether the numbers of this architecture are listed."""
    return os.uname().machine in ARCHITECTURES


def refuse() -> bool:
    """The calls of REFUSED, and new processes, fail with EPERM from now on, in this thread and those that it starts.

    Needs PR_SET_NO_NEW_PRIVS. False on an architecture whose numbers are not listed. Raises OSError.
    """
    if (found := ARCHITECTURES.get(os.uname().machine)) is None:
        return False
    column, architecture = found
    install([*_start(architecture), *_refusals(column, REFUSED), *_no_processes(column), (ANSWER, 0, 0, ALLOW)])
    return True


def refuse_to_program(*, starts_others: bool) -> int | None:
    """The same for the program that this process becomes, which still has to be started by execve.

    It may signal its own threads and ask for its own limits. Returns a descriptor that is asked about each execve
    (seccomp_unotify(2)), and closes with the first one: from then on there is no execve any more. None where the kernel
    does not offer that (before 5.5, or within somebody else's such filter), and with `starts_others`, which leaves out
    the calls of STARTING.
    """
    if (found := ARCHITECTURES.get(os.uname().machine)) is None:
        return None
    column, architecture = found
    head, end = _start(architecture), [(ANSWER, 0, 0, ALLOW)]
    limits = _own(column, OWN_LIMITS, (0, os.getpid()))
    if starts_others:
        install([*head, *_refusals(column, REFUSED.keys() - STARTING - {OWN_LIMITS}), *limits, *end])
        return None
    others = _refusals(column, REFUSED.keys() - {"execve", OWN_THREADS, OWN_LIMITS})
    own = [*_own(column, OWN_THREADS, (os.getpid(),)), *limits]
    asked = [(JUMP_EQUAL, 0, 1, _number(column, "execve")), (ANSWER, 0, 0, ASK)]
    rest = [*others, *own, *_no_processes(column), *end]
    try:
        return install([*head, *asked, *rest], NEW_LISTENER)
    except OSError:
        install([*head, *rest])
        return None


def _start(architecture: int) -> list[Step]:
    checked = [(LOAD, 0, 0, ARCHITECTURE_AT), (JUMP_EQUAL, 1, 0, architecture), (ANSWER, 0, 0, KILL)]
    return [*checked, (LOAD, 0, 0, NUMBER_AT), (JUMP_AT_LEAST, 0, 1, X32), (ANSWER, 0, 0, KILL)]


def _number(column: int, name: str) -> int:
    number = REFUSED[name][column]
    assert number is not None
    return number


def _refusals(column: int, names: Collection[str]) -> list[Step]:
    numbers = [numbers[column] for name, numbers in REFUSED.items() if name in names]
    steps = ([(JUMP_EQUAL, 0, 1, number), (ANSWER, 0, 0, REFUSE_EPERM)] for number in numbers if number is not None)
    return [step for each in steps for step in each]


def _own(column: int, name: str, allowed: tuple[int, ...]) -> list[Step]:
    """The call fails unless its first argument, a process, is one of `allowed`."""
    fits = [(JUMP_EQUAL, len(allowed) - place, 0, process) for place, process in enumerate(allowed)]
    steps = [(LOAD, 0, 0, FIRST_ARGUMENT_AT), *fits, (ANSWER, 0, 0, REFUSE_EPERM), (ANSWER, 0, 0, ALLOW)]
    return [(JUMP_EQUAL, 0, len(steps), _number(column, name)), *steps]


def _no_processes(column: int) -> list[Step]:
    steps = [(JUMP_EQUAL, 0, 1, CLONE3), (ANSWER, 0, 0, REFUSE_ENOSYS)]
    steps += [(JUMP_EQUAL, 0, 3, CLONE[column]), (LOAD, 0, 0, FIRST_ARGUMENT_AT)]
    return [*steps, (JUMP_IF_SET, 1, 0, CLONE_THREAD), (ANSWER, 0, 0, REFUSE_EPERM)]


def install(steps: list[Step], flags: int = 0) -> int:
    """Put the filter in force for this thread and those that it starts; what seccomp(2) returns. Raises OSError."""
    column, _ = ARCHITECTURES[os.uname().machine]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in steps))
    descriptor = struct.pack("@HP", len(steps), ctypes.addressof(code))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    words = (ctypes.c_long(word) for word in (SECCOMP[column], SET_MODE_FILTER, flags))
    result = int(libc.syscall(*words, ctypes.c_char_p(descriptor)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
