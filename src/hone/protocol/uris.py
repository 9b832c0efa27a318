"""The grammar of checkpoint paths: `tinker://<training run>/<kind>/<name>`, always exactly three segments.

URL libraries must not touch these: they read the `:train` of a run's id as a port.
"""

import re
from dataclasses import dataclass

from hone.errors import UserError

SCHEME = "tinker://"
KINDS = {"weights": "training", "sampler_weights": "sampler", "external_weights": "external"}
"""The middle segment of a path, and the checkpoint type that clients know it by."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@,~-]{0,199}")


@dataclass(frozen=True)
class CheckpointPath:
    run_id: str
    kind: str
    """a key of `KINDS`"""
    name: str

    @property
    def checkpoint_id(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def checkpoint_type(self) -> str:
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"{SCHEME}{self.run_id}/{self.kind}/{self.name}"


def parse_path(text: str) -> CheckpointPath:
    segments = text.removeprefix(SCHEME).split("/")
    if not text.startswith(SCHEME) or len(segments) != 3 or segments[1] not in KINDS or not all(segments):
        raise UserError(
            f"path {text!r} is not a checkpoint; expected {SCHEME}<training run>/<{'|'.join(KINDS)}>/<name>"
        )
    return CheckpointPath(*segments)


def check_name(name: str) -> str:
    """A checkpoint's name becomes a directory and a URL segment, so its characters are few."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"path {name!r} is not a checkpoint name; use one segment of at most 200 letters, digits and "
            ". _ + = @ , ~ - that starts with a letter, digit or _"
        )
    return name
