"""One file for each kind of operation that a model's lane can hold; all of them have the shape of `handler.Handler`."""

from hone.server.operations.create_by_load import CreateByLoad
from hone.server.operations.create_model import CreateModel
from hone.server.operations.forward_backward import ForwardBackward
from hone.server.operations.handler import Concluded, Context, Handler
from hone.server.operations.load_weights import LoadWeights
from hone.server.operations.optim_step import OptimStep
from hone.server.operations.refused import REFUSED, Refused
from hone.server.operations.save_weights import SaveWeights
from hone.server.operations.save_weights_external import SaveWeightsExternal
from hone.server.operations.save_weights_for_sampler import SaveWeightsForSampler

HANDLERS: dict[str, Handler] = {
    "create_model": CreateModel(),
    "create_by_load": CreateByLoad(),
    "forward_backward": ForwardBackward(),
    "optim_step": OptimStep(),
    "save_weights": SaveWeights(),
    "save_weights_for_sampler": SaveWeightsForSampler(),
    "save_weights_external": SaveWeightsExternal(),
    "load_weights": LoadWeights(),
    REFUSED: Refused(),
}

__all__ = ["HANDLERS", "Concluded", "Context", "Handler"]
