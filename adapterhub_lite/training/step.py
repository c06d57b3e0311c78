"""One optimizer step: the gradient of a batch in pieces that fit, and the update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adapterhub_lite.data.batches import similar_parts
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.tasks.task import Example
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.out_of_memory import free, is_out_of_memory, need
from adapterhub_lite.training.randomness import random_state, set_random_state


def accumulate(
    attachment: Attachment,
    parameters: Sequence[nn.Parameter],
    examples: Sequence[Example],
    weight: float,
    size: int,
    say: Callable[[str], None],
    spare: Sequence[Example] = (),
) -> tuple[float, int]:
    """Put the gradient of a batch's loss into the parameters.

    When memory runs out the micro-batch is halved, the part of the gradient that was there is dropped, the random state
    is put back and the step is done again, so that the result is the one a larger memory would have given.

    Args:
        attachment: Computes the loss.
        parameters: Receive the gradient.
        examples: The batch, or this process's share of it.
        weight: Targets in the whole batch, by which the sum of their losses is divided.
        size: Examples computed at once.
        say: Told when the micro-batch is halved.
        spare: An example, which the processes of a sharded base run for nothing where they have fewer than the others.

    Returns:
        The loss, and the examples computed at once in the end.

    Raises:
        TrainingError: a single example does not fit.
    """
    device, shards = attachment.base.device, attachment.base.shards
    most = len(examples) if shards is None else shards.largest(len(examples))
    before = random_state(device)
    while True:
        total, parts = 0.0, _parts(attachment, parameters, examples, size, most)
        at_once = min(size, most) if shards is not None else max(map(len, parts), default=1)
        try:
            with attachment.precision():
                for part in parts:
                    batch = attachment.task.collate(part or spare, attachment.base)
                    logits, targets = attachment.logits({key: value.to(device) for key, value in batch.items()})
                    assert targets is not None
                    # Losses and gradients are not for the lower precision.
                    with torch.autocast(device.type, enabled=False):
                        losses, weights = attachment.task.losses(logits, targets), attachment.task.weights(targets)
                        loss = (losses if weights is None else losses * weights).sum() / weight
                        loss = loss if part else loss * 0
                        loss.backward()
                    total += float(loss.detach())
                    if shards is not None:
                        shards.check()
            return total, size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if shards is not None:
                shards.begin_again(error)
            if size == 1:
                longest = max(example.length for example in examples or spare)
                raise TrainingError(
                    f"out of memory with a single example of length {longest}{need(error, device)}; use a shorter "
                    "--max-length, --activation-checkpointing, --activation-offload, --quantize nf4, or a smaller base"
                ) from error
        # Outside the except block, where the error would keep the activations alive.
        for parameter in parameters:
            parameter.grad = None
        # More than the batch holds is never computed at once, and halving it would change nothing.
        size = max(1, at_once // 2)
        say(f"out of memory: going on with {size} examples at once; the batch stays what it was")
        free(device)
        set_random_state(before, device)


def _parts(
    attachment: Attachment, parameters: Sequence[nn.Parameter], examples: Sequence[Example], size: int, most: int
) -> list[Sequence[Example]]:
    """What is run at once, in turn: at most `size` examples, and on a CPU such of similar lengths."""
    if attachment.base.shards is None:
        # What normalises by batch is not cut any finer than it has to be.
        if attachment.base.device.type == "cpu" and attachment.task.pads and not attachment.statistics:
            every = sum(weights.numel() for weights in attachment.base.model.parameters())
            trained = min(1.0, sum(weights.numel() for weights in parameters) / every)
            cut = similar_parts([example.length for example in examples], size, trained)
            return [[examples[i] for i in part] for part in cut]
        examples = sorted(examples, key=lambda example: -example.length)
    # The processes of a sharded base run it equally often: who has nothing left runs something for nothing.
    return [examples[start : start + size] for start in range(0, most, size)]


def apply(optimizer: Optimizer, updates: int, device: torch.device) -> None:
    """Update the parameters; where the optimizer's state does not fit at first, once more with cached memory given back.

    Args:
        optimizer: Holds the parameters, which hold their gradients.
        updates: How many it has made before.
        device: Where they are.

    Raises:
        TrainingError: it does not fit.
    """
    advice = "use --optimizer adamw_8bit or paged_adamw_8bit, or a strategy that trains less"
    try:
        optimizer.step()
        return
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Updates are counted, parameter by parameter, before anything is written.
        if any(float(state.get("step", 0)) > updates for state in optimizer.state.values()):
            raise TrainingError(
                f"out of memory in the middle of an update, which cannot be undone; resume from the last checkpoint, and {advice}"
            ) from error
    if updates == 0:
        # Memory ran out while the state was made: it may be there in part, and holds nothing but zeros.
        optimizer.state.clear()
    free(device)
    try:
        optimizer.step()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"out of memory in the optimizer's update{need(error, device)}; {advice}") from error


def refuse_broken(tensors: Mapping[str, Tensor]) -> None:
    """Check weights before they are committed or handed out.

    Raises:
        TrainingError: some are not finite.
    """
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise TrainingError(f"{len(broken)} trained tensors are not finite, such as '{broken[0]}'; nothing is kept")
