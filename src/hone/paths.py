"""Where things live on disk. Everything is under one data directory, and paths in the database are relative to it."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from hone.errors import UserError


def default_data_dir() -> Path:
    share = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(share) / "hone"


@dataclass(frozen=True)
class DataDirectory:
    root: Path

    @property
    def database(self) -> Path:
        return self.root / "hone.sqlite"

    @property
    def api_key(self) -> Path:
        return self.root / "api_key"

    @property
    def token_secret(self) -> Path:
        """What short-lived credentials and links to files are signed with."""
        return self.root / "token_secret"

    @property
    def lock(self) -> Path:
        """Held by the one server that uses the directory."""
        return self.root / "lock"

    @property
    def engine_lock(self) -> Path:
        """Held by that server and by its engine, which outlives a killed server for as long as its last writes take."""
        return self.root / "engine.lock"

    @property
    def snapshots(self) -> Path:
        """The newest state of every live model, for recovery."""
        return self.root / "snapshots"

    @property
    def checkpoints(self) -> Path:
        """What users saved."""
        return self.root / "checkpoints"

    def resolve(self, relative: str) -> Path:
        return self.root / relative

    def make(self) -> None:
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds a key and people's data
            self.snapshots.mkdir(exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the data directory {self.root} cannot be used: {error.strerror}; choose another with --data-dir"
            ) from None


def is_in_use(data: DataDirectory) -> bool:
    """Whether a running server holds the directory's lock; the lock of a killed one is free."""
    try:
        with data.lock.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
