"""What commands print with `--json` beside the models of the experiment layer."""

from __future__ import annotations

from hone.algorithms.config import Config
from hone.experiments.check import CheckReport
from hone.experiments.conclusion import Conclusion
from hone.experiments.config import BudgetConfig


class Plan(Config):
    """What a run would do, or why it does not begin."""

    directory: str | None
    """Where results would go; null where the file cannot be loaded."""
    budget: BudgetConfig
    """As the file and `--set` say."""
    check: CheckReport
    """As `hone check` prints it."""


class Concluded(Conclusion):
    """The verdict, and the page that shows it."""

    report: str | None
    """Its path; null where the file wants none."""
