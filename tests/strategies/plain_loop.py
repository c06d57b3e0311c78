"""Runs on the tiny decoder, and the same ones in PEFT by a plain loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.engine import Engine
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.order import Order

STEPS = 12
RATE = 2e-2
PLAIN: dict[str, Any] = {
    "steps": STEPS,
    "batch_size": 8,
    "learning_rate": RATE,
    "schedule": "constant",
    "warmup": 0.0,
    "weight_decay": 0.0,
}


def run(
    strategy: str, settings: dict[str, Any], folder: Path | None = None, *, resume: bool = False, **options: Any
) -> Adapter:
    """Train on the tiny decoder."""
    config = TrainConfig(**{**PLAIN, **options})
    return Engine(progress=Silent()).train(
        tiny_base("decoder"), completions(), strategy=strategy, settings=settings, config=config, run_folder=folder,
        resume=resume,
    )  # fmt: skip


def batches(config: TrainConfig) -> list[dict[str, torch.Tensor]]:
    """The batches of a run, in its order."""
    base, engine, data = tiny_base("decoder"), Engine(progress=Silent()), completions()
    task = engine.task_for(base, data)
    examples, order = task.encode(data, base).examples, Order(16, config)
    return [dict(task.collate([examples[row] for row in order.rows(step)], base)) for step in range(1, STEPS + 1)]


def in_peft(
    config: PeftConfig,
    seed: int,
    watch: Callable[[Any, int], None] = lambda model, step: None,
    more: Callable[[Any], Any] = lambda tuner: 0.0,
    **options: Any,
) -> tuple[Any, list[float]]:
    """PEFT's own model, trained by the loop of its documentation, with the trainer's clipping, and its losses.

    Args:
        config: PEFT's.
        seed: Of what PEFT draws when it makes its layers.
        watch: Called after each step.
        more: Of the tuner: what is added to the loss.
        options: Of the run that is compared.
    """
    torch.manual_seed(seed)
    model = get_peft_model(tiny_base("decoder").model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    model.train()
    losses = []
    for step, batch in enumerate(batches(TrainConfig(**{**PLAIN, **options})), start=1):
        labels = batch.pop("targets")
        loss = model(**batch, labels=labels).loss + more(model.base_model)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, TrainConfig().clip)
        optimizer.step()
        if hasattr(model.base_model, "update_and_allocate"):
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        watch(model, step)
    model.eval()
    return model, losses


def targets(adapter: Adapter) -> list[str]:
    return list(adapter.base.map.linears)


def outputs(model: Any) -> torch.Tensor:
    batch = batches(TrainConfig(**PLAIN))[0]
    with torch.no_grad():
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
