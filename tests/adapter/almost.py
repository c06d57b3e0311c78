"""Bases that are almost the right one, and how to make them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

REVISIONS = ("0" * 39 + "1", "0" * 39 + "2")


def shape(**changes: Any) -> dict[str, Any]:
    from adapterhub_lite.testing.tokenizer import tiny_tokenizer

    base: dict[str, Any] = {
        "vocab_size": len(tiny_tokenizer()), "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 48, "initializer_range": 0.2,
        "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip
    return {**base, **changes}


def write_llama(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A tiny language model of three layers in two shards."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from adapterhub_lite.testing.tokenizer import tiny_tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(LlamaConfig(**shape(**changes))).save_pretrained(folder, max_shard_size="150KB")
    tiny_tokenizer().save_pretrained(folder)
    return folder


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _another_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    parsed = json.loads(file.read_text())
    vocabulary = parsed["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    file.write_text(json.dumps(parsed))


def _swapped_shard(folder: Path) -> None:
    other = write_llama(folder.with_name("for-a-shard"), seed=1)
    shutil.copyfile(shards(other)[0], shards(folder)[0])


def _flipped_weight(folder: Path) -> None:
    file = shards(folder)[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1 << 7  # the sign of one weight
    file.write_bytes(content)


def _another_architecture(folder: Path) -> None:
    edit(folder / "config.json", model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=None)


# By name: how to make it of a copy of the base (or anew, by other settings), and what the refusal has to name.
EDITS: dict[str, tuple[Callable[[Path], None] | dict[str, Any], str]] = {
    "other weights of the same shapes": ({"seed": 1}, "weights"),
    "fewer layers": ({"num_hidden_layers": 2}, "layers 3 in the adapter but 2 here"),
    "more layers": ({"num_hidden_layers": 4}, "layers 3 in the adapter but 4 here"),
    "a resized vocabulary": ({"vocab_size": 64}, "vocabulary 44 in the adapter but 64 here"),
    "another tokenizer": (_another_tokenizer, "tokenizer"),
    "another architecture": (_another_architecture, "model_type 'llama' in the adapter but 'mistral' here"),
    "another hidden size": ({"hidden_size": 128}, "hidden_size 64 in the adapter but 128 here"),
    "another number of heads": (
        lambda folder: edit(folder / "config.json", num_attention_heads=8, num_key_value_heads=4, head_dim=8),
        "num_attention_heads 4 in the adapter but 8 here",
    ),
    "another rope theta": (
        lambda folder: edit(folder / "config.json", rope_parameters={"rope_theta": 5e5, "rope_type": "default"}),
        "rope_parameters.rope_theta 10000.0 in the adapter but 500000.0 here",
    ),
    "another norm epsilon": (
        lambda folder: edit(folder / "config.json", rms_norm_eps=1e-3),
        "rms_norm_eps 1e-06 in the adapter but 0.001 here",
    ),
    "a swapped shard": (_swapped_shard, "weights"),
    "one flipped weight": (_flipped_weight, "weights"),
}
