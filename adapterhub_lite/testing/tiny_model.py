"""A tiny model built in code: no files, no network, the same weights every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from adapterhub_lite.base.describe import describe
from adapterhub_lite.base.loading import NONE, Base, adopt
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.testing.quantize import quantize_nf4


@dataclass(frozen=True)
class TinyModel:
    """A model the checks run on, with a problem it can learn. Authors may add their own, a plug-in through a hook."""

    name: str
    summary: str
    build: Callable[[], tuple[Any, Any]]
    """Returns the model and its tokenizer or image processor, drawing weights from torch's global generator."""
    problem: Callable[[], Dataset]
    plugin: ModuleType | None = None
    """The plug-in that provides the task of its problem and describes the model, where the core does not."""

    def base(self, *, quantization: str = "none", dtype: torch.dtype = torch.float32, seed: int = 0) -> Base:
        """Build it as a fresh base on the CPU.

        Args:
            quantization: "none" or "nf4".
            dtype: What it computes in.
            seed: Of its weights.

        Raises:
            NotSupportedError: "nf4" where bitsandbytes cannot be imported.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, processor = self.build()
        model = model.to(dtype)
        foreign = getattr(self.plugin, "adapterhub_describe_model", NONE.describe)
        if quantization == "nf4":
            quantize_nf4(model, (foreign(model) or describe(model)).linears)
        elif quantization != "none":
            raise ConfigError(f"tiny models come with quantization 'none' or 'nf4', not '{quantization}'")
        return adopt(
            model, processor, reference=f"(tiny {self.name})", quantization=quantization, describe_foreign=foreign
        )
