"""Nothing of a pass on a GPU meets a tensor of the host. No GPU is needed: tensors are fake, and know their device."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from hone.engine import lasting
from hone.engine.backends import graphs, grouped, kernels
from hone.engine.backends.decode import Decoding
from hone.engine.backends.gpu import GpuBackend
from hone.engine.backends.graphs import Bucket, call_again
from hone.engine.batch import cut, pack
from hone.engine.contract import ForwardBackward
from hone.engine.head import Head
from hone.engine.lora.state import AdapterState
from hone.engine.losses import LOSSES
from hone.engine.models.config import ModelConfig
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.models.weights import DenseMlp, LayerWeights, ModelWeights
from hone.engine.sampling.draw import draw_settings
from hone.protocol.types import LoraConfig, SamplingParams
from tests.unit.engine.material import random_datum

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="this torch knows no CUDA device")

CUDA = torch.device("cuda")
CONFIG = ModelConfig("qwen3", 512, 128, 2, 4, 2, 32, 256, 1024, 1e-6, 1e6, None, False, True)
TENANTS = (LoraConfig(4, 1), LoraConfig(8, 2, train_mlp=False))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU of the Hopper generation."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=1 << 36))
    monkeypatch.setattr(grouped, "_capability", lambda _: (9, 0))
    monkeypatch.setattr(kernels, "_present", lambda: False)
    monkeypatch.setattr(lasting, "zeros", lambda count, size: tuple(torch.zeros(count, size)))  # fake, too
    with FakeTensorMode():
        yield


def model(backend: GpuBackend) -> LoadedModel:
    def on(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device=CUDA, dtype=backend.dtype)

    def norm(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device=CUDA)

    mlp = DenseMlp(on(512, 128), on(128, 256))
    layer = LayerWeights(norm(128), on(256, 128), norm(6, 32), on(128, 128), norm(128), mlp)
    weights = ModelWeights(on(512, 128), (layer, layer), norm(128), on(512, 128))
    return LoadedModel(None, CONFIG, Decoder(CONFIG, weights, backend))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_training_pass(fake: None, dtype: torch.dtype) -> None:
    backend = GpuBackend(CUDA, dtype, record=call_again)
    decoder = model(backend).decoder
    states = {str(i): AdapterState(CONFIG, lora) for i, lora in enumerate(TENANTS)}
    rng = np.random.default_rng(0)
    data = tuple(random_datum(rng, n, "gspo") for n in (9, 30))
    pieces = [cut(ForwardBackward(name, data, "gspo", {}), 4096)[0] for name in states]
    for state in states.values():
        state.move(CUDA)
    batch = pack(pieces, CUDA)
    lora = backend.training_lora([(p.start, p.stop, states[p.piece.adapter]) for p in batch.pieces], True)
    with torch.no_grad():  # autograd itself would ask for a real GPU
        hidden = decoder.forward(batch.tokens_T, batch.positions_T, backend.packed(batch.lengths), lora)
        name, weight = "model.layers.0.qkv", decoder.weights.layers[0].qkv
        out, inner = lora.forward(name, hidden, weight)
        assert lora.backward(name, out, hidden, weight, inner).shape == hidden.shape
    dhidden = torch.empty_like(hidden)
    with torch.no_grad():
        for packed in batch.pieces:
            rows = slice(packed.start, packed.stop)
            head = Head(decoder.weights.head, lora.part(packed.start, packed.stop), 0.0, backend.head_room)
            logprobs = head.logprobs(hidden.detach()[rows], packed.targets)
            assert LOSSES["gspo"](logprobs, packed.inputs, packed.piece.settings).device.type == "cuda"
            head.backward(hidden.detach()[rows], packed.targets, logprobs, dhidden[rows])
    for state in states.values():
        assert state.gradient is not None
        assert state.gradient.device.type == "cuda"
        assert state.gradient.dtype == torch.float32


def test_a_decoding_step(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = GpuBackend(CUDA, torch.bfloat16)
    monkeypatch.setattr(backend, "recorder", lambda: call_again)
    monkeypatch.setattr(graphs, "pins", lambda _: False)
    states = [AdapterState(CONFIG, lora) for lora in TENANTS]
    versions = [None, *(backend.version(s.layout, s.weights) for s in states)]
    decoding = Decoding(backend, model(backend), backend.cache(2, 9, 2, 32), 4)
    decoding.hold([version for version in versions if version is not None])
    logits = decoding.step(Bucket(4, 512, True))
    assert logits.device.type == "cuda"
    assert logits.shape == (4, CONFIG.vocab_size)
    assert draw_settings([SamplingParams(temperature=0.0)]).to(CUDA).greedy_B1 is not None
