"""The bill against the tokens that the real engine processed, cached ones apart."""

from datetime import UTC, datetime, timedelta

import tinker
from tinker import types

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo
from tests.contract.material import STEP, Material, datum


def test_the_bill_agrees_to_the_token_cached_prefill_included(
    server: ServerInfo, base_model: str, material: Material
) -> None:
    with service_client(server.url, server.api_key) as client:
        training = client.create_lora_training_client(base_model, rank=4).result()
        data = [datum(material.sequence(1)), datum(material.sequence(2))]
        training.forward_backward(data, "cross_entropy").result()
        training.optim_step(STEP).result()
        trained = sum(one.model_input.length for one in data)
        sampler = training.save_weights_and_get_sampling_client().result()
        prompt = types.ModelInput.from_ints(material.question(3) * 8)
        drawn = cached = 0
        for _ in range(3):
            answer = sampler.sample(prompt, 2, types.SamplingParams(max_tokens=5)).result()
            drawn += sum(len(sequence.tokens) for sequence in answer.sequences)
            cached += answer.prompt_cache_hit_tokens or 0
        assert cached > prompt.length, "the second and the third request find most of the prompt"
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        window = ((hour - timedelta(hours=1)).isoformat(), (hour + timedelta(hours=2)).isoformat())
        bill = tinker.AdminClient(base_url=server.url, api_key=server.api_key).get_billing_usage(*window).result()
        session_id = training.model_id.split(":")[0]
        found: dict[str, int] = {}
        for event in bill.data:
            if event.session_id == session_id and hasattr(event.event_info, "token_count"):
                info = event.event_info
                name = f"{info.type}{' cached' if getattr(info, 'cached', False) else ''}"
                found[name] = found.get(name, 0) + info.token_count
        wanted = {
            "training": trained,
            "sampling_prefill": 3 * prompt.length - cached,
            "sampling_prefill cached": cached,
            "sampling_sample": drawn,
        }
        assert found == wanted
