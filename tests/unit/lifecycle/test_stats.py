"""Reading a guest's counters, and what was used between two readings."""

from __future__ import annotations

import pytest

from engine.cli.commands.stats import table, to_json
from engine.errors import EngineError
from engine.lifecycle.stats import Measured, read_counters, usage_between

ANSWER = """\
8.04 11.80
cpu  {busy} 0 100 {idle} {wait} 0 0 0 0 0
cpu0 50 0 50 400 25 0 0 0 0 0
cpu1 50 0 50 400 25 0 0 0 0 0
intr 1 2 3
MemTotal:        2000000 kB
MemFree:          100000 kB
MemAvailable:    1500000 kB
Inter-|   Receive                                                |  Transmit
    lo:  999      10    0    0    0     0          0         0      999      10    0    0    0     0       0          0
  eth0: 5000      10    0    0    0     0          0         0      700      10    0    0    0     0       0          0
docker0: 77       10    0    0    0     0          0         0       77      10    0    0    0     0       0          0
Filesystem     1024-blocks    Used Available Capacity Mounted on
/dev/vda          20000000 3000000  17000000      15% /
"""


def test_what_was_used_between_two_readings() -> None:
    first = read_counters(ANSWER.format(busy=100, idle=800, wait=50))
    usage = usage_between(first, read_counters(ANSWER.format(busy=150, idle=830, wait=70)))
    assert usage.cpu == 100.0 and usage.processors == 2, "one of two processors was busy"
    assert (usage.memory, usage.memory_used) == (2_000_000 * 1024, 500_000 * 1024)
    assert (usage.disk, usage.disk_used) == (20_000_000 * 1024, 3_000_000 * 1024)
    assert (usage.received, usage.sent) == (5000, 700), "containers' own interfaces count nothing twice"
    assert usage_between(first, first).cpu == 0.0


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("cpu0 50", "?"),
        ("MemAvailable", "?"),
        ("% /\n", "% /home\n"),
        ("cpu  100 0", "cpu  -1 x"),
        (" 2000000 kB", " 9" * 30),
    ],
)
def test_an_answer_that_makes_no_sense(there: str, instead: str) -> None:
    text = ANSWER.format(busy=100, idle=800, wait=50).replace("cpu1 ", "?")
    assert read_counters(text).processors == 1 and there in text
    with pytest.raises(EngineError, match="not to be understood"):
        read_counters(text.replace(there, instead))


def test_a_weight_of_its_own_is_shown() -> None:
    usage = usage_between(first := read_counters(ANSWER.format(busy=100, idle=800, wait=50)), first)
    rows = [Measured("one", usage, None, 50), Measured("two", usage), Measured("three", None, "no answer", 50)]
    assert [to_json(row)["cpu_weight"] for row in rows] == [50, 100, 50]
    lines = table(rows).splitlines()
    assert "0.0% of 200%, weight 50" in lines[1] and "weight" not in lines[2]
