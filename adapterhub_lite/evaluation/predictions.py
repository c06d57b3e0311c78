"""What the outputs for some rows say: as a list of predictions, as columns to be written, or as a pandas frame."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.outputs import ClassColumns
from adapterhub_lite.tasks.stored import without_targets
from adapterhub_lite.tasks.task import Encoded, Output, Task, encode
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.evaluate import predict_logits

Said = TypeVar("Said", bound=Output)
AT_ONCE = 4096
"""Rows whose predictions are objects at one time, where they become columns."""


class Predictions(list[Said]):
    """A list of predictions, one for each input."""

    def to_pandas(self, probabilities: str = "none") -> Any:
        """A frame with a row a prediction and the columns that `predict --out` writes.

        Args:
            probabilities: Those of classes: none, all (a column each), or top:N for the N likeliest.

        Raises:
            ConfigError: pandas is not installed, or another word.
            NotSupportedError: the predictions are not of classes.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("to_pandas needs pandas; pip install pandas") from error
        chosen = ClassColumns.parse(probabilities)
        return pandas.DataFrame({name: values[:] for name, values in columns_of([self], chosen).items()})


@dataclass(frozen=True)
class RowOutputs:
    """The outputs of a task for some rows.

    Attributes:
        task: Says what they mean.
        data: The examples.
        logits: (n, outputs), `Example.rows` of them for each example.
    """

    task: Task
    data: Encoded
    logits: Tensor

    def predictions(self, kind: type[Any] = object) -> Predictions[Any]:
        """A prediction for each example, of the class that is expected.

        Raises:
            ConfigError: the task has another class for its predictions than `kind`.
        """
        said = Predictions(self.task.predictions(self.logits, self.data))
        if said and not isinstance(said[0], kind):
            given = type(said[0]).__name__
            raise ConfigError(f"an adapter for {self.task.name} predicts {given}, not {kind.__name__}")
        return said

    def columns(self, chosen: ClassColumns) -> dict[str, Sequence[Any]]:
        """What is written beside each row, made of a part of the rows at a time.

        Raises:
            NotSupportedError: probabilities of classes are wanted, and the predictions are not of classes.
        """
        return columns_of(self._parts(), chosen)

    def _parts(self) -> Iterator[Sequence[Output]]:
        data, first = self.data, 0
        for start in range(0, len(data.examples), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            rows, groups = (None if numbers is None else numbers[part] for numbers in (data.rows, data.groups))
            encoded = Encoded(data.examples[part], (), rows, groups)
            last = first + sum(example.rows for example in encoded.examples)
            yield self.task.predictions(self.logits[first:last], encoded)
            first = last


def outputs_of(attachment: Attachment, data: Dataset, progress: Progress, *, keep_features: bool = False) -> RowOutputs:
    """Run what is mounted on a base on rows, whatever their targets; arguments and errors are those of `predict_logits`."""
    labelled = encode(attachment.task, data, attachment.base)
    encoded = Encoded(without_targets(labelled.examples), labelled.notes, labelled.rows)
    for note in (*data.notes, *encoded.notes):
        progress.say(f"note: {note}")
    logits = predict_logits(attachment, encoded, progress, keep_features=keep_features)
    return RowOutputs(attachment.task, encoded, logits)


def columns_of(parts: Any, chosen: ClassColumns) -> dict[str, Sequence[Any]]:
    """The columns of predictions, that come in lists of some at a time.

    Raises:
        NotSupportedError: probabilities of classes are wanted, and the predictions are not of classes.
    """
    columns: dict[str, list[Any]] = {}
    tables: list[NDArray[np.float32]] = []
    labels: list[str] = []
    for part in parts:
        for said in part:
            row = dict(said.columns())
            if chosen.top:
                likeliest = heapq.nlargest(chosen.top, _of_classes(said).items(), key=lambda pair: pair[1])
                for place, (label, p) in enumerate(likeliest, start=1):
                    row |= {f"top{place}": label, f"p_top{place}": round(p, 6)}
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
        if chosen.top is None and part:
            labels = list(_of_classes(part[0]))
            tables.append(np.array([list(_of_classes(said).values()) for said in part], dtype=np.float32))
    table = np.concatenate(tables) if tables else np.empty((0, 0), dtype=np.float32)
    return {**columns, **{f"p_{label}": _Rounded(table[:, place]) for place, label in enumerate(labels)}}


class _Rounded(Sequence[float]):
    """A column of probabilities with 6 digits, of which few are Python's numbers at once."""

    def __init__(self, values: NDArray[np.float32]):
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._values[index].astype(np.float64).round(6).tolist()


def _of_classes(said: Output) -> Mapping[str, float]:
    """The probability of each class."""
    probabilities = getattr(said, "probabilities", None)
    if not isinstance(probabilities, Mapping):
        raise NotSupportedError(
            f"a {type(said).__name__} has no probabilities of classes; leave them out (probabilities: none)"
        )
    return probabilities
