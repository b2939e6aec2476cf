"""What of the rest of this host is fuzzed, beside the gateway. Each target takes any bytes of a guest.

It raises whatever is wrong with us. A further reader gets a function, seeds and a line in TARGETS.
"""

from __future__ import annotations

from guest_acp import ACP_SEEDS, acp
from guest_answers import (
    ANSWER_SEEDS,
    GREETING_SEEDS,
    SERVICE_SEEDS,
    VITAL_SEEDS,
    WORDS,
    answers,
    greeting,
    services,
    vitals,
)
from guest_archives import ARCHIVE_SEEDS, ARCHIVE_WORDS, CHANGE_SEEDS, SIFT_SEEDS, changes, sifted, tar
from guest_disks import DISK_SEEDS, DISK_WORDS, disk
from guest_frames import FRAME_SEEDS, FRAME_WORDS, frames
from guest_relay import relay
from guest_terminal import KEY_SEEDS, MODE_SEEDS, SHOWN_SEEDS, TERMINAL_WORDS, TITLE_SEEDS, keys, modes, shown, title
from target import Target

TARGETS = {
    "frames": Target(frames, FRAME_SEEDS, FRAME_WORDS),
    "relay": Target(relay, FRAME_SEEDS, FRAME_WORDS),
    "greeting": Target(greeting, GREETING_SEEDS, WORDS),
    "answers": Target(answers, ANSWER_SEEDS, WORDS),
    "services": Target(services, SERVICE_SEEDS, WORDS),
    "vitals": Target(vitals, VITAL_SEEDS, WORDS),
    "acp": Target(acp, ACP_SEEDS, WORDS),
    "tar": Target(tar, ARCHIVE_SEEDS, ARCHIVE_WORDS),
    "sift": Target(sifted, SIFT_SEEDS, ARCHIVE_WORDS),
    "changes": Target(changes, CHANGE_SEEDS, ARCHIVE_WORDS),
    "title": Target(title, TITLE_SEEDS, TERMINAL_WORDS),
    "modes": Target(modes, MODE_SEEDS, TERMINAL_WORDS),
    "keys": Target(keys, KEY_SEEDS, TERMINAL_WORDS),
    "shown": Target(shown, SHOWN_SEEDS, TERMINAL_WORDS),
    "disk": Target(disk, DISK_SEEDS, DISK_WORDS),
}
