"""W x + s B A x as one function of autograd in the base's dtype, which keeps x and A x and nothing else.

PEFT's layers convert the input of every layer to the fp32 of the factors, and keep that copy for the backward pass. Here
the factors are converted instead, and stay fp32 where the optimizer sees them. What is not the plain case goes PEFT's way:
dropout, DoRA, several adapters, autocast, and base layers that train, are watched by hooks, or compute something of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig, tuners
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor

from adapterhub_lite.api import ModelView, dense_weight, is_quantized
from adapterhub_lora.layers import ADAPTER, is_transposed

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def use_fused(view: ModelView, paths: Iterable[str], config: PeftLoraConfig) -> None:
    """Let PEFT wrap layers in its own layers for them, with the function of this module for the plain case."""
    kinds = {type(module) for module in map(view.module, paths) if _is_known(module)}
    # PEFT takes the first that fits, and quantized layers are linear ones too.
    for kind in sorted(kinds, key=lambda kind: kind is nn.Linear):
        own = kind.__name__ if kind.__name__ in ("Linear4bit", "Linear8bitLt") else "Linear"
        config._register_custom_module({kind: _fused(getattr(tuners.lora, own))})


@cache
def _fused(kind: type[Any]) -> type[nn.Module]:
    """PEFT's layer of a kind, which computes the plain case in one function."""

    class Fused(kind):  # type: ignore[misc]
        def __init__(self, base_layer: nn.Module, adapter_name: str, config: PeftLoraConfig, **options: Any):
            transposed = is_transposed(base_layer)
            config.fan_in_fan_out = transposed
            if transposed:
                options["is_target_conv_1d_layer"] = True
            super().__init__(base_layer, adapter_name, config=config, **options)

        def forward(self, x: Tensor, *args: Any, **options: Any) -> Any:
            if args or options or not _is_plain(self, x):
                return super().forward(x, *args, **options)
            a, b = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
            return _Update.apply(x, a, b, self.base_layer, self.scaling[ADAPTER])  # type: ignore[no-untyped-call]

    return Fused


def _is_known(base: nn.Module) -> bool:
    """Whether a layer computes W x + bias and nothing else, so that its gradient is known."""
    return type(base) is nn.Linear or is_transposed(base) or is_quantized(base)


def _is_plain(layer: Any, x: Tensor) -> bool:
    base = layer.base_layer
    return (
        _is_known(base)
        and layer.active_adapters == [ADAPTER]
        and ADAPTER in layer.lora_A
        and ADAPTER not in layer.lora_variant
        and not (layer.disable_adapters or layer.merged)
        and not (layer.training and isinstance(layer.lora_dropout[ADAPTER], nn.Dropout))
        and not (any(getattr(base, hooks) for hooks in HOOKS) or "forward" in vars(base))
        and not any(weights.requires_grad or isinstance(weights, DTensor) for weights in base.parameters())
        and not torch.is_autocast_enabled(x.device.type)
    )


class _Update(torch.autograd.Function):
    """Forward: y = W x + bias + s B A x. Backward: with g for y, s B^T g goes through A; W^T g is added for x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, base: nn.Module, scale: float) -> Tensor:
        """Output of a layer with its update.

        Args:
            ctx: Keeps x and A x.
            x: (..., in_features)
            a: (rank, in_features)
            b: (out_features, rank)
            base: The layer of the base, which has no gradient.
            scale: s
        """
        ctx.set_materialize_grads(False)  # where no gradient comes, none goes on, and this is noticed
        y: Tensor = base(x)
        a, b = a.to(y.dtype), b.to(y.dtype)
        rows = x.reshape(-1, x.shape[-1])  # (n, in_features)
        inner = rows.to(y.dtype) @ a.T  # (n, rank)
        outputs = y.view(-1, y.shape[-1]).addmm_(inner, b.T, alpha=scale)  # (n, out_features)
        ctx.save_for_backward(rows, inner)
        # Kept apart from what hooks may move to another memory and back.
        ctx.factors, ctx.base, ctx.scale, ctx.shape = (a, b), base, scale, x.shape
        # No view, which models that scale what they get in place, as Longformer does, could not write to.
        return torch.ops.aten._unsafe_view(outputs, y.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 5
        rows, inner = ctx.saved_tensors
        a, b = ctx.factors
        gradient = gradient.reshape(-1, gradient.shape[-1])  # (n, out_features)
        of_inner = (gradient @ b).mul_(ctx.scale)  # (n, rank)
        of_a = (of_inner.T @ rows.to(of_inner.dtype)).float()
        of_b = (gradient.T @ inner).float().mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            weight = dense_weight(ctx.base).to(gradient.dtype)
            weight = weight.T if is_transposed(ctx.base) else weight  # (out_features, in_features)
            of_x = (gradient @ weight).addmm_(of_inner, a).to(rows.dtype).view(ctx.shape)
        return of_x, of_a, of_b, None, None
