"""Merge an adapter into a generated model of six shards, and print how much memory that took. Run in its own process."""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from adapterhub_lite.base.model_folder import weight_files
from adapterhub_lite.merging.shards import copy_side_files, headers_of, write_shards
from adapterhub_lite.merging.skeleton import place_in_files, skeleton_of
from adapterhub_lite.progress import Silent
from adapterhub_lora import LoraConfig
from adapterhub_lora.updates import weight_updates

HIDDEN, INNER, LAYERS, VOCABULARY, RANK = 704, 1920, 12, 1000, 8


def generate(folder: Path) -> None:
    """Two layers a shard, written one after the other."""
    folder.mkdir()
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=11, architectures=["LlamaForCausalLM"], tie_word_embeddings=True,
    )  # fmt: skip
    config.save_pretrained(folder)
    shapes = skeleton_of(folder).shapes
    index = {}
    for shard in range(6):
        layers = tuple(f"model.layers.{i}." for i in (2 * shard, 2 * shard + 1))
        names = [n for n in shapes if n.startswith(layers) or (shard == 0 and not n.startswith("model.layers."))]
        names = [n for n in names if n != "lm_head.weight"]
        file = f"model-{shard + 1:05}-of-00006.safetensors"
        save_file({n: torch.full(shapes[n], 0.02) for n in names}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def adapter_for(folder: Path) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, shape in skeleton_of(folder).shapes.items():
        if name.endswith("_proj.weight"):
            path = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{path}.lora_A.weight"] = torch.randn(RANK, shape[1])
            tensors[f"{path}.lora_B.weight"] = torch.randn(shape[0], RANK)
            tensors[f"{path}.lora_magnitude_vector"] = torch.rand(shape[0])
    return tensors


def resident() -> int:
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main(folder: Path) -> None:
    base, out = folder / "base", folder / "out"
    generate(base)
    out.mkdir()
    tensors = adapter_for(base)
    adapter_bytes = sum(t.numel() * 4 for t in tensors.values())
    config = LoraConfig(rank=RANK, alpha=16)
    # What the libraries set aside on their first use is not counted as the merge's.
    first = {name: tensor for name, tensor in tensors.items() if "layers.0.self_attn.q_proj" in name}
    next(iter(weight_updates(first, config).values()))(torch.ones(HIDDEN, HIDDEN), False)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident()
    updates = weight_updates(tensors, config)
    assert updates is not None
    skeleton = skeleton_of(base)
    headers = headers_of(weight_files(base))
    places = place_in_files(updates, skeleton, headers)
    assert places is not None
    copy_side_files(base, out)
    bound = {place: (lambda weight, name=name: updates[name](weight, False)) for place, name in places.items()}
    write_shards(headers, bound, out, Silent())
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    changed = 0
    from safetensors import safe_open

    for path in headers:
        with safe_open(path, "pt") as old, safe_open(out / path.name, "pt") as new:
            changed += sum(not torch.equal(old.get_tensor(n), new.get_tensor(n)) for n in old.keys())  # noqa: SIM118
    sizes = [path.stat().st_size for path in headers]
    report = {
        "shards": len(sizes),
        "total_bytes": sum(sizes),
        "largest_shard_bytes": max(sizes),
        "adapter_bytes": adapter_bytes,
        "merge_peak_bytes": peak - before,
        "changed": changed,
        "expected_changes": len(tensors) // 3,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
