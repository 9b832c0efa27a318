"""Which backend an engine computes with, by the settings HONE_DEVICE, HONE_DTYPE and HONE_INVARIANT."""

import torch

from hone.engine.backends.backend import Backend
from hone.engine.backends.cpu import CPU
from hone.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_backend(device: str = "cpu", dtype: str = "auto", invariant: bool = False) -> Backend:
    """`device` is auto, cpu, cuda or cuda:N; `dtype` auto, float32 or bfloat16. `UserError` for what is not here."""
    found = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if found else "cpu"
    if device.startswith("cuda") and not found:
        raise UserError(
            f"HONE_DEVICE is {device!r}, and torch {torch.__version__} finds no GPU; "
            "install a build of torch for CUDA, check the driver, or use cpu"
        )
    if found and device.startswith("cuda:") and int(device.removeprefix("cuda:")) >= torch.cuda.device_count():
        raise UserError(f"HONE_DEVICE is {device!r}; this machine has {torch.cuda.device_count()} GPUs, from cuda:0 on")
    if dtype == "auto":
        dtype = "bfloat16" if device != "cpu" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device == "cpu" and dtype == "float32":
        return CPU  # which is invariant as it is
    from hone.engine.backends.gpu import GpuBackend
    from hone.engine.backends.kernels import kernels_serve

    where = torch.device(device)
    if invariant and not kernels_serve(torch.empty(0, device=where)):
        raise UserError(
            "HONE_INVARIANT needs Triton's kernels on a GPU (pip install triton), or HONE_DTYPE=float32 on a CPU, "
            "where trainer and sampler always agree"
        )
    backend = GpuBackend(where, DTYPES[dtype], invariant)
    if backend.device.type == "cuda":
        torch.cuda.set_device(backend.device)  # where kernels run unless told otherwise
    return backend
