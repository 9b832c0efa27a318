"""The benchmarks that are built in, one file each. Adding one is a file and a line here."""

from hone.algorithms.evals.benchmark import Source
from hone.algorithms.evals.benchmarks.aime import AIME
from hone.algorithms.evals.benchmarks.bbh import BBH
from hone.algorithms.evals.benchmarks.gsm8k import GSM8K
from hone.algorithms.evals.benchmarks.humaneval import HUMANEVAL
from hone.algorithms.evals.benchmarks.ifeval import IFEVAL
from hone.algorithms.evals.benchmarks.math500 import MATH500
from hone.algorithms.evals.benchmarks.mbpp import MBPP
from hone.algorithms.evals.benchmarks.mmlu import MMLU

BENCHMARKS: dict[str, Source] = {
    "gsm8k": GSM8K,
    "math500": MATH500,
    "aime": AIME,
    "humaneval": HUMANEVAL,
    "mbpp": MBPP,
    "ifeval": IFEVAL,
    "mmlu": MMLU,
    "bbh": BBH,
}
