"""Every task the model is trained on, by name.

One file is one family; each exposes `TASKS`, a dict from task name to task. Adding a family is one file and one line.

    from training.tiny.tasks import TASKS
    problem = TASKS["subtract_two_digit"].sample(random.Random(0), "held_out")  # never trained on
"""

from training.tiny.problem import Task
from training.tiny.tasks import (
    arithmetic,
    chat,
    copying,
    dialogue,
    formats,
    knowledge,
    lists,
    scenes,
    sentiment,
    sorting,
    system,
    thinking,
    tools,
    word_problems,
)

FAMILIES: dict[str, dict[str, Task]] = {
    "arithmetic": arithmetic.TASKS,
    "word_problems": word_problems.TASKS,
    "copying": copying.TASKS,
    "lists": lists.TASKS,
    "sorting": sorting.TASKS,
    "scenes": scenes.TASKS,
    "sentiment": sentiment.TASKS,
    "formats": formats.TASKS,
    "knowledge": knowledge.TASKS,
    "chat": chat.TASKS,
    "dialogue": dialogue.TASKS,
    "system": system.TASKS,
    "tools": tools.TASKS,
    "thinking": thinking.TASKS,
}
TASKS: dict[str, Task] = {name: task for family in FAMILIES.values() for name, task in family.items()}
assert len(TASKS) == sum(map(len, FAMILIES.values())), "two families use the same task name"
