"""What every task offers the engine, and how a dataset is encoded for one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.vocabulary import check_ids
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.groups import numbered
from adapterhub_lite.data.table import place
from adapterhub_lite.errors import AdapterCorruptError, NotSupportedError
from adapterhub_lite.interrupt import safe_point
from adapterhub_lite.names import POOLINGS
from adapterhub_lite.plugins.spec import Modality, TargetKind
from adapterhub_lite.scoring.decision import PLAIN, DecisionRecord
from adapterhub_lite.scoring.detail import Detail

LEARNT = "learnt"
"""The fact that says what training learnt from its data; it changes nothing in how an input is prepared."""


@dataclass(frozen=True)
class Preprocessing:
    """How an input becomes tensors; recorded in the adapter, so that prediction does what training did."""

    max_length: int | None = None
    """Tokens an input is cut to; None for images and series."""
    pooling: str | None = None
    """How features become one vector; None for a language model."""
    form: str | None = None
    """`Dataset.form` of the training data, such as "completion" or "several"."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The task's options that were given."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the task took from the training data, such as means and spreads, as JSON."""

    def record(self) -> dict[str, Any]:
        """As written into the manifest."""
        known = asdict(self)
        return {key: value for key, value in known.items() if value != {}}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Preprocessing:
        """Read what `record` wrote.

        Raises:
            AdapterCorruptError: a key or a kind of value that was never written.
        """
        length, pooling, form = (record.get(name) for name in ("max_length", "pooling", "form"))
        options, facts = (record.get(name, {}) for name in ("options", "facts"))
        understood = (
            (length is None or (type(length) is int and length >= 2))
            and (pooling in (None, "spatial") or (isinstance(pooling, str) and {*pooling.split("+")} <= {*POOLINGS}))
            and (form is None or (isinstance(form, str) and form.isidentifier()))
            and isinstance(options, dict)
            and isinstance(facts, dict)
        )
        if set(record) - {"max_length", "pooling", "form", "options", "facts"} or not understood:
            raise AdapterCorruptError(
                f"adapterhub.json: task.preprocessing is not understood: {str(dict(record))[:200]}"
            )
        return cls(length, pooling, form, options, facts)


@dataclass(frozen=True)
class Example:
    """One encoded input."""

    inputs: Any
    target: Any
    """Class index, labels, number, token labels, or None when there is nothing to learn."""
    length: int
    """What the cost of running it grows with: its number of tokens; 1 for an image."""
    weight: float
    """The weight of all its targets together in the mean of a batch: their number, unless classes are weighted."""
    rows: int = 1
    """Rows of features and logits it gives: supervised tokens, or 1."""


@dataclass(frozen=True)
class Encoded:
    """A dataset ready for batches."""

    examples: Sequence[Example]
    notes: tuple[str, ...] = ()
    """Counted repairs worth telling, such as truncations."""
    rows: tuple[int, ...] | None = None
    """The row each example comes from, -1 for one that was made up; None where example i comes from row i."""
    groups: tuple[int, ...] | None = None
    """The number of the group each example belongs to, such as a patient; None where there are no groups."""


Batch = Mapping[str, Tensor]


class Output(Protocol):
    """One prediction."""

    def columns(self) -> Mapping[str, Any]:
        """What is written beside the input's row, by column."""


class Task(Protocol):
    """A task; stateless but for its labels, its preprocessing and, in training, the weights of its classes.

    A class that inherits from it gets what most tasks have in common: no examples of its own, targets that all count
    alike, inputs taken as they are and no intervals.
    """

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    modality: Modality
    metric: str
    """The metric that says which of two models is better."""
    higher_is_better: bool
    generates: bool = False
    """It continues text: the base's output layer is its head, and its logits are too large to keep."""
    target_kind: TargetKind
    needs_one_row: bool = False
    """It asks for batches of texts in one row without padding, and a run where this does not go is refused."""
    decision: DecisionRecord = PLAIN
    """What was chosen on held-out rows: a temperature, which logits are divided by before the task sees them; thresholds."""

    @abstractmethod
    def head(self, model_map: ModelMap) -> nn.Linear | None:
        """A fresh head on pooled features, or None where the base's own output layer is the head."""

    @abstractmethod
    def outputs(self, base: Base) -> int:
        """How many numbers the task predicts a target: classes, or tokens of the vocabulary."""

    @abstractmethod
    def encode(self, dataset: Dataset, base: Base) -> Encoded:
        """Turn checked inputs into examples: tokenize once, open images late."""

    def to_learn(self, dataset: Dataset) -> Dataset:
        """The dataset to train on: the one given, or more of it where the options ask."""
        return dataset

    def balance(self, data: Encoded) -> Encoded:
        """Weigh the targets as the options ask, for training on these examples; `weights` follows from now on."""
        return data

    def token_labels(self, example: Example) -> tuple[list[int], list[str | None]] | None:
        """The token ids of an example and what is learnt of each, for a person to see; None for an example of no tokens.

        Learnt is a label, "" for the token itself, or None where the token is given alone.
        """
        # A pair is the ids of both texts, and which of the two each of them is of.
        ids = example.inputs[0] if isinstance(example.inputs, tuple) else example.inputs
        return (list(ids), [None] * len(ids)) if isinstance(ids, list) else None

    @abstractmethod
    def collate(self, examples: Sequence[Example], base: Base) -> Batch:
        """Pad examples into tensors on the CPU; "targets" is among them where there are targets."""

    @abstractmethod
    def features(self, base: Base, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Run the base: (n, features) before the head and (n, ...) targets, n rows or supervised tokens."""

    @abstractmethod
    def logits(self, base: Base, head: nn.Linear | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Run base and head: (n, outputs) logits in fp32 and (n, ...) targets."""

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of every target, not reduced: of the shape of targets."""

    def weights(self, targets: Tensor) -> Tensor | None:
        """How much every target counts in training, of the shape of targets; None for all alike."""
        return None

    def loss(self, base: Base, head: nn.Linear | None, batch: Batch, weight: float) -> Tensor:
        """Run base and head: the weighted sum of the losses of all targets, divided by `weight`; a scalar with its graph.

        A task whose logits are large computes this without having all of them at once.
        """
        logits, targets = self.logits(base, head, batch)
        assert targets is not None
        return self.weighted(logits, targets, weight)

    def weighted(self, logits: Tensor, targets: Tensor, weight: float) -> Tensor:
        """The weighted sum of the losses of all targets, divided by `weight`, in full precision."""
        with torch.autocast(logits.device.type, enabled=False):
            losses, weights = self.losses(logits, targets), self.weights(targets)
            return (losses if weights is None else losses * weights).sum() / weight

    def target_losses(self, base: Base, head: nn.Linear | None, batch: Batch) -> Tensor:
        """Run base and head without gradients: the loss of every target, of the shape of targets."""
        logits, targets = self.logits(base, head, batch)
        assert targets is not None
        return self.losses(logits, targets)

    @abstractmethod
    def metrics(
        self, logits: Tensor, targets: Tensor, loss: float, rows: Sequence[int] | None = None
    ) -> dict[str, float]:
        """Score predictions; `loss` is the mean over all targets, `rows` is how many of them each example has."""

    def intervals(
        self, logits: Tensor, targets: Tensor, rows: Sequence[int] | None = None, groups: Sequence[int] | None = None
    ) -> dict[str, tuple[float, float]]:
        """95 % confidence intervals of some metrics, by name.

        Args:
            logits: (n, outputs)
            targets: (n, ...)
            rows: How many of the targets each example has.
            groups: The group of each example; examples of one are not independent.
        """
        return {}

    def detail(self, logits: Tensor, targets: Tensor, rows: Sequence[int] | None, known: int) -> Detail | None:
        """Scores in detail, such as those of each class; None where there is no more to say than the metrics.

        Args:
            logits: (n, outputs), n at least 1. Outputs from place `known` on are of labels that the adapter does not know.
            targets: (n, ...)
            rows: How many of the targets each example has.
            known: How many of `labels` the adapter knows.
        """
        return None

    @abstractmethod
    def predictions(self, logits: Tensor, data: Encoded) -> Sequence[Output]:
        """What the logits say about each example; (n, outputs) in the order of the examples, `rows` of each."""

    def item(self, value: Any, row: int) -> Any:
        """Check an input given in Python, as `Adapter.predict` takes them.

        Raises:
            ConfigError: saying what is wrong with input `row`.
        """
        return value

    def prompt_ids(self, prompt: Any, base: Base) -> list[int]:
        """The token ids of a prompt, for the base to continue; asked of a task that `generates`.

        Raises:
            NotSupportedError: the task does not continue text.
        """
        raise NotSupportedError("this adapter does not continue text; use predict")

    def end_ids(self, base: Base) -> Sequence[int]:
        """Token ids that end an answer, beside those that the base and its tokenizer name as the end of a text."""
        return ()

    def judge(
        self, data: Dataset, extract: str | None, score: Callable[[str, str], Any] | None
    ) -> Callable[[Sequence[str]], Mapping[str, Sequence[float]]]:
        """What scores answers to the rows of a dataset, each from 0 to 1, by name; asked of a task that `generates`.

        Args:
            data: Prompts with the answers that are wanted.
            extract: A regular expression for the part of an answer that counts; a score of its own.
            score: The user's own score of an answer, beside the one that is wanted.

        Raises:
            NotSupportedError: the task has no answers to score.
            DataError, ConfigError: rows, an expression or a function that cannot be used.
        """
        raise NotSupportedError(f"answers are scored of tasks that continue text, and not of {self.name}")

    def forgetting(
        self,
        base: Base,
        adapted: Callable[[Batch], tuple[Tensor, Tensor | None]],
        bare: Callable[[Batch], Tensor],
        text: str | None,
    ) -> dict[str, float]:
        """What training made the base forget, in numbers by name; nothing for a task that does not measure it.

        Args:
            base: Carries the adapter.
            adapted: From a batch to (n, outputs) logits of the adapted model, and targets.
            bare: From a batch to those of the bare base.
            text: What to measure it on; None for whatever the task has for that.
        """
        return {}

    @abstractmethod
    def samples(self) -> Sequence[Any]:
        """A few made-up items, for comparing two models that should agree."""

    @abstractmethod
    def probe(self, item: Any, number: int) -> Any:
        """An item as JSON, to be run again when the adapter is verified; None for one that cannot be kept."""

    @abstractmethod
    def item_of_probe(self, value: Any) -> Any:
        """The inverse of `probe`.

        Raises:
            AdapterCorruptError: a value that `probe` never made.
        """


def rows_of(data: Dataset) -> Sequence[int]:
    """The number, counted from 0, that each row of a dataset has in its source."""
    return data.table.rows if data.table is not None and data.table.rows is not None else range(len(data))


def encode(task: Task, data: Dataset, base: Base, *, learn: bool = False) -> Encoded:
    """The examples of a dataset, with the row of the source (-1 for none) and the group each of them comes from.

    Args:
        task: Turns rows into examples.
        data: Checked rows.
        base: What they are tokenized or measured for.
        learn: They are to be learnt from: with those the task adds, and weighted as its options ask.
    """
    encoded = task.balance(task.encode(task.to_learn(data), base)) if learn else task.encode(data, base)
    safe_point()
    own = encoded.rows if encoded.rows is not None else range(len(encoded.examples))
    source = rows_of(data)
    if base.beyond:
        for example, row in zip(encoded.examples, own, strict=True):
            ids, _ = task.token_labels(example) or ([], [])
            known = data.table if row < len(source) else None
            check_ids(ids, base.beyond, known.where(row) if known is not None else place(data.source, row))
    rows = tuple(source[row] if row < len(source) else -1 for row in own)
    if data.groups is None:
        return replace(encoded, rows=rows)
    numbers = numbered(data.groups)
    first_free = len(set(numbers))
    # An example that is in no row, such as the name of a class, is a group of its own.
    groups = tuple(numbers[row] if row < len(source) else first_free + row for row in own)
    return replace(encoded, rows=rows, groups=groups)
