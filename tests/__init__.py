"""The tests, and how long Hypothesis looks: HYPOTHESIS_PROFILE is ``quick``, or ``long`` as in .ci/full."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("quick", deadline=None)
settings.register_profile(
    "long", deadline=None, max_examples=2000, stateful_step_count=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
