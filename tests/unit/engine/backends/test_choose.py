"""What the settings for devices give, and what they are told."""

import pytest
import torch

from hone.engine.backends.choose import choose_backend
from hone.engine.backends.cpu import CPU
from hone.engine.backends.gpu import GpuBackend
from hone.errors import UserError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")


@without_gpu
def test_a_machine_without_a_gpu_keeps_its_bits() -> None:
    for device in ("auto", "cpu"):
        assert choose_backend(device) is choose_backend(device, "float32", invariant=True) is CPU


def test_bfloat16_on_a_cpu() -> None:
    backend = choose_backend("cpu", "bfloat16")
    assert isinstance(backend, GpuBackend)
    assert (backend.device.type, backend.dtype, backend.records) == ("cpu", torch.bfloat16, False)


@without_gpu
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(UserError, match="finds no GPU"):
        choose_backend("cuda")


def test_the_invariant_mode_needs_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match="needs Triton"):
        choose_backend("cpu", "bfloat16", invariant=True)


def test_a_number_that_no_gpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=r"'cuda:2'; this machine has 2 GPUs, from cuda:0 on"):
        choose_backend("cuda:2")
