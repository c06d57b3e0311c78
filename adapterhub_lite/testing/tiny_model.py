"""A tiny model built in code: no files, no network, the same weights every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from adapterhub_lite.base.describe import describe
from adapterhub_lite.base.foreign import NOTHING_FOREIGN
from adapterhub_lite.base.loading import Base, adopt
from adapterhub_lite.base.quantization import quantization_config
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError


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
    bare: bool = False
    """It lacks weight matrices and attention: a strategy may refuse it, and is only checked to do so cleanly."""
    for_task: bool = False
    """It is there for its task to be checked, and strategies, which are checked on models like it, are not."""

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
        foreign = getattr(self.plugin, "adapterhub_describe_model", NOTHING_FOREIGN.describe)
        if quantization == "nf4":
            _quantize_nf4(model, (foreign(model) or describe(model)).linears)
        elif quantization != "none":
            raise ConfigError(f"tiny models come with quantization 'none' or 'nf4', not '{quantization}'")
        return adopt(
            model, processor, reference=f"(tiny {self.name})", quantization=quantization, describe_foreign=foreign
        )


def _quantize_nf4(model: Any, linears: Sequence[str]) -> None:
    """Replace the weight matrices at these paths by NF4 ones, in place; one layer at a time.

    Raises:
        NotSupportedError: when bitsandbytes cannot be imported on this machine.
    """
    dtype = next(model.parameters()).dtype
    model.config.quantization_config = quantization_config("nf4", dtype)
    import bitsandbytes as bnb

    for path in linears:
        parent, _, name = path.rpartition(".")
        dense = model.get_submodule(path)
        # Conv1D keeps its matrix the other way round.
        weight = dense.weight.data if isinstance(dense, nn.Linear) else dense.weight.data.T  # (out, in)
        out_features, in_features = weight.shape
        layer = bnb.nn.Linear4bit(
            in_features, out_features, bias=dense.bias is not None, compute_dtype=dtype, quant_type="nf4"
        )
        layer.weight = bnb.nn.Params4bit(
            weight.contiguous(), requires_grad=False, quant_type="nf4", compress_statistics=True, module=layer
        )
        if dense.bias is not None:
            layer.bias = nn.Parameter(dense.bias.data, requires_grad=False)
        setattr(model.get_submodule(parent), name, layer.to(torch.device("cpu")))
    model.is_loaded_in_4bit = True  # what PEFT asks a model that transformers quantized
    model.is_quantized = True
