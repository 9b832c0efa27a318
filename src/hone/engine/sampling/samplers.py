"""The samplers of all base models, side by side, and what becomes of their requests when one of them fails."""

from collections.abc import Callable
from typing import Any

from hone.engine.contract import Sample
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.version import AdapterVersion


class Samplers:
    def __init__(
        self,
        make: Callable[[str], Sampler],
        reply: Callable[[int, Any], None],
        fail: Callable[[int, Exception], None],
    ) -> None:
        """`make` gives a base model's sampler, when it is first needed and after it failed."""
        self._make, self._reply, self._fail = make, reply, fail
        self._samplers: dict[str, Sampler] = {}
        self._under_way: dict[int, tuple[Sample, AdapterVersion | None]] = {}

    def __bool__(self) -> bool:
        return any(self._samplers.values())

    def add(self, ticket: int, operation: Sample, version: AdapterVersion | None) -> None:
        """Queue a request; `UserError` if it can never be served."""
        self._of(operation.base_model).add(ticket, operation, version)
        self._under_way[ticket] = operation, version

    def cancel(self, ticket: int) -> None:
        """Forget a request; fine if it is finished or unknown."""
        if found := self._under_way.pop(ticket, None):
            self._samplers[found[0].base_model].cancel(ticket)

    def step(self) -> None:
        """Advance everything by one token, and answer what that finished."""
        for base_model, sampler in list(self._samplers.items()):
            if not sampler:
                continue
            try:
                finished = sampler.step()
            except Exception as error:
                self._begin_again_apart(base_model, error)
                continue
            for ticket, part in sampler.take_parts():
                self._reply(ticket, part)
            for ticket, result in finished:
                del self._under_way[ticket]
                self._reply(ticket, result)

    def close(self) -> None:
        for base_model in list(self._samplers):
            self._discard(base_model)

    def _begin_again_apart(self, base_model: str, error: Exception) -> None:
        """A step that failed: each of its requests again, alone, so that only the one at fault fails. One whose tokens
        are sent as they come cannot begin again."""
        self._discard(base_model)
        failed = {ticket: one for ticket, one in self._under_way.items() if one[0].base_model == base_model}
        for ticket, (operation, version) in failed.items():
            del self._under_way[ticket]
            may_begin_again = len(failed) > 1 and not operation.parts
            why = self._alone(ticket, operation, version) if may_begin_again else error
            if why is not None:
                self._fail(ticket, why)

    def _alone(self, ticket: int, operation: Sample, version: AdapterVersion | None) -> Exception | None:
        """Answer one request; or why there is no answer."""
        sampler = self._of(operation.base_model)
        try:
            sampler.add(ticket, operation, version)
            while sampler:
                for _, result in sampler.step():
                    self._reply(ticket, result)
        except Exception as error:
            self._discard(operation.base_model)
            return error
        return None

    def _of(self, base_model: str) -> Sampler:
        if base_model not in self._samplers:
            self._samplers[base_model] = self._make(base_model)
        return self._samplers[base_model]

    def _discard(self, base_model: str) -> None:
        """What a failed step left in the cache is not known, so all of it goes."""
        self._samplers.pop(base_model).close()
