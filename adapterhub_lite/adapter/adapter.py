"""A trained adapter on its base: predict, evaluate, generate, switch, save."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

from torch import Tensor

from adapterhub_lite.adapter.evaluation import Evaluation, beside, evaluate_answers
from adapterhub_lite.adapter.generate import alone, generate_texts, stream_text
from adapterhub_lite.adapter.inputs import prompts_of, require_alike, rows_to_predict
from adapterhub_lite.adapter.probe import probe_record
from adapterhub_lite.adapter.read import read_for
from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.adapter.save import save_adapter
from adapterhub_lite.base.learning import BatchContext
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.errors import ConfigError, DataError, NotSupportedError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.progress import Lines, Progress
from adapterhub_lite.storage import KEEP, DataRecord, Manifest, TaskRecord
from adapterhub_lite.tasks.stored import without_targets
from adapterhub_lite.tasks.task import Encoded, encode
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.evaluate import predict_logits, score
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.run.layout import finish_run

Said = TypeVar("Said")


@dataclass(repr=False)
class Adapter:
    """What `train` and `load_adapter` return. Threads may share it: those that use one base wait for each other.

    Attributes:
        attachment: The strategy on the base.
        metrics: Scores recorded so far; saved with the adapter.
        training: Facts about the run that made it; saved with the adapter.
    """

    attachment: Attachment
    plugins: Plugins
    progress: Progress = field(default_factory=Lines)
    data: DataRecord | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    """Which column of the training data played which role."""
    files: dict[str, Any] = field(default_factory=dict)
    """What was said of its file beside the name; see `FileOptions`."""
    run_file: str | None = None
    """The run's configuration as YAML, saved as run.yaml."""
    run_folder: Path | None = None
    """Where the run that made it was recorded; marked as finished once the adapter is saved."""
    forced: list[str] = field(default_factory=list)
    """Differences between this base and the one of training that were overridden."""
    probe_inputs: list[Any] = field(default_factory=list)

    @classmethod
    def recorded(
        cls,
        attachment: Attachment,
        plugins: Plugins,
        progress: Progress,
        manifest: Manifest,
        *,
        differences: Sequence[str] = (),
        probe_inputs: Sequence[Any] = (),
    ) -> Adapter:
        """An adapter with the history of a saved one: its data, scores, run and columns.

        `differences` are those between this base and the recorded one that are overridden now.
        """
        metrics = {name: value for name, value in manifest.metrics.items() if value is not None}
        return cls(
            attachment, plugins, progress, data=manifest.data, metrics=metrics, training=dict(manifest.training),
            columns=dict(manifest.task.columns), files=dict(manifest.task.files),
            forced=[*manifest.forced, *differences], probe_inputs=list(probe_inputs),
        )  # fmt: skip

    def __repr__(self) -> str:
        kind, task = self.attachment.provided.spec.name, self.attachment.task.name
        return f"<Adapter {kind} for {task} on {self.base.reference}: {self.trainable:,} trained weights>"

    @property
    def base(self) -> Base:
        """The base it is on."""
        return self.attachment.base

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs; empty for a language model."""
        return self.attachment.task.labels

    @property
    def trainable(self) -> int:
        """Number of trained weights."""
        return sum(tensor.numel() for tensor in self.attachment.tensors.values())

    def load_data(
        self, source: Any, *, require_labels: bool = True, files: FileOptions | Mapping[str, Any] | None = None
    ) -> Dataset:
        """Read data for this adapter's task, with its columns and labels.

        Args:
            source: What `ah.load_data` takes.
            require_labels: False for prediction.
            files: What is said of the file beside its name, as in {"no_header": True}; the rest as in training.

        Raises:
            DataError: bad data, or a label the adapter was not trained on; names file, row and column.
        """
        if isinstance(source, Dataset):
            require_alike(self.attachment.task, source)
            return source
        return read_for(self.task_record(), source, plugins=self.plugins, require_labels=require_labels, files=files)

    def task_record(self) -> TaskRecord:
        """The task as it is written into the manifest."""
        task = self.attachment.task
        return TaskRecord(
            name=task.name,
            labels=list(task.labels),
            columns=self.columns,
            files=self.files,
            preprocessing=task.preprocessing.record(),
        )

    def evaluate(self, data: Any, processes: Processes | None = None) -> Evaluation:
        """Score the adapter on labelled data: a `Dataset`, or anything `load_data` reads.

        Args:
            data: What it is scored on.
            processes: Those that all call this and share the work; each gets the scores of the whole.
        """
        dataset = self.load_data(data)
        if not len(dataset):
            raise DataError(f"{dataset.source}: has no rows, so that there is nothing to evaluate; give labelled rows")
        task = self.attachment.task
        if task.labels and dataset.labels != task.labels:
            raise ConfigError("the dataset was read with other labels; read it with adapter.load_data(source)")
        with self._at_work():  # an adapter may have tokens of its own
            encoded = encode(task, dataset, self.base)
            metrics, intervals = score(self.attachment, encoded, self.progress, processes, intervals=True)
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise DataError(
                f"{dataset.source}: the loss on it is {metrics['loss']}, so that the scores say nothing; the model's outputs "
                "are not finite for some row: correct its values, or compute in --dtype float32"
            )
        return Evaluation(len(encoded.examples), metrics, (*dataset.notes, *encoded.notes), intervals)

    def evaluate_answers(
        self,
        data: Any,
        *,
        extract: str | None = None,
        score: Callable[[str, str], Any] | None = None,
        bare: bool = True,
        **options: Any,
    ) -> Evaluation:
        """Let a language model answer the prompts of labelled data, and score the answers beside those of the data.

        Args:
            data: What `evaluate` takes.
            extract: A regular expression for the part of an answer that counts, such as r"#### (.+)".
            score: Given an answer and the wanted one, whether it is right, or how right from 0 to 1.
            bare: Let the bare base answer as well; names of its scores begin with "bare_".
            options: Of `Sampling`.

        Raises:
            NotSupportedError: the adapter does not continue text.
            ConfigError, DataError: options or rows that cannot be used; names the row.
        """
        sampling, task, dataset = Sampling(**options), self.attachment.task, self.load_data(data)
        judge = task.judge(dataset, extract, score)
        with self._at_work():
            own = evaluate_answers(
                task, self.base, dataset, judge, sampling, self.attachment.target_losses, self._ready, self.progress
            )
        if not bare:
            return own
        with self.disabled() as base:
            run = partial(task.target_losses, base, None)
            return beside(own, evaluate_answers(task, base, dataset, judge, sampling, run, alone, self.progress))

    @overload
    def predict(self, inputs: Any, *, keep_features: bool = False) -> Sequence[Any]: ...

    @overload
    def predict(self, inputs: Any, kind: type[Said], *, keep_features: bool = False) -> Sequence[Said]: ...

    def predict(self, inputs: Any, kind: type[Any] = object, *, keep_features: bool = False) -> Sequence[Any]:
        """Predict: one result for each input, of the class that the task has for its predictions.

        Those of our tasks are in `adapterhub_lite.tasks.outputs`; all have `columns()`, which `predict --out` writes.

        Args:
            inputs: A list, array or column of a frame of inputs (texts, images as paths, arrays or PIL images, ...), or
                anything `load_data` reads.
            kind: The class that the results are to be of, such as `Prediction`: type checkers then know what they have.
            keep_features: Take the features that a linear probe reads from the cache, and leave them there.

        Raises:
            NotSupportedError: for a language model, which generates instead.
            ConfigError: the results are of another class than `kind`.
        """
        task = self.attachment.task
        if task.generates:
            raise NotSupportedError("a language model has no labels to predict; use generate")
        dataset = rows_to_predict(task, inputs, partial(self.load_data, require_labels=False))
        if not len(dataset):
            return []
        with self._at_work():  # an adapter may have tokens of its own
            labelled = encode(task, dataset, self.base)
            encoded = Encoded(without_targets(labelled.examples), labelled.notes, labelled.rows)
            for note in (*dataset.notes, *encoded.notes):
                self.progress.say(f"note: {note}")
            logits = predict_logits(self.attachment, encoded, self.progress, keep_features=keep_features)
        predictions = task.predictions(logits, encoded)
        given = type(predictions[0])
        if not issubclass(given, kind):
            raise ConfigError(f"an adapter for {task.name} predicts {given.__name__}, not {kind.__name__}")
        return predictions

    @overload
    def generate(self, prompt: list[Any] | tuple[Any, ...] | Dataset, **options: Any) -> list[str]: ...

    @overload
    def generate(self, prompt: Any, **options: Any) -> str: ...

    def generate(self, prompt: Any, **options: Any) -> str | list[str]:
        """Continue a prompt, or all prompts of a list or a dataset; an adapter trained on chats answers a user's turn.

        The answer to a prompt is the same alone and among others, where the likeliest token is taken each time (which is
        the default) and where tokens are drawn: row i of any list draws from the stream of the seed and i.

        Args:
            prompt: The text, without any template, or an item of a dataset of its task; its own completion is not used.
            options: Those of `Sampling`: max_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, stop, seed
                and at_once.

        Raises:
            NotSupportedError: the adapter does not continue text.
            ConfigError: a prompt or an option that cannot be used.
            DataError: a prompt that leaves no room for an answer; names its row.
        """
        sampling, task = Sampling(**options), self.attachment.task
        with self._at_work():  # an adapter may have tokens of its own
            ids, where = prompts_of(task, self.base, prompt)
            several = isinstance(prompt, (list, tuple, Dataset))
            replies = generate_texts(
                self.base, ids, sampling, ends=task.end_ids(self.base), ready=self._ready, where=where,
                progress=self.progress if several else None,
            )  # fmt: skip
        return replies if several else replies[0]

    def stream(self, prompt: Any, **options: Any) -> Iterator[str]:
        """Continue one prompt in pieces, which together are what `generate` returns for it.

        Between two pieces the base is free for anything else. Arguments and errors are those of `generate`.
        """
        sampling = Sampling(**options)
        with self._at_work():
            ids = self.attachment.task.prompt_ids(prompt, self.base)
            ends = self.attachment.task.end_ids(self.base)
        return stream_text(self.base, ids, sampling, ends=ends, ready=self._ready)

    @contextmanager
    def _ready(self, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        """Mount the adapter to run prompts with it, which its layers may ask for."""
        with self._at_work(), self.attachment.running(BatchContext(inputs)):
            yield

    def use(self) -> None:
        """Make this the adapter that is mounted on the base; the others on it are taken off, not lost."""
        self.base.activate(self.attachment.view)

    @contextmanager
    def disabled(self) -> Iterator[Base]:
        """Give the bare base for the length of a `with` block, for which other threads wait."""
        with self.base.lock:
            self.base.activate(None)
            before, self.base.kept_bare = self.base.kept_bare, True
            try:
                yield self.base
            finally:
                self.base.kept_bare = before
                self.use()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Mount the adapter, which stays mounted; but within a `with` block of `disabled` the base is bare again."""
        with self.base.lock:
            self.use()
            try:
                yield
            finally:
                if self.base.kept_bare:
                    self.base.activate(None)

    def detach(self) -> None:
        """Take the adapter off for good; the base is bit for bit what it was."""
        with self.base.lock:
            self.attachment.detach()

    def save(self, path: str | Path, *, keep: int = KEEP) -> Manifest:
        """Write the adapter to a directory, in one atomic step; an adapter that is there is replaced.

        Args:
            path: The directory.
            keep: How many versions that were replaced are kept, for `adapterhub-lite rollback`.

        Raises:
            StorageError: the directory cannot be written, or holds something else; it is as it was.
            ConfigError: no path, or no number of versions.
        """
        if not isinstance(path, (str, Path)) or type(keep) is not int or keep < 0:
            raise ConfigError(f"save takes a path and a number of versions, not {path!r:.80} and {keep!r:.80}")
        with self.base.lock:
            manifest = save_adapter(
                self.attachment, Path(path), task=self.task_record(), data=self.data, training=self.training,
                metrics=self.metrics, forced=self.forced, probe_inputs=self.probe_inputs, run_file=self.run_file, keep=keep,
            )  # fmt: skip
            saved = {"path": Path(path), "manifest": manifest.model_dump(mode="json")}
            Observers(self.plugins).notify("adapterhub_adapter_saved", saved)
        if self.run_folder is not None:
            facts = {"adapter": str(path), "metrics": manifest.metrics, "training": manifest.training}
            finish_run(self.run_folder, facts, keep=bool(self.training.get("checkpoint_every")))
        return manifest

    def accompany_saving(self) -> None:
        """Run what `save` runs on a sharded base, in the processes that do not write: all of them have to."""
        if self.base.shards is not None:
            self.use()
            probe_record(self.attachment, self.probe_inputs)
