"""Everything worth measuring on a GPU, in one call: memory, tokens a second, and whether the numbers are right.

    python -m benchmarks.gpu --tokenizer FOLDER --out FOLDER [--layers 22] [--hidden 2048] [--steps 30]

The base is a Llama of random weights made on the spot (1.1 B with the defaults), so that nothing has to be fetched but a
tokenizer; what it costs does not depend on what it has learnt. For each strategy, in bf16 and in NF4: peak memory of the
device, tokens a second, and the loss. Then, in NF4 with LoRA: the same run twice (SHA-256 of the adapters), and a run that is
given a third of the memory it wants for activations against one that is not (losses). One JSON object is written to
OUT/gpu.json and printed. On a machine without an accelerator it runs on the CPU, for trying the script out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import random
import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import adapterhub_lite as ah
from adapterhub_lite.progress import Silent

STRATEGIES: dict[str, dict[str, Any]] = {"lora": {"rank": 16}, "prefix": {}, "linear_probe": {"epochs": 1}}
VERSIONS = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes", "accelerate")


def make_base(tokenizer_folder: Path, out: Path, layers: int, hidden: int) -> str:
    """A Llama of random weights in bf16, saved as any base is."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=hidden * 11 // 4 // 64 * 64,
        num_hidden_layers=layers, num_attention_heads=hidden // 64, num_key_value_heads=max(1, hidden // 256),
        max_position_embeddings=2048,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return str(out)


def texts(rows: int, most: int) -> list[dict[str, str]]:
    """Made-up texts of up to so many words."""
    words = [f"word{i}" for i in range(500)]
    draw = random.Random(0)
    return [{"text": " ".join(draw.choices(words, k=draw.randint(2, most)))} for _ in range(rows)]


class Watch(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def on_gpu() -> bool:
    """Whether there is a CUDA device to measure."""
    return torch.cuda.is_available()


def train(
    base: str, rows: list[dict[str, str]], quantization: str, strategy: str, out: Path, **options: Any
) -> dict[str, Any]:
    """Train once and tell what it took.

    Returns:
        Seconds, peak memory of the device in GB, tokens a second (median of the later steps), and the losses.
    """
    progress = Watch()
    engine = ah.Engine(progress=progress)
    if on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    loaded = engine.load_base(base, quantization=quantization, dtype="bfloat16")
    data = engine.load_data(rows, "causal-lm")
    config = ah.TrainConfig(batch_size=8, **options)
    folder = out / "runs" / f"{strategy}-{quantization}-{len(list(out.glob('runs/*')))}"
    started = time.monotonic()
    adapter = engine.train(
        loaded, data, strategy=strategy, settings=STRATEGIES[strategy], config=config, run_folder=folder
    )
    seconds = time.monotonic() - started
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    adapter.save(folder.with_name(folder.name + "-adapter"))
    digest = hashlib.sha256((folder.with_name(folder.name + "-adapter") / "adapter_model.safetensors").read_bytes())
    found = {
        "seconds": seconds,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu() else None,
        "losses": [line["loss"] for line in log if "loss" in line],
        "tokens": sum(line["targets"] for line in log if "targets" in line),
        "sha256": digest.hexdigest(),
        "said": progress.lines,
    }
    adapter.detach()
    del adapter, loaded
    return found


def halved(base: str, rows: list[dict[str, str]], out: Path, steps: int) -> Mapping[str, Any]:
    """The same run with memory for a third of a batch: the micro-batch halves, the losses stay."""
    if not on_gpu():
        return {"skipped": "no CUDA device"}
    free = train(base, rows, "nf4", "lora", out, steps=steps)
    total = torch.cuda.get_device_properties(0).total_memory
    weights = train(base, rows, "nf4", "lora", out, steps=1, micro_batch_size=1)["peak_gb"] * 1e9
    torch.cuda.set_per_process_memory_fraction((weights + (free["peak_gb"] * 1e9 - weights) / 3) / total)
    try:
        tight = train(base, rows, "nf4", "lora", out, steps=steps)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    worst = max(abs(a - b) / abs(a) for a, b in zip(free["losses"], tight["losses"], strict=True))
    return {
        "said": [line for line in tight["said"] if "out of memory" in line],
        "largest_relative_difference_of_a_loss": worst,
        "peak_gb": [free["peak_gb"], tight["peak_gb"]],
    }


def repeated(base: str, rows: list[dict[str, str]], out: Path, steps: int) -> Mapping[str, Any]:
    """The same run twice: the same bits."""
    one, other = (train(base, rows, "nf4", "lora", out, steps=steps) for _ in range(2))
    return {"same_bits": one["sha256"] == other["sha256"], "losses": [one["losses"][-1], other["losses"][-1]]}


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--words", type=int, default=200)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    base = make_base(arguments.tokenizer, out / "base", arguments.layers, arguments.hidden)
    rows = texts(arguments.rows, arguments.words)
    device = torch.cuda.get_device_name(0) if on_gpu() else platform.processor() or "CPU"
    report: dict[str, Any] = {
        "device": device,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "base": {"layers": arguments.layers, "hidden": arguments.hidden},
        "runs": {},
    }
    for quantization in ("none", "nf4"):
        for strategy in STRATEGIES:
            options = {} if strategy == "linear_probe" else {"steps": arguments.steps}
            found = train(base, rows, quantization, strategy, out, **options)
            losses = found.pop("losses")
            rate = found["tokens"] / found["seconds"] if found["tokens"] else None
            found |= {"first_loss": losses[:1], "last_losses": statistics.mean(losses[-5:]) if losses else None}
            report["runs"][f"{strategy}, {quantization}"] = {**found, "tokens_per_s": rate}
            (out / "gpu.json").write_text(json.dumps(report, indent=1))
    report["twice"] = repeated(base, rows, out, min(6, arguments.steps))
    report["little_memory"] = halved(base, rows, out, min(6, arguments.steps))
    (out / "gpu.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
