"""Built-in plugins of the kind `verifier`, by name: one file each. Adding one is a file and a line here.

They are the graders of `hone.algorithms.graders`, with parameters that an experiment file can give.
"""

from typing import Any

from hone.experiments.kinds.contract import Verifier
from hone.experiments.kinds.verifiers.code import Code
from hone.experiments.kinds.verifiers.composite import Composite
from hone.experiments.kinds.verifiers.contains import Contains
from hone.experiments.kinds.verifiers.exact import Exact
from hone.experiments.kinds.verifiers.harbor import Harbor
from hone.experiments.kinds.verifiers.json_schema import JsonSchema
from hone.experiments.kinds.verifiers.judge import PairwiseJudge
from hone.experiments.kinds.verifiers.maths import Maths
from hone.experiments.kinds.verifiers.numeric import Numeric
from hone.experiments.kinds.verifiers.regex import Regex
from hone.experiments.kinds.verifiers.rubric import Rubric

VERIFIERS: dict[str, type[Verifier[Any]]] = {
    "exact": Exact,
    "contains": Contains,
    "regex": Regex,
    "numeric": Numeric,
    "maths": Maths,
    "code": Code,
    "json_schema": JsonSchema,
    "rubric": Rubric,
    "judge": PairwiseJudge,
    "composite": Composite,
    "harbor": Harbor,
}
