"""Built-in plugins of the kind `store`, by name: one file each. Adding one is a file and a line here.

The run directory itself, with its JSON lines, is always written and is no store.
"""

from typing import Any

from hone.experiments.kinds.contract import Store
from hone.experiments.kinds.stores.mlflow import Mlflow
from hone.experiments.kinds.stores.tensorboard import TensorBoard
from hone.experiments.kinds.stores.trackio import Trackio
from hone.experiments.kinds.stores.wandb import Wandb

STORES: dict[str, type[Store[Any]]] = {
    "mlflow": Mlflow,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
}
