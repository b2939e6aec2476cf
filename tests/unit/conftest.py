"""How many examples the property tests try: few in the default run; HYPOTHESIS_PROFILE=thorough for many."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Neither deadlines nor a verdict on slowness: on a busy machine an example takes as long as it takes.
settings.register_profile("fast", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("fast"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
