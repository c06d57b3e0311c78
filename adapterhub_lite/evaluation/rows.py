"""Scoring what is attached to a base on labelled rows, those with labels that it does not know among them."""

from __future__ import annotations

import math

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.evaluation.choices import choose
from adapterhub_lite.evaluation.predictions import RowOutputs
from adapterhub_lite.evaluation.result import Evaluation, ScoredRows
from adapterhub_lite.evaluation.unknown import notes_on, unknown_labels_of, with_unknown
from adapterhub_lite.progress import Progress
from adapterhub_lite.scoring.rules import Choices
from adapterhub_lite.tasks.stored import without_targets
from adapterhub_lite.tasks.task import Encoded, encode
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.evaluate import labelled_outputs, score
from adapterhub_lite.training.processes import Processes


def evaluate_rows(
    attachment: Attachment,
    data: Dataset,
    progress: Progress,
    processes: Processes | None = None,
    choices: Choices | None = None,
) -> Evaluation:
    """Score what is attached to a base on labelled rows.

    Args:
        attachment: What is scored; on a base on which it is mounted.
        data: The rows; labels that are not known are in `Dataset.unknown`.
        progress: Shows the work.
        processes: Those that all call this and share the work; each gets the scores of the whole.
        choices: What is to be chosen on these rows first, and kept in the task.

    Raises:
        DataError: no rows, a loss that is not finite, or what is to be chosen cannot be.
        ConfigError: rows that were read with other labels.
    """
    task = attachment.task
    if not len(data):
        raise DataError(f"{data.source}: has no rows, so that there is nothing to evaluate; give labelled rows")
    if task.labels and data.labels != task.labels:
        raise ConfigError("the dataset was read with other labels; read it with adapter.load_data(source)")
    encoded = encode(task, data, attachment.base)
    notes, n = (*data.notes, *encoded.notes), len(encoded.examples)
    if task.generates:
        metrics, intervals = score(attachment, encoded, progress, processes, intervals=True)
        return Evaluation(n, _finite(metrics, data), notes, intervals)
    logits, targets = labelled_outputs(attachment, encoded, progress, processes)
    if choices is not None:
        logits = choose(task, logits, targets, encoded.groups, choices)
        for line in task.decision.in_words():
            progress.say(line)
    known = targets < len(task.labels) if data.unknown and targets.dim() == 1 else slice(None)
    loss = float(task.losses(logits[known], targets[known]).mean())
    outputs = RowOutputs(task, Encoded(without_targets(encoded.examples)), logits)
    judge, logits, targets = with_unknown(task, data, encoded, logits, targets)
    rows = [example.rows for example in encoded.examples]
    metrics = _finite(judge.metrics(logits, targets, loss, rows), data)
    intervals = judge.intervals(logits, targets, rows, encoded.groups)
    detail = judge.detail(logits, targets, rows, len(task.labels))
    unknown = unknown_labels_of(data)
    return Evaluation(n, metrics, (*notes, *notes_on(unknown)), intervals, detail, unknown, ScoredRows(data, outputs))


def _finite(metrics: dict[str, float], data: Dataset) -> dict[str, float]:
    if not math.isfinite(metrics.get("loss", 0.0)):
        raise DataError(
            f"{data.source}: the loss on it is {metrics['loss']}, so that the scores say nothing; the model's outputs "
            "are not finite for some row: correct its values, or compute in --dtype float32"
        )
    return metrics
