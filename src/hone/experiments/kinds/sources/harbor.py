"""A directory of tasks in Harbor's layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hone.algorithms.config import Config
from hone.experiments.harbor import read_tasks
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.sources.files import shown


class HarborParams(Config):
    path: str
    """A task's directory, or one of such directories; from the experiment file's."""


class Harbor(Source[HarborParams]):
    """Makes a task of each, graded by its own tests. Its solution, if it has one, is the gold answer."""

    Params = HarborParams

    def read(self, home: Path) -> Iterator[RawRow]:
        for task in read_tasks(home / Path(self.params.path).expanduser()):
            content = {
                "task_id": task.name,
                "prompt": task.instruction,
                "answer": "" if task.solution is None else f"```bash\n{task.solution.rstrip()}\n```",
                "digest": task.digest,
                "metadata": dict(task.settings.get("metadata", {})),
            }
            verifier = {"kind": "harbor", "params": {"directory": str(task.directory.resolve())}}
            # Where the directory lies on this machine is no part of what the task is.
            yield RawRow(shown(task.directory, home), {**content, "verifier": verifier}, content)
