"""Which device and which floating-point type to compute in."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

from adapterhub_lite.cache import remembered
from adapterhub_lite.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# bf16 must be clearly faster before its 8 bits of precision are worth it.
BF16_WORTH_IT = 1.2


def choose_device(name: str = "auto") -> torch.device:
    """Resolve a device name; "auto" takes the accelerator where there is one.

    Raises:
        ConfigError: when the device does not exist here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device '{name}' cannot be used here: {str(error).splitlines()[0]}; try --device cpu"
        ) from None
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve a dtype name; "auto" takes bf16 where the device is good at it, else fp32.

    A CPU is asked by a timing of some 50 ms, because bf16 is twice as fast as fp32 on one and many times slower on
    another; the answer is remembered for the machine, so that two runs compute alike.

    Raises:
        ConfigError: for an unknown name.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise ConfigError(f"there is no dtype '{name}'; choose auto, {', '.join(DTYPES)}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    return torch.bfloat16 if _cpu_likes_bf16() else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """The name users and files give a dtype: "bfloat16", not "torch.bfloat16"."""
    return str(dtype).removeprefix("torch.")


def _cpu_likes_bf16() -> bool:
    def faster() -> str:
        return "bfloat16" if _seconds(torch.float32) / _seconds(torch.bfloat16) > BF16_WORTH_IT else "float32"

    machine = f"{platform.node()}|{_cpu_model()}|{torch.__version__}"
    return remembered("dtype", machine, "bfloat16|float32", faster) == "bfloat16"


def _seconds(dtype: torch.dtype) -> float:
    """Shortest of several products of the size of a small model's layer."""
    left = torch.ones(256, 512, dtype=dtype)
    right = torch.ones(512, 1024, dtype=dtype)
    best = float("inf")
    deadline = time.perf_counter() + 0.025
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return best


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line
    except OSError:
        pass
    return platform.processor() or platform.machine()
