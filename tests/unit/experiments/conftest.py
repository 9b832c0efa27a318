from tests.support.experiment_kinds import kinds

__all__ = ["kinds"]
