"""A coverage-guided search for bytes that the gateway reads otherwise than it must.

    make fuzz                                                  ten minutes for each target
    python tests/fuzz/fuzz_gateway.py --seconds 60 hello h2
    python tests/fuzz/fuzz_gateway.py --again crash-0123... h2  one input again

Needs the extra `fuzz` (atheris). The targets and what they ask are in gateway_targets.py, and how a search goes in
searching.py. With --keep, some of what a search has found goes into corpus/, which the fast tests replay.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from searching import main

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "support")]

with atheris.instrument_imports(include=["engine.gateway", "h2", "hpack", "hyperframe", "h11"]):
    from gateway_targets import TARGETS

if __name__ == "__main__":
    sys.exit(main(TARGETS, __file__, __doc__))
