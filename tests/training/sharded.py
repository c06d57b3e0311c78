"""Small runs on tiny models, in one process or, started by torchrun, in several that share the base or only the work.

Run by test_sharding.py, with a folder for the results.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.base.loading import Base, adopt
from adapterhub_lite.base.shards import storage_of
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training import offload
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.processes import Processes
from adapterhub_text.tiny import texts

CASES: dict[str, dict[str, Any]] = {
    "lora": {"model": "encoder", "settings": {"rank": 2}},
    "prefix": {"model": "decoder", "strategy": "prefix", "settings": {"length": 3}},
    "linear_probe": {"model": "encoder", "strategy": "linear_probe"},
    "ia3": {"model": "decoder", "strategy": "peft:ia3"},
    "recomputed": {"model": "decoder", "settings": {"rank": 2}, "activation_checkpointing": True},
    "offloaded": {"model": "decoder", "settings": {"rank": 2}, "activation_offload": True},
    "nf4": {"model": "decoder", "settings": {"rank": 2}, "quantization": "nf4"},
    "untied": {"model": "decoder", "settings": {"rank": 2}},
    # More processes than rows in the last batch of an epoch, and memory that runs out on one of them.
    "one_row_left": {"model": "encoder", "settings": {"rank": 2}, "rows": 11},
    "out_of_memory_forward": {"model": "decoder", "settings": {"rank": 2}, "fails": "forward"},
    "out_of_memory_scoring": {"model": "decoder", "settings": {"rank": 2}, "fails": "scoring"},
    "out_of_memory_backward": {"model": "decoder", "settings": {"rank": 2}, "fails": "backward"},
}


def run(name: str, folder: Path, *, shard: bool) -> dict[str, Any]:
    """Train, score, predict, generate, switch off and save; what came of it."""
    case, processes = CASES[name], Processes()
    base = untied() if name == "untied" else tiny_base(case["model"], quantization=case.get("quantization", "none"))
    data = texts() if case["model"] == "encoder" else completions()
    data = some(data, case.get("rows", 16))
    engine = Engine(progress=Silent())
    strategy = case.get("strategy", "lora")
    options = {"steps": 6, "batch_size": 5, "micro_batch_size": 2, "learning_rate": 1e-2}
    if strategy != "linear_probe":
        options |= {"eval_every": 3, "checkpoint_every": 3}
    options |= {name: case.get(name, False) for name in ("activation_checkpointing", "activation_offload")}
    config = TrainConfig(**options, shard=shard)
    if processes.rank == 1 and "fails" in case:
        fail(base, case["fails"])
    moved = watch_offload() if "activation_offload" in case else set()
    adapter = engine.train(
        base, data, strategy=strategy, settings=case.get("settings"), config=config, eval_data=some(data, 7),
        run_folder=folder / f"{name}.run",
    )  # fmt: skip
    results: dict[str, Any] = {"metrics": adapter.metrics, "micro_batch": adapter.training.get("micro_batch_size_used")}
    results["parameters"] = sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in base.model.parameters())
    if "activation_offload" in case:
        weights = base.shards.storages() if base.shards is not None else set(map(storage_of, base.model.parameters()))
        results["moved"] = [len(moved) > 0, len(moved & weights)]
    if data.labels:
        results["outputs"] = [prediction.probability for prediction in adapter.predict(list(data.inputs[:3]))]
    else:
        results["outputs"] = [adapter.generate(item, max_new_tokens=5) for item in data.inputs[:3]]
        with adapter.disabled(), torch.no_grad():
            results["bare"] = base.model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits.flatten().tolist()[:20]
    if processes.is_main:
        adapter.save(folder / name)
    else:
        adapter.accompany_saving()
    return results


def untied() -> Base:
    """The tiny decoder with an output layer of its own, which is then sharded by itself."""
    model = tiny_base("decoder").model
    torch.manual_seed(1)
    model.config.tie_word_embeddings = False
    return adopt(type(model)(model.config), tiny_base("decoder").processor, reference="(untied)")


def some(data: Dataset, rows: int) -> Dataset:
    targets = data.targets[:rows] if data.targets is not None else None
    return dataclasses.replace(data, inputs=data.inputs[:rows], targets=targets)


def fail(base: Base, where: str) -> None:
    """Run out of memory in the second layer with more than one example: in training, or where no gradient is wanted."""

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (pretended)")

    def hook(_: Any, __: Any, output: Any) -> None:
        if torch.is_grad_enabled() == (where != "scoring") and len(output) > 1:
            if where != "backward":
                out_of_memory()
            output.register_hook(out_of_memory)

    base.model.get_submodule(base.map.layers[1]).mlp.register_forward_hook(hook)


def watch_offload() -> set[int]:
    """Offload whatever its size; what will have been moved."""
    moved: set[int] = set()
    kept: list[torch.Tensor] = []  # so that its place is not given to another one
    real = torch.empty_like

    def empty_like(tensor: torch.Tensor, **options: Any) -> torch.Tensor:
        if options.get("device") == "cpu":
            moved.add(storage_of(tensor))
            kept.append(tensor)
        return real(tensor, **options)

    offload.SMALL = 0
    offload.torch = SimpleNamespace(**vars(torch) | {"empty_like": empty_like})  # type: ignore[assignment]
    return moved


def refused(strategy: str, quantization: str, settings: dict[str, Any]) -> str:
    """What is said of a combination that does not go."""
    base = tiny_base("decoder", quantization=quantization)
    try:
        config = TrainConfig(steps=1, shard=True)
        Engine(progress=Silent()).train(base, completions(), strategy=strategy, settings=settings, config=config)
    except NotSupportedError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    (out,) = sys.argv[1:]
    everything: dict[str, Any] = {name: run(name, Path(out) / "sharded", shard=True) for name in CASES}
    everything["whole"] = {
        name: run(name, Path(out) / "whole", shard=False) for name in ("lora", "prefix", "linear_probe")
    }
    everything["full"] = refused("full", "none", {})
    everything["pissa"] = refused("lora", "none", {"init": "pissa"})
    (Path(out) / f"found-{os.environ['RANK']}.json").write_text(json.dumps(everything))
