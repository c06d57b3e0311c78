"""What every task offers the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from adapterhub_lite.api import ModelMap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.names import POOLINGS


@dataclass(frozen=True)
class Preprocessing:
    """How an input becomes tensors; recorded in the adapter, so that prediction does what training did."""

    max_length: int | None = None
    """Tokens an input is cut to; None for images."""
    pooling: str | None = None
    """How features become one vector; None for a language model."""
    form: str | None = None
    """What a language model was trained on: "text", "completion" or "chat"."""

    def record(self) -> dict[str, Any]:
        """As written into the manifest."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Preprocessing:
        """Read what `record` wrote.

        Raises:
            AdapterCorruptError: a key or a kind of value that was never written.
        """
        length, pooling, form = (record.get(name) for name in ("max_length", "pooling", "form"))
        understood = (
            (length is None or (type(length) is int and length >= 2))
            and pooling in (None, "spatial", *POOLINGS)
            and form in (None, "text", "completion", "chat")
        )
        if set(record) - {"max_length", "pooling", "form"} or not understood:
            raise AdapterCorruptError(
                f"adapterhub.json: task.preprocessing is not understood: {str(dict(record))[:200]}"
            )
        return cls(length, pooling, form)


@dataclass(frozen=True)
class Example:
    """One encoded input."""

    inputs: Any
    target: Any
    """Class index, token labels, or None when there is nothing to learn."""
    length: int
    """What its cost grows with: tokens; 1 for images."""
    weight: int
    """Targets it holds: supervised tokens, or 1."""


@dataclass(frozen=True)
class Encoded:
    """A dataset ready for batches."""

    examples: list[Example]
    notes: tuple[str, ...] = ()
    """Counted repairs worth telling, such as truncations."""
    rows: tuple[int, ...] | None = None
    """Where rows were left out: the dataset's row each example comes from."""


Batch = Mapping[str, Tensor]


class Task(Protocol):
    """A task; stateless but for its labels and preprocessing."""

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    metric: str
    """The metric that says which of two models is better."""
    higher_is_better: bool

    def head(self, model_map: ModelMap) -> nn.Linear | None:
        """A fresh head on pooled features, or None where the base's own output layer is the head."""
        ...

    def outputs(self, base: Base) -> int:
        """How many numbers the task predicts an input: classes, or tokens of the vocabulary."""
        ...

    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        """Turn checked inputs into examples: tokenize once, open images late."""
        ...

    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        """Pad examples into tensors on the CPU; "targets" is among them where there are targets."""
        ...

    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Run the base: (n, hidden_size) features before the head and (n,) targets, n rows or supervised tokens."""
        ...

    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Run base and head: (n, outputs) logits in fp32 and (n,) targets."""
        ...

    def metrics(self, logits: Tensor, targets: Tensor, loss: float) -> dict[str, float]:
        """Score predictions; `loss` is the mean over all targets."""
        ...
