"""How much of the device each project gets beside the others."""

from collections.abc import Mapping
from dataclasses import dataclass

from hone.engine.contract import Share
from hone.server.access import Access
from hone.server.auth import Keys


@dataclass(frozen=True)
class Shares:
    access: Access
    keys: Keys
    weights: Mapping[str, float]
    """Of projects, where not 1."""
    priorities: Mapping[str, int]
    """Of projects, where not 0."""

    async def of_session(self, session_id: str) -> Share:
        return self._of(await self.access.project_of(session_id))

    async def of_key(self, key_id: int) -> Share:
        """For work without a session."""
        caller = await self.keys.by_id(key_id)
        return self._of(None if caller is None else caller.key.project_id)

    def _of(self, project: str | None) -> Share:
        """What is left of a project that is gone stands under an empty name."""
        name = project or ""
        return Share(name, self.weights.get(name, 1.0), self.priorities.get(name, 0))
