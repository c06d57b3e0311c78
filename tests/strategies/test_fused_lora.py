"""The one function of a LoRA layer against PEFT's own forward and backward pass of the same layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from adapterhub_lite.base.quantization import make_trainable
from adapterhub_lite.base.view import ModelView
from adapterhub_lora.fused import _Update, use_fused

INPUTS, OUTPUTS, ROWS = 128, 64, 24


def quantized(kind: str, dtype: torch.dtype) -> nn.Module:
    import bitsandbytes as bnb

    dense = nn.Linear(INPUTS, OUTPUTS).to(dtype)
    if kind == "int8":
        layer: nn.Module = bnb.nn.Linear8bitLt(INPUTS, OUTPUTS, has_fp16_weights=False)
    else:
        layer = bnb.nn.Linear4bit(INPUTS, OUTPUTS, compute_dtype=dtype, quant_type=kind)
    layer.load_state_dict(dense.state_dict())
    return layer.to("cpu")


def layer_of(kind: str, dtype: torch.dtype) -> nn.Module:
    if kind == "linear":
        return nn.Linear(INPUTS, OUTPUTS).to(dtype)
    return Conv1D(OUTPUTS, INPUTS).to(dtype) if kind == "Conv1D" else quantized(kind, dtype)


def wrapped(kind: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A layer of the base in the wrapper that LoRA gives it, its factors not zero."""
    torch.manual_seed(0)
    model = nn.Sequential(layer_of(kind, dtype)).requires_grad_(False)
    make_trainable(model)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["0"], **options)
    use_fused(_View(model), ["0"], config)  # type: ignore[arg-type]
    model.loaded_in_4bit, model.loaded_in_8bit = kind in ("nf4", "fp4"), kind == "int8"
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = model.loaded_in_4bit, model.loaded_in_8bit
    inject_adapter_in_model(config, model)
    layer: Any = model[0]
    for factor in (layer.lora_A["default"], layer.lora_B["default"]):
        factor.weight.data = torch.randn_like(factor.weight, dtype=torch.float32) / 8
    return layer


class _View:
    def __init__(self, model: nn.Module):
        self.model = model

    def module(self, path: str) -> nn.Module:
        return self.model.get_submodule(path)


def passed(layer: Any, forward: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    """Output, and gradients of the input and the factors."""
    x = x.clone().requires_grad_()
    y = forward(x)
    torch.manual_seed(1)
    factors = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    gradients = torch.autograd.grad(y, [x, *factors], torch.randn(y.shape).to(y.dtype))
    return [y.detach(), *gradients]


def by_peft(layer: Any, x: Tensor) -> Tensor:
    output: Tensor = super(type(layer), layer).forward(x)
    return output


def far(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest relative distance between two lists of tensors."""
    return max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in zip(ours, theirs, strict=True))


def is_fused(layer: Any, x: Tensor) -> bool:
    return type(layer(x.clone().requires_grad_()).grad_fn).__name__ == f"{_Update.__name__}Backward"


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(3, ROWS // 3, INPUTS)


@pytest.mark.parametrize("kind", ["linear", "Conv1D", "nf4", "fp4", "int8"])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"lora_dropout": 0.5}])
def test_it_is_pefts_layer(kind: str, options: dict[str, Any], x: Tensor) -> None:
    layer = wrapped(kind, **options).eval()
    assert is_fused(layer, x)
    ours, theirs = passed(layer, layer, x), passed(layer, lambda x: by_peft(layer, x), x)
    assert [tensor.dtype for tensor in ours] == [tensor.dtype for tensor in theirs]
    assert far(ours, theirs) < 1e-6


@pytest.mark.parametrize("kind", ["linear", "Conv1D", "nf4"])
def test_in_bf16_it_is_off_by_rounding_alone(kind: str, x: Tensor) -> None:
    """As far from the exact result as bf16's rounding: 2^-9 for each of output, A x and gradients."""
    layer, x = wrapped(kind, torch.bfloat16), x.bfloat16()
    assert is_fused(layer, x)
    ours = passed(layer, layer, x)
    exact = passed(layer, lambda x: by_peft(layer, x), x)
    assert [tensor.dtype for tensor in ours] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    assert far(ours, exact) < 2**-7


def test_only_the_input_and_the_inner_product_are_kept(x: Tensor) -> None:
    kept: list[Tensor] = []
    layer = wrapped("linear", torch.bfloat16)
    x = x.bfloat16().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(x)
    assert [(tuple(tensor.shape), tensor.dtype) for tensor in kept] == [
        ((ROWS, INPUTS), torch.bfloat16),
        ((ROWS, 4), torch.bfloat16),
    ]
    assert kept[0].untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_computed_again_it_is_the_same(x: Tensor) -> None:
    layer = wrapped("nf4")
    again = passed(layer, lambda x: checkpoint(layer, x, use_reentrant=False), x)  # type: ignore[no-any-return]
    for ours, theirs in zip(again, passed(layer, layer, x), strict=True):
        assert torch.equal(ours, theirs)


def test_where_no_gradient_comes_none_goes_on(x: Tensor) -> None:
    class Unused(torch.autograd.Function):
        """Uses what it is given, and has no gradient for it, as an index that selects nothing."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, unused: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            return gradient, None

    layer = wrapped("linear")
    x.requires_grad_()
    Unused.apply(x, layer(x)).sum().backward()  # type: ignore[no-untyped-call]
    assert layer.lora_A["default"].weight.grad is None
    assert layer.lora_B["default"].weight.grad is None


@pytest.mark.parametrize("kind", ["linear", "Conv1D", "nf4", "int8"])
def test_what_comes_out_may_be_changed_in_place(kind: str, x: Tensor) -> None:
    layer = wrapped(kind)
    ours = passed(layer, lambda x: layer(x).div_(3).mul_(2), x)
    assert far(ours, passed(layer, lambda x: by_peft(layer, x) / 3 * 2, x)) < 1e-6


@pytest.mark.parametrize("kind", ["linear", "Conv1D"])
def test_merged_it_computes_the_same(kind: str, x: Tensor) -> None:
    layer = wrapped(kind)
    before = layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), before)


@pytest.mark.parametrize("rows", [(0, INPUTS), (INPUTS,), (2, 0, INPUTS), (5, INPUTS)])
def test_shapes(rows: tuple[int, ...]) -> None:
    layer = wrapped("linear")
    x = torch.randn(rows)
    for ours, theirs in zip(passed(layer, layer, x), passed(layer, lambda x: by_peft(layer, x), x), strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def _with_hook(layer: Any) -> None:
    layer.base_layer.register_forward_hook(lambda module, args, output: output * 2)


def _patched(layer: Any) -> None:
    layer.base_layer.forward = lambda x: nn.Linear.forward(layer.base_layer, x) * 3


def _trains(layer: Any) -> None:
    layer.base_layer.bias.requires_grad_(True)


def _disabled(layer: Any) -> None:
    layer.enable_adapters(False)


@pytest.mark.parametrize("odd", [_with_hook, _patched, _trains, _disabled])
def test_what_is_not_plain_goes_pefts_way(odd: Callable[[Any], None], x: Tensor) -> None:
    layer = wrapped("linear")
    odd(layer)
    assert not is_fused(layer, x)
    assert torch.equal(layer(x), by_peft(layer, x))


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_dropout": 0.5}])
def test_what_computes_more_goes_pefts_way(options: dict[str, Any], x: Tensor) -> None:
    assert not is_fused(wrapped("linear", **options).train(), x)


def test_a_layer_that_computes_more_than_a_product_goes_pefts_way(x: Tensor) -> None:
    class Router(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(-1)

    model = nn.Sequential(Router(INPUTS, OUTPUTS)).requires_grad_(False)
    config = LoraConfig(r=4, target_modules=["0"])
    use_fused(_View(model), ["0"], config)  # type: ignore[arg-type]
    inject_adapter_in_model(config, model)
    assert not is_fused(model[0], x)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_every_linear_layer_of_a_base_is_computed_by_it(put: Any, base: Any, sums: Any, quantization: str) -> None:
    mounted = put(base("tiny-llama", quantization, "bfloat16"), sums(4), "lora", {"rank": 4})
    calls = [0]
    original = _Update.backward

    def counted(*args: Any) -> Any:
        calls[0] += 1
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Update, "backward", staticmethod(counted))
        mounted.gradients([0, 1])
    assert isinstance(mounted.attachment.view, ModelView)
    assert calls[0] == len(mounted.attachment.tensors) / 2
