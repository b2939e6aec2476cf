"""A coverage-guided search for bytes of a guest that the host reads otherwise than it must.

    make fuzz                                                  ten minutes for each target
    python tests/fuzz/fuzz_guest.py --seconds 60 frames tar
    python tests/fuzz/fuzz_guest.py --again crash-0123... tar   one input again

What the gateway reads is apart, in fuzz_gateway.py. Needs the extra `fuzz` (atheris). The targets and what they ask are
in guest_targets.py, and how a search goes in searching.py. With --keep, some of what a search has found goes into
corpus/, which the fast tests replay.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from searching import main

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "support")]

with atheris.instrument_imports(include=["vmm", "engine"]):
    from guest_targets import TARGETS

if __name__ == "__main__":
    sys.exit(main(TARGETS, __file__, __doc__))
