"""A LoRA in GGUF: read back, its numbers are those of the adapter in llama.cpp's names and order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapterhub_lite.errors import NotSupportedError, StorageError
from adapterhub_lite.merging.export import export_gguf
from adapterhub_lora.gguf_file import turn_rows


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from gguf import GGUFReader

    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    # GGUF counts dimensions from the innermost; the reader's arrays have numpy's order again.
    return fields, {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}


PATTERNS = {"rank_pattern": {"q_proj": 2, "up_proj": 5}, "alpha_pattern": {"q_proj": 9, "down_proj": 5}}


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 4, "alpha": 6},
        {"rank": 4, "alpha": 6, "rslora": True},
        {"rank": 4, "alpha": 6, **PATTERNS},
        {"rank": 4, "alpha": 6, "rslora": True, **PATTERNS},
    ],
)
def test_numbers_names_and_scale(settings: dict[str, Any], adapt: Any, tmp_path: Path) -> None:
    adapter = adapt("tiny-llama", "causal-lm", **settings)
    assert export_gguf(adapter, tmp_path / "lora.gguf") == 21  # 7 weights in each of 3 layers
    fields, tensors = read(tmp_path / "lora.gguf")
    assert fields["general.architecture"] == "llama"
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    saved = load_file(adapter / "adapter_model.safetensors")
    layer = "base_model.model.model.layers.1"
    pairs = {
        "attn_q": ("self_attn.q_proj", 4), "attn_k": ("self_attn.k_proj", 2), "attn_v": ("self_attn.v_proj", 0),
        "attn_output": ("self_attn.o_proj", 0), "ffn_gate": ("mlp.gate_proj", 0), "ffn_up": ("mlp.up_proj", 0),
        "ffn_down": ("mlp.down_proj", 0),
    }  # fmt: skip
    for short, (path, heads) in pairs.items():
        a, b = (tensors[f"blk.1.{short}.weight.lora_{half}"] for half in "ab")
        last = path.rpartition(".")[2]
        rank = settings.get("rank_pattern", {}).get(last, 4)
        scale = settings.get("alpha_pattern", {}).get(last, 6) / (rank**0.5 if settings.get("rslora") else rank)
        assert len(a) == rank
        delta = scale * saved[f"{layer}.{path}.lora_B.weight"] @ saved[f"{layer}.{path}.lora_A.weight"]
        here = fields["adapter.lora.alpha"] / len(a) * b @ a  # what llama.cpp adds
        torch.testing.assert_close(here, turn_rows(delta, heads) if heads else delta, rtol=1e-5, atol=1e-6)


def test_order_of_rows_is_that_of_a_real_model(base: Any) -> None:
    """SmolLM2 lies in GGUF, made by llama.cpp's own converter: its rows are our rows turned."""
    from gguf import GGUFReader, dequantize

    loaded = base("smollm2")
    reader = GGUFReader(loaded.source.weights[0])
    config = loaded.model.config
    there = {tensor.name: tensor for tensor in reader.tensors}
    layer = loaded.model.model.layers[0].self_attn
    for name, weight, heads in (
        ("attn_q", layer.q_proj.weight, config.num_attention_heads),
        ("attn_k", layer.k_proj.weight, config.num_key_value_heads),
    ):
        tensor = there[f"blk.0.{name}.weight"]
        unpacked = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type))
        assert torch.equal(turn_rows(weight.data, heads), unpacked)
        assert not torch.equal(weight.data, unpacked)


def test_smollm2_exports_from_its_gguf(adapt: Any, tmp_path: Path) -> None:
    assert export_gguf(adapt("smollm2", "causal-lm", rank=8), tmp_path / "lora.gguf") == 210
    fields, tensors = read(tmp_path / "lora.gguf")
    assert fields["adapter.lora.alpha"] == 16
    assert tensors["blk.29.ffn_down.weight.lora_a"].shape == (8, 1536)
    assert tensors["blk.29.ffn_down.weight.lora_b"].shape == (576, 8)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lora.gguf"]


def test_what_llama_cpp_does_not_know_is_refused(adapt: Any, tmp_path: Path) -> None:
    refused = {
        "adapts no biases": adapt("tiny-gpt2", "causal-lm", rank=2, bias="all"),
        "no DoRA": adapt("tiny-llama", "causal-lm", rank=4, dora=True),
        "not strategy 'prefix'": adapt("tiny-llama", "causal-lm", "prefix"),
        "is for text-classification": adapt("tiny-llama", "text-classification", rank=4),
        "models of type 'gpt2'": adapt("tiny-gpt2", "causal-lm", rank=4),
        "embed_tokens.* has no place": adapt("tiny-llama", "causal-lm", rank=4, targets="embed_tokens,q_proj"),
    }
    for why, adapter in refused.items():
        with pytest.raises(NotSupportedError, match=why):
            export_gguf(adapter, tmp_path / "lora.gguf")
    (tmp_path / "taken.gguf").write_bytes(b"mine")
    with pytest.raises(StorageError, match="already"):
        export_gguf(adapt("tiny-llama", "causal-lm", rank=4), tmp_path / "taken.gguf")
    assert (tmp_path / "taken.gguf").read_bytes() == b"mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.gguf"]
