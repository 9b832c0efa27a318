"""Built-in plugins of the kind `algorithm`, by name: one file for each family. Adding one is a file and a line here.

All are told the same things in the same words (`params.py`), and none knows what service it trains on.
"""

from typing import Any

from hone.experiments.kinds.algorithms.distillation import DistillOffPolicy, DistillOnPolicy, PromptDistill
from hone.experiments.kinds.algorithms.grpo import Grpo
from hone.experiments.kinds.algorithms.preference import Dpo, Ipo, Kto, Orpo, Simpo
from hone.experiments.kinds.algorithms.sequence import SequenceOfMethods
from hone.experiments.kinds.algorithms.sft import Sft
from hone.experiments.kinds.contract import Algorithm

ALGORITHMS: dict[str, type[Algorithm[Any]]] = {
    "distill_off_policy": DistillOffPolicy,
    "distill_on_policy": DistillOnPolicy,
    "dpo": Dpo,
    "grpo": Grpo,
    "ipo": Ipo,
    "kto": Kto,
    "orpo": Orpo,
    "prompt_distill": PromptDistill,
    "sequence": SequenceOfMethods,
    "sft": Sft,
    "simpo": Simpo,
}
