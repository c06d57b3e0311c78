"""Experts that lie in one parameter, in 4 bits: what they stand for, trained on and kept, against the dense model of it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from peft import PeftModel
from test_experts import CONFIG, MODELS, TEXTS, logits, made
from transformers import AutoModelForCausalLM

from adapterhub_lite.base import experts as experts_module
from adapterhub_lite.base.experts import matrices, packed
from adapterhub_lite.base.loading import adopt, load_base
from adapterhub_lite.base.quantization import dequantized, is_quantized, keep_quantization, packed_parameter
from adapterhub_lite.base.recompute import activation_checkpointing
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.merging.merge import merge_adapter

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))


def loaded(folder: Path, quantization: str = "nf4") -> Any:
    return load_base(str(folder), quantization=quantization, dtype="float32", device="cpu")


def twin(model: Any, folder: Path) -> Any:
    """The dense model of the numbers that a packed one stands for."""
    dense = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        for path, parameter in dense.named_parameters():
            owner = model.get_submodule(path.rpartition(".")[0])
            own = owner.get_parameter(path.rpartition(".")[2])
            parameter.copy_(
                dequantized(owner)
                if is_quantized(owner) and own.dim() == 2 and path.endswith("weight")
                else matrices(own)
            )
    return dense


@pytest.mark.parametrize("kind", MODELS)
def test_they_are_stored_in_four_bits_and_loaded_so(
    kind: str, base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, folder = base("tiny-llama").tokenizer, tmp_path / "base"
    model = made(kind, folder, tokenizer)
    first = loaded(folder)
    stored = packed(first.model)
    assert tuple(stored) == first.map.experts
    assert first.parameters == sum(parameter.numel() for parameter in model.parameters())
    for path, parameter in stored.items():
        whole = model.get_parameter(path).detach()
        assert parameter.untyped_storage().nbytes() == whole.numel() // 2
        numbers, state = bitsandbytes.functional.quantize_4bit(
            whole.reshape(1, -1), quant_type="nf4", compress_statistics=True, blocksize=64
        )
        wanted = bitsandbytes.functional.dequantize_4bit(numbers, state).reshape(whole.shape)
        assert torch.equal(matrices(parameter), wanted)
        assert torch.equal(matrices(parameter, 1, 3), wanted[1:3])
    ours = logits(first.model, tokenizer)
    torch.testing.assert_close(ours, logits(twin(first.model, folder), tokenizer), atol=1e-5, rtol=1e-5)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("quantized again")

    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", refuse)
    again = loaded(folder)
    assert again.map == first.map
    assert torch.equal(logits(again.model, tokenizer), ours)


def test_scales_of_scales_are_cut_where_an_expert_begins(tmp_path: Path) -> None:
    """256 scales have one of their own, which experts may share or not."""
    whole = torch.randn(5, 24, 8 * 43, generator=torch.Generator().manual_seed(0))  # 129 blocks an expert
    parameter = packed_parameter(whole, "nf4")
    every = matrices(parameter)
    assert (every - whole).abs().max() < 0.5
    for first in range(5):
        for last in range(first + 1, 6):
            assert torch.equal(matrices(parameter, first, last), every[first:last])


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("kind", "implementation"),
    [("qwen3_moe", "eager"), ("qwen3_moe", "grouped_mm"), ("qwen3_moe", "batched_mm"), ("gpt_oss", "eager")],
)
@pytest.mark.parametrize("targets", ["all", "attention"])
def test_gradients_are_those_on_the_dense_model(
    targets: str, kind: str, implementation: str, recompute: bool, base: Any, put: Any, data_for: Any, tmp_path: Path
) -> None:
    """Experts adapted themselves, and experts that gradients only pass."""
    tokenizer, folder = base("tiny-llama").tokenizer, tmp_path / "base"
    made(kind, folder, tokenizer)
    ours = loaded(folder)
    gradients = []
    for one in (ours, adopt(twin(ours.model, folder), tokenizer)):
        one.model.set_experts_implementation(implementation)
        mounted = put(one, data_for("causal-lm"), "lora", {"rank": 4, "targets": targets})
        with torch.no_grad():
            for name, tensor in mounted.attachment.tensors.items():
                tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))) / 8)
        one.model.train()
        with activation_checkpointing(one.model, recompute):
            gradients.append(mounted.gradients([0, 1]))
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-5, rtol=1e-4), name


@pytest.mark.parametrize("targets", ["all", "attention"])
def test_none_is_whole_between_the_passes_and_one_at_a_time_in_them(
    targets: str, base: Any, put: Any, data_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = base("tiny-llama").tokenizer
    made("mixtral", tmp_path / "base", tokenizer, num_hidden_layers=4)
    mounted = put(loaded(tmp_path / "base"), data_for("causal-lm"), "lora", {"rank": 4, "targets": targets})
    mounted.attachment.base.model.set_experts_implementation("grouped_mm")
    whole: list[Any] = []
    most = 0
    dequantize, add = experts_module.dequantized_part, torch.baddbmm

    def watched(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> torch.Tensor:
            nonlocal most
            result: torch.Tensor = function(*arguments, **options)
            whole.append(weakref.ref(result.untyped_storage()))
            most = max(most, sum(reference() is not None for reference in whole))
            return result

        return call

    monkeypatch.setattr(experts_module, "dequantized_part", watched(dequantize))
    monkeypatch.setattr(torch, "baddbmm", watched(add))
    logits, _ = mounted.attachment.logits(mounted.batch([0, 1]))
    gc.collect()
    assert len(whole) >= 8  # four layers of two parameters
    assert logits.requires_grad
    assert not [reference for reference in whole if reference() is not None]
    before = len(whole)
    logits.sum().backward()
    assert len(whole) > before
    assert most <= 3  # two parameters of the layer that runs, and a sum with its update


def test_they_are_not_spread_over_processes(base: Any, tmp_path: Path) -> None:
    made("mixtral", tmp_path / "base", base("tiny-llama").tokenizer)
    with pytest.raises(NotSupportedError, match=r"experts in 4 bits \(model.layers.0.mlp.experts.gate_up_proj\)"):
        keep_quantization(loaded(tmp_path / "base").model)


def test_what_is_learnt_is_opened_by_peft_and_merged_into_the_dense_base(
    base: Any, engine: Any, tmp_path: Path
) -> None:
    tokenizer, folder = base("tiny-llama").tokenizer, tmp_path / "base"
    made("qwen3_moe", folder, tokenizer)
    ours = engine.load_base(str(folder), quantization="nf4", dtype="float32", device="cpu")
    before = logits(ours.model, tokenizer)
    adapter = engine.train(
        ours, engine.load_data(TEXTS, "causal-lm"), strategy="lora", settings={"rank": 4}, config=CONFIG
    )
    assert all(bool(tensor.any()) for tensor in adapter.attachment.tensors.values())
    with pytest.raises(NotSupportedError, match="quantized; merge into the unquantized base"):
        adapter.attachment.strategy.merge(adapter.attachment.view, adapter.attachment.config, {})
    learnt = logits(ours.model, tokenizer)
    adapter.save(tmp_path / "adapter")
    adapter.detach()
    assert torch.equal(logits(ours.model, tokenizer), before)
    assert (learnt - before).abs().max() > 0.1
    theirs = PeftModel.from_pretrained(twin(ours.model, folder), tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(theirs, tokenizer), learnt, atol=1e-5, rtol=1e-5)
    again = engine.load_adapter(tmp_path / "adapter", base=ours)
    assert torch.equal(logits(ours.model, tokenizer), learnt)
    again.detach()
    merged = merge_adapter(engine, tmp_path / "adapter", tmp_path / "merged")
    dense = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = PeftModel.from_pretrained(dense, tmp_path / "adapter").eval()
    opened = AutoModelForCausalLM.from_pretrained(merged.path, dtype=torch.float32).eval()
    torch.testing.assert_close(logits(opened, tokenizer), logits(wanted, tokenizer), atol=1e-4, rtol=1e-4)
