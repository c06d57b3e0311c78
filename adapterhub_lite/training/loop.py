"""The training loop: AdamW on what the strategy names, with the batch size that was asked for whatever fits in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from adapterhub_lite.api import Run
from adapterhub_lite.base.recompute import activation_checkpointing
from adapterhub_lite.data.batches import epoch_batches
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.attachment import Attachment
from adapterhub_lite.tasks.task import Encoded, Example
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.observers import Observers

BAD_STEPS_IN_A_ROW = 3


@dataclass
class TrainReport:
    """What happened in a run."""

    steps: int = 0
    skipped: int = 0
    """Steps not applied because loss or gradient was not finite."""
    micro_batch_size: int = 0
    """What was computed at once in the end."""
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Mean loss of each step, per target."""
    stopped: str | None = None
    """Why an observer ended the run early."""


def fit(
    attachment: Attachment, data: Encoded, config: TrainConfig, progress: Progress, observers: Observers
) -> TrainReport:
    """Train an attachment in place.

    The loss of a step is the mean over its targets (tokens or examples), whatever the micro-batches it is computed in.

    Raises:
        TrainingError: when loss or gradient is not finite three steps in a row, or a single example does not fit.
    """
    parameters = [p for p in attachment.tensors.values() if p.requires_grad]
    rate = config.learning_rate or attachment.provided.spec.learning_rate
    optimizer = torch.optim.AdamW(_groups(parameters, config.weight_decay), lr=rate)
    total = config.steps or max(1, round(config.epochs * math.ceil(len(data.examples) / config.batch_size)))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, total, config))
    report = TrainReport(micro_batch_size=min(config.micro_batch_size or config.batch_size, config.batch_size))
    run = Run(
        attachment.provided.spec.name,
        attachment.task.name,
        attachment.base.reference,
        total,
        config.model_dump(),
        stop=lambda reason: setattr(report, "stopped", reason),
    )
    started, bad, error = time.monotonic(), 0, None
    observers.notify("adapterhub_train_start", {"run": run})
    try:
        recompute = activation_checkpointing(attachment.base.model, config.activation_checkpointing)
        with recompute, attachment.training(), progress.bar("training", total, "steps") as bar:
            for step, rows in enumerate(_steps(data.examples, config, total), start=1):
                examples = [data.examples[row] for row in rows]
                loss = accumulate(attachment, examples, report)
                norm = float(nn.utils.clip_grad_norm_(parameters, config.clip))
                if math.isfinite(loss) and math.isfinite(norm):
                    optimizer.step()
                    bad = 0
                else:
                    bad += 1
                    report.skipped += 1
                if bad == BAD_STEPS_IN_A_ROW:
                    raise TrainingError(
                        f"loss or gradient is not finite in {bad} steps in a row, the last at step {step} with rows "
                        f"{', '.join(str(row + 1) for row in rows[:8])}; lower the learning rate ({rate:g}) or "
                        "use --dtype float32"
                    )
                optimizer.zero_grad(set_to_none=True)
                metrics = {"loss": loss, "learning_rate": scheduler.get_last_lr()[0], "grad_norm": norm}
                scheduler.step()
                report.steps, report.losses = step, [*report.losses, loss] if math.isfinite(loss) else report.losses
                observers.notify("adapterhub_step_end", {"run": run, "step": step, "metrics": metrics})
                bar.advance(1, f"loss {loss:.3f}")
                if report.stopped is not None:
                    break
    except BaseException as raised:
        error = raised
        raise
    finally:
        optimizer.zero_grad(set_to_none=True)
        report.seconds = time.monotonic() - started
        observers.notify("adapterhub_train_end", {"run": run, "error": error})
    broken = [name for name, tensor in attachment.tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise TrainingError(f"{len(broken)} trained tensors are not finite, such as '{broken[0]}'; nothing is kept")
    return report


def accumulate(attachment: Attachment, examples: Sequence[Example], report: TrainReport) -> float:
    """Put the gradient of the mean loss of one step into the parameters and return that loss.

    When memory runs out the micro-batch is halved, the part of the gradient that was there is dropped, the random state
    is put back and the step is done again, so that the result is the one a larger memory would have given.
    """
    weight = sum(example.weight for example in examples)
    device = attachment.base.device
    while True:
        random_state = _random_state(device)
        total, size = 0.0, report.micro_batch_size
        try:
            for start in range(0, len(examples), size):
                batch = attachment.task.collate(examples[start : start + size], attachment.base)
                logits, targets = attachment.logits({key: value.to(device) for key, value in batch.items()})
                assert targets is not None
                loss = functional.cross_entropy(logits, targets, reduction="sum") / weight
                loss.backward()
                total += float(loss.detach())
            return total
        except torch.OutOfMemoryError as error:
            if size == 1:
                longest = max(example.length for example in examples)
                raise TrainingError(
                    f"out of memory with a single example of length {longest}; use a shorter --max-length, "
                    "activation checkpointing, --quantize nf4, or a smaller base"
                ) from error
        # Outside the except block, where the error would keep the activations alive.
        for parameter in attachment.tensors.values():
            parameter.grad = None
        report.micro_batch_size = max(1, size // 2)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        _set_random_state(random_state, device)


def _steps(examples: Sequence[Example], config: TrainConfig, total: int) -> Iterator[list[int]]:
    lengths, done, epoch = [example.length for example in examples], 0, 0
    while True:
        for batch in epoch_batches(lengths, config.batch_size, seed=config.seed, epoch=epoch):
            yield batch
            done += 1
            if done == total:
                return
        epoch += 1


def _schedule(step: int, total: int, config: TrainConfig) -> float:
    """The factor on the learning rate before step `step`, counted from 0."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = (total - step) / max(1, total - warmup)
    if config.schedule == "constant":
        return 1.0
    return left if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))


def _groups(parameters: Sequence[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.dim() >= 2]
    others = [p for p in parameters if p.dim() < 2]
    return [{"params": group, "weight_decay": value} for group, value in ((matrices, decay), (others, 0.0)) if group]


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
