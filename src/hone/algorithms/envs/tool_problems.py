"""Questions that are hard without a tool and easy with it."""

from __future__ import annotations

import random

from hone.algorithms.envs.calculator import Calculator, calculate
from hone.algorithms.envs.python_tool import Python
from hone.algorithms.envs.search import Bm25, Document, Search
from hone.algorithms.envs.tools import ToolEnv
from hone.algorithms.graders.exact import Exact
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.numeric import Numeric

TOWNS = "Aldbury Brennfeld Corvale Dunmere Eastholm Farrow Glimmer Harwick Ilmsted Jorvale Kestrel Larkham".split()
MUSEUMS = "clocks kites bells maps shells trains dolls lamps boats coins masks stamps".split()
NAMES = "Ada Bruno Clara Dario Edith Felix Greta Hugo Ines Jonas Kira Leon".split()
SURNAMES = "Abel Brand Castell Dorn Engel Frost Grau Hale Irving Jost Kern Lindt".split()


def calculator_env(seed: int) -> ToolEnv:
    rng = random.Random(f"calculator/{seed}")
    a, b, c = rng.randint(100, 9999), rng.randint(100, 9999), rng.randint(100, 9999)
    expression = rng.choice(("{a} * {b} + {c}", "({a} + {b}) * {c}", "{a} * {b} - {c}")).format(a=a, b=b, c=c)
    task = Task(f"What is {expression}?", str(calculate(expression)))
    return ToolEnv(
        task,
        Numeric(tolerance=0.0),
        [Calculator()],
        gold_calls=[("calculator", {"expression": expression})],
        guess=lambda rng: str(rng.randrange(10**8)),
    )


def search_env(seed: int) -> ToolEnv:
    """Two steps: which town has the museum, and who is the mayor of that town. Every seed is another country."""
    rng = random.Random(f"search/{seed}")
    museums, names, surnames = (rng.sample(words, len(TOWNS)) for words in (MUSEUMS, NAMES, SURNAMES))
    mayors = [f"{name} {surname}" for name, surname in zip(names, surnames, strict=True)]
    documents = [
        Document(f"Museum of {museum}", f"It stands in {town}.") for museum, town in zip(museums, TOWNS, strict=True)
    ]
    documents += [Document(town, f"The mayor of {town} is {mayor}.") for town, mayor in zip(TOWNS, mayors, strict=True)]
    chosen = rng.randrange(len(TOWNS))
    question = f"Who is the mayor of the town with the museum of {museums[chosen]}? Answer with the name only."
    return ToolEnv(
        Task(question, mayors[chosen]),
        Exact(),
        [Search(Bm25(documents))],
        gold_calls=[
            ("search", {"query": f"museum of {museums[chosen]}"}),
            ("search", {"query": f"mayor {TOWNS[chosen]}"}),
        ],
        guess=lambda rng: f"{rng.choice(NAMES)} {rng.choice(SURNAMES)}",
    )


def python_env(seed: int) -> ToolEnv:
    rng = random.Random(f"python/{seed}")
    base, exponent = rng.randint(2, 9), rng.randint(100, 300)
    task = Task(f"What is the sum of the digits of {base} ** {exponent}?", str(sum(map(int, str(base**exponent)))))
    return ToolEnv(
        task,
        Numeric(tolerance=0.0),
        [Python()],
        gold_calls=[("python", {"code": f"print(sum(map(int, str({base} ** {exponent}))))"})],
        guess=lambda rng: str(rng.randrange(200, 1200)),
    )
