"""Running an adapter over a dataset without learning: logits, and scores from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from adapterhub_lite.base.heap import kept_heap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.data.batches import length_batches
from adapterhub_lite.errors import DataError, TrainingError
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.metrics import bootstrap
from adapterhub_lite.tasks.task import Batch, Encoded, Task
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.out_of_memory import free, is_out_of_memory, need
from adapterhub_lite.training.processes import Processes

EXAMPLES_AT_ONCE = 32
TEXTS_AT_ONCE = 8


def predict_logits(attachment: Attachment, data: Encoded, progress: Progress) -> Tensor:
    """Outputs of the head, (n, outputs) fp32 on the CPU, in the order of the examples, `rows` of each."""
    return _outputs(attachment, data, progress)[0]


def score(
    attachment: Attachment, data: Encoded, progress: Progress, processes: Processes | None = None
) -> dict[str, float]:
    """The task's metrics on labelled examples.

    Args:
        attachment: What is scored.
        data: On what.
        progress: Shows the work.
        processes: Those that do this together, each a part of the examples; all of them get the scores of the whole.

    Raises:
        DataError: when there are no examples.
    """
    _refuse_nothing(data)
    task = attachment.task
    if task.generates:
        return score_language_model(attachment.base, task, attachment.logits, data, progress, processes)[0]
    logits, targets = _labelled_outputs(attachment, data, progress, processes)
    rows = [example.rows for example in data.examples]
    return task.metrics(logits, targets, float(task.losses(logits, targets).mean()), rows)


def score_with_intervals(
    attachment: Attachment, data: Encoded, progress: Progress, processes: Processes | None = None
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The task's metrics on labelled examples, and 95 % confidence intervals of some of them; see `score`.

    Raises:
        DataError: when there are no examples.
    """
    _refuse_nothing(data)
    task = attachment.task
    if task.generates:
        return score_language_model(attachment.base, task, attachment.logits, data, progress, processes)
    logits, targets = _labelled_outputs(attachment, data, progress, processes)
    rows = [example.rows for example in data.examples]
    metrics = task.metrics(logits, targets, float(task.losses(logits, targets).mean()), rows)
    return metrics, task.intervals(logits, targets, rows, data.groups)


def score_language_model(
    base: Base,
    task: Task,
    run: Callable[[Batch], tuple[Tensor, Tensor | None]],
    data: Encoded,
    progress: Progress,
    processes: Processes | None = None,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Mean loss over all supervised tokens; the logits, a vocabulary wide for every token, are not kept.

    Args:
        base: Where batches are sent.
        task: Makes them.
        run: From a batch to (n, vocabulary) logits and (n,) targets.
        data: Encoded examples.
        progress: Shows the work.
        processes: Those that do this together.

    Returns:
        The metrics, and a bootstrap interval of the loss, whole examples drawn.
    """
    parts: list[tuple[int, float]] = []
    counts = torch.tensor([example.rows for example in data.examples], dtype=torch.float64)
    own = _share(data, processes)
    with progress.bar("evaluating", len(own), "examples") as bar, evaluating(base.model):
        for rows, logits, targets in _batches(base, task, run, data, TEXTS_AT_ONCE, own):
            assert targets is not None
            losses = task.losses(logits, targets).double().cpu()
            for row, part in zip(rows, losses.split([data.examples[row].rows for row in rows]), strict=True):
                parts.append((row, float(part.sum())))
            bar.advance(len(rows))
    parts = sorted(processes.collect(parts) if processes is not None else parts)
    sums = torch.tensor([total for _, total in parts], dtype=torch.float64)
    nothing = torch.empty(0)
    interval = bootstrap(len(sums), lambda rows: float(sums[rows].sum() / counts[rows].sum()), data.groups)
    return task.metrics(nothing, nothing, float(sums.sum() / counts.sum())), {"loss": interval}


def _labelled_outputs(
    attachment: Attachment, data: Encoded, progress: Progress, processes: Processes | None
) -> tuple[Tensor, Tensor]:
    logits, targets = _outputs(attachment, data, progress, processes)
    if targets is None:
        raise DataError("there is nothing to evaluate: the data has no labels")
    return logits, targets


def _outputs(
    attachment: Attachment, data: Encoded, progress: Progress, processes: Processes | None = None
) -> tuple[Tensor, Tensor | None]:
    """Outputs of the head and the targets, in the order of the examples, on the CPU."""
    base, task, head = attachment.base, attachment.task, attachment.head
    parts: list[tuple[list[int], Tensor, Tensor | None]] = []

    def keep(rows: list[int], logits: Tensor, targets: Tensor | None) -> None:
        # Whole batches: a part of a tensor takes all of it along when it is sent to another process.
        parts.append((rows, logits.float().cpu(), targets.cpu() if targets is not None else None))

    own = _share(data, processes)
    if isinstance(attachment.strategy, Solver) and head is not None and not attachment.parameters:
        if base.shards is not None:  # whose processes have to encode alike
            own, processes = list(range(len(data.examples))), None
        if own:
            features, targets = encode_features(base, task, Encoded([data.examples[row] for row in own]), progress)
            with torch.no_grad():
                keep(own, head(features.to(base.device)), targets)
    else:
        work = _batches(base, task, attachment.logits, data, EXAMPLES_AT_ONCE, own)
        with progress.bar("predicting", len(own), "examples") as bar, evaluating(base.model), kept_heap(base):
            for rows, logits, targets in work:
                keep(rows, logits, targets)
                bar.advance(len(rows))
    parts = processes.collect(parts) if processes is not None else parts
    order = torch.tensor([row for rows, _, _ in parts for row in rows])
    counts = torch.tensor([data.examples[row].rows for rows, _, _ in parts for row in rows])
    place = order.repeat_interleave(counts).argsort(stable=True)
    found = [targets for _, _, targets in parts if targets is not None]
    logits = torch.cat([logits for _, logits, _ in parts])
    return logits[place], torch.cat(found)[place] if found else None


def _share(data: Encoded, processes: Processes | None) -> list[int]:
    """The rows that this process takes, longest first; dealt out in turns, so that all have about the same to do."""
    lengths = [example.length for example in data.examples]
    (order,) = length_batches(lengths, max(1, len(lengths))) or [[]]
    return list(processes.share(order)) if processes is not None else order


def _refuse_nothing(data: Encoded) -> None:
    if not data.examples:
        raise DataError("there is nothing to evaluate: the data has no rows")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Neither dropout nor gradients for the length of a `with` block; each module is in its own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _batches(
    base: Base,
    task: Task,
    run: Callable[[Batch], tuple[Tensor, Tensor | None]],
    data: Encoded,
    size: int,
    own: list[int],
) -> Iterator[tuple[list[int], Tensor, Tensor | None]]:
    """Run examples in the order given: rows, logits and targets of each batch. Batches that do not fit are cut in two.

    The processes of a sharded base run as many batches each, whoever has an example less; what is cut is cut by all.
    """
    shards = base.shards
    most = len(own) if shards is None else shards.largest(len(own))
    waiting = [(start, min(start + size, most)) for start in range(0, most, size)][::-1]
    while waiting:
        start, stop = waiting.pop()
        rows = own[start:stop]
        if not rows and shards is None:
            continue
        examples = [data.examples[row] for row in rows] or data.examples[:1]
        try:
            batch = task.collate(examples, base)
            logits, targets = run({key: value.to(base.device) for key, value in batch.items()})
            if shards is not None:
                shards.check()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if shards is not None:
                shards.begin_again(error)
            if stop - start == 1:
                raise TrainingError(
                    f"out of memory in evaluation with a single example of length {examples[0].length}"
                    f"{need(error, base.device)}; use a shorter --max-length, --quantize nf4, or a smaller base"
                ) from error
            cut = True
        else:
            cut = False
            if rows:
                yield rows, logits, targets
        if cut:  # outside the except block, where the error would keep the activations alive
            free(base.device)
            half = (start + stop) // 2
            waiting += [(half, stop), (start, half)]
