"""The kinds of inference against the embedded model: its three protocols say the same."""

import asyncio

import pytest

from hone.client.embedded import ServerInfo
from hone.errors import UserError
from hone.experiments.kinds import plugins
from tests.contract.conftest import TURN


@pytest.fixture
def kinds(server: ServerInfo, base_model: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    monkeypatch.setenv("SERVED_KEY", server.api_key)
    given = {"model": base_model, "api_key_env": "SERVED_KEY"}
    return {
        "tinker": given | {"base_url": server.url},
        "openai": given | {"base_url": f"{server.url}/oai/api/v1"},
        "anthropic": given | {"base_url": f"{server.url}/anthropic/api"},
    }


def test_all_kinds_give_the_likeliest_answer(kinds: dict[str, dict[str, str]]) -> None:
    answers = {
        kind: asyncio.run(plugins.inference.make(kind, params).generate(TURN, max_tokens=20, temperature=0.0, seed=1))
        for kind, params in kinds.items()
    }
    assert answers["tinker"].strip()
    assert len({text.strip() for text in answers.values()}) == 1


def test_a_seed_decides_and_many_may_ask_at_once(kinds: dict[str, dict[str, str]]) -> None:
    model = plugins.inference.make("tinker", kinds["tinker"])

    async def ask() -> list[str]:
        seeds = [1, 1, 2, 3, 4]
        asked = (model.generate(TURN, max_tokens=20, temperature=1.0, seed=seed) for seed in seeds)
        return list(await asyncio.gather(*asked))

    answers = asyncio.run(ask())
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1
    assert asyncio.run(ask()) == answers


def test_a_model_that_is_not_served_is_an_error(kinds: dict[str, dict[str, str]]) -> None:
    for kind, params in kinds.items():
        with pytest.raises(UserError, match="no/such"):
            asyncio.run(
                plugins.inference.make(kind, params | {"model": "no/such"}).generate(
                    TURN, max_tokens=5, temperature=0.0, seed=1
                )
            )
