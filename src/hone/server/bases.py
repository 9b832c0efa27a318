"""Which base models a checkpoint can be used with."""

from collections.abc import Mapping

from hone.engine.contract import BaseModel
from hone.errors import UserError
from hone.server.store import Checkpoint


def check_base(checkpoint: Checkpoint, wanted: str, models: Mapping[str, BaseModel]) -> None:
    """Raise unless `wanted` has the weights that the checkpoint was trained on, under whatever name.

    Other weights of the same shape would take the adapter without a word, and give nonsense. A base model that is no
    longer served under its old name cannot be compared: whoever names another one then is taken at their word.
    """
    trained_on = models.get(checkpoint.base_model)
    if trained_on is not None and wanted in models and models[wanted].directory != trained_on.directory:
        raise UserError(
            f"{checkpoint.path}: this checkpoint belongs to {checkpoint.base_model}, not to {wanted}; "
            "leave the base model out"
        )
