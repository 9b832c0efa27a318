"""How long the random tests look: TEST_EFFORT multiplies the number of their examples."""

import os
from datetime import timedelta

from hypothesis import HealthCheck, Phase, settings

EFFORT = int(os.environ.get("TEST_EFFORT", "1"))


def effort(examples: int, steps: int = 50, shrink: bool = True) -> settings:
    """Examples take as long as they take: most start a service. Without `shrink` a failure is shown as it was found."""
    return settings(
        max_examples=examples * EFFORT,
        stateful_step_count=steps,
        deadline=timedelta(seconds=60),
        suppress_health_check=list(HealthCheck),
        derandomize=EFFORT == 1,
        database=None,
        phases=list(Phase) if shrink else [Phase.explicit, Phase.generate],
    )
