"""One optimizer step: the gradient of a batch in pieces that fit, and the update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adapterhub_lite.data.batches import ROW, SIMILAR, parts_of
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.tasks.task import Batch, Example
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.out_of_memory import RanOut, attempt, free
from adapterhub_lite.training.randomness import random_state, set_random_state


def accumulate(
    attachment: Attachment,
    parameters: Sequence[nn.Parameter],
    examples: Sequence[Example],
    weight: float,
    size: int,
    say: Callable[[str], None],
    spare: Sequence[Example] = (),
    output_loss: Callable[[Batch, Tensor], Tensor] | None = None,
    rows: int | None = None,
    *,
    on_card: bool | None = None,
) -> tuple[float, int]:
    """Put the gradient of a batch's loss into the parameters.

    When memory runs out the micro-batch is halved, the part of the gradient that was there is dropped, the random state
    is put back and the step is done again. In float32 and without dropout, which draws for each part anew, the result is the
    one a larger memory would have given, but for rounding.

    Args:
        attachment: Computes the loss.
        parameters: Receive the gradient.
        examples: The batch, or this process's share of it.
        weight: Targets in the whole batch, by which the sum of their losses is divided.
        size: Examples computed at once.
        say: Shows the user that the micro-batch was halved.
        spare: An example for the processes of a sharded base that have fewer than the others; its loss does not count.
        output_loss: What the strategy adds to the loss of each row of outputs, (rows,), if anything; its mean is added.
        rows: Rows of outputs of the whole batch.
        on_card: Whether the batch is cut as on an accelerator; by default as the base's device asks.

    Returns:
        The loss, and the examples computed at once in the end.

    Raises:
        TrainingError: a single example does not fit.
    """
    device, shards = attachment.base.device, attachment.base.shards
    most = len(examples) if shards is None else shards.largest(len(examples))
    before = random_state(device)
    rows = sum(example.rows for example in examples) if rows is None else rows
    while True:
        parts = _parts(attachment, examples, size, most, device.type != "cpu" if on_card is None else on_card)
        loss = attempt(partial(_gradient, attachment, parts, weight, spare, output_loss, rows), device, shards)
        if not isinstance(loss, RanOut):
            return loss, size
        if size == 1:
            longest = max(example.length for example in examples or spare)
            raise TrainingError(
                f"out of memory with a single example of length {longest}{loss.need}; use a shorter "
                "--max-length, --activation-checkpointing, --activation-offload, --quantize nf4, or a smaller base"
            ) from loss.error
        for parameter in parameters:
            parameter.grad = None
        # More than the batch holds is never computed at once, and halving it would change nothing.
        at_once = min(size, most) if shards is not None else max(map(len, parts), default=1)
        size = max(1, at_once // 2)
        say(f"out of memory: going on with {size} examples at once; the batch stays what it was")
        free(device)
        set_random_state(before, device)


def _gradient(
    attachment: Attachment,
    parts: Sequence[Sequence[Example]],
    weight: float,
    spare: Sequence[Example],
    output_loss: Callable[[Batch, Tensor], Tensor] | None,
    rows: int,
) -> float:
    """Put the gradient of a batch into the parameters, part by part, and return the loss."""
    total = 0.0
    with attachment.precision():
        for part in parts:
            total += _add_gradient(attachment, part or spare, weight, output_loss, rows, counts=bool(part))
    return total


def _add_gradient(
    attachment: Attachment,
    examples: Sequence[Example],
    weight: float,
    output_loss: Callable[[Batch, Tensor], Tensor] | None,
    rows: int,
    *,
    counts: bool,
) -> float:
    """Add the gradient of one part to that of the parameters, or zero where it does not count, and return the loss."""
    task, device = attachment.task, attachment.base.device
    try:
        batch = {key: value.to(device) for key, value in task.collate(examples, attachment.base).items()}
        if output_loss is None:
            loss = attachment.loss(batch, weight)
        else:
            logits, targets = attachment.logits(batch)
            assert targets is not None
            loss = task.weighted(logits, targets, weight)
        # Losses and gradients are computed in full precision.
        with torch.autocast(device.type, enabled=False):
            loss = loss if output_loss is None else loss + output_loss(batch, logits).sum() / rows
            loss = loss if counts else loss * 0
            if not loss.requires_grad:
                raise TrainingError(
                    f"nothing that {attachment.provided.spec.name} trains has a part in the loss: the model does not use "
                    "what it adapts; choose other targets"
                )
            loss.backward()
    finally:
        attachment.forget_batch()
    return float(loss.detach())


def _parts(
    attachment: Attachment, examples: Sequence[Example], size: int, most: int, on_card: bool
) -> list[Sequence[Example]]:
    """Cut a batch into parts of at most `size` examples, each run at once; on a CPU of few tokens, or of similar lengths."""
    base = attachment.base
    # The processes of a sharded base run it equally often; a part without examples is run with a spare one.
    if base.shards is None:
        if base.flat is None:
            examples = sorted(examples, key=lambda example: -example.length)
        # Batch normalisation depends on what is run at once, so such models are not cut more than they have to be.
        if not on_card and not attachment.statistics:
            tokens = ROW if base.flat is not None else SIMILAR
            parts = parts_of([example.length for example in examples], size, tokens)
            return [[examples[row] for row in part] for part in parts]
    return [examples[start : start + size] for start in range(0, most, size)]


def apply(optimizer: Optimizer, updates: int, device: torch.device) -> None:
    """Update the parameters; where memory runs out, try once more with cached memory given back.

    `updates` is how many this optimizer has made before.

    Raises:
        TrainingError: it does not fit.
    """
    advice = "use --optimizer adamw_8bit or paged_adamw_8bit, or a strategy that trains less"
    ran_out = attempt(optimizer.step, device)
    if not isinstance(ran_out, RanOut):
        return
    # Updates are counted, parameter by parameter, before anything is written.
    if any(float(state.get("step", 0)) > updates for state in optimizer.state.values()):
        raise TrainingError(
            f"out of memory in the middle of an update, which cannot be undone; resume from the last checkpoint, and {advice}"
        ) from ran_out.error
    if updates == 0:
        # Memory ran out while the state was made: some of it may exist, and is all zeros.
        optimizer.state.clear()
    free(device)
    again = attempt(optimizer.step, device)
    if isinstance(again, RanOut):
        raise TrainingError(f"out of memory in the optimizer's update{again.need}; {advice}") from again.error


def refuse_broken(tensors: Mapping[str, Tensor]) -> None:
    """Check weights before they are committed or handed out.

    Raises:
        TrainingError: some are not finite.
    """
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise TrainingError(f"{len(broken)} trained tensors are not finite, such as '{broken[0]}'; nothing is kept")
