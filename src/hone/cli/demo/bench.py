"""What every stage of the demo works with."""

from dataclasses import dataclass
from pathlib import Path

import tinker

from hone.observe.progress import Display
from hone.paths import DataDirectory


@dataclass(frozen=True)
class Bench:
    client: tinker.ServiceClient
    base_model: str
    data_dir: Path
    display: Display
    quick: bool
    """Do a fraction of the work: shows that everything runs, reaches no good numbers."""

    def directory_of(self, checkpoint: str) -> str:
        """Where the server keeps what `tinker://<run>/<kind>/<name>` names: in `<name>@<number>`."""
        run_id, kind, name = checkpoint.removeprefix("tinker://").split("/")
        (directory,) = (DataDirectory(self.data_dir).checkpoints / run_id / kind).glob(f"{name}@*")
        return str(directory)
