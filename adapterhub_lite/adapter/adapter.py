"""A trained adapter on its base: predict, evaluate, generate, switch, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, overload

from adapterhub_lite.adapter.evaluation import beside, evaluate_answers
from adapterhub_lite.adapter.generate import alone, generate_texts, stream_text
from adapterhub_lite.adapter.inputs import prompts_of, require_alike, rows_to_predict
from adapterhub_lite.adapter.probe import probe_record
from adapterhub_lite.adapter.read import read_for
from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.adapter.save import save_adapter
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.options import FileFacts
from adapterhub_lite.data.roles.columns import shortened
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.evaluation.choices import choose_without_rows
from adapterhub_lite.evaluation.predictions import Predictions, RowOutputs, Said, outputs_of
from adapterhub_lite.evaluation.result import Evaluation
from adapterhub_lite.evaluation.rows import evaluate_rows
from adapterhub_lite.names import scores_shown
from adapterhub_lite.notebook import table
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.progress import Lines, Progress, shown
from adapterhub_lite.scoring.rules import Choices
from adapterhub_lite.storage import KEEP, DataRecord, Manifest, TaskRecord
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.run.layout import finish_run


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
    scored: Evaluation | None = None
    """What `metrics` are of, with the rows, where it was scored in this process; not saved."""

    def __repr__(self) -> str:
        kind, task = self.attachment.provided.spec.name, self.attachment.task.name
        return f"<Adapter {kind} for {task} on {self.base.reference}: {self.trainable:,} trained weights>"

    def _repr_html_(self) -> str:
        """What it is, in a notebook."""
        labels = [("labels", shortened(self.labels))] if self.labels else []
        return table(str(self).strip("<>"), [*labels, *scores_shown(self.metrics)])

    @property
    def base(self) -> Base:
        """The base it is on."""
        return self.attachment.base

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs; empty for a language model."""
        return self.attachment.task.labels

    @property
    def notes(self) -> list[str]:
        """What a person should know of the run that made it, such as that its loss was still falling."""
        return list(self.training.get("notes", []))

    @property
    def trainable(self) -> int:
        """Number of trained weights."""
        return sum(tensor.numel() for tensor in self.attachment.tensors.values())

    def load_data(
        self, source: Any, *, require_labels: bool = True, keep_unknown: bool = False, files: FileFacts = None
    ) -> Dataset:
        """Read data for this adapter's task, with its columns and labels.

        Args:
            source: What `ah.load_data` takes.
            require_labels: False for prediction.
            keep_unknown: Keep labels the adapter was not trained on, named in the dataset's `unknown`.
            files: What is said of the file beside its name, as in {"no_header": True}; the rest as in training.

        Raises:
            DataError: bad data, or a label the adapter was not trained on; names file, row and column.
        """
        if isinstance(source, Dataset):
            require_alike(self.attachment.task, source)
            return source
        return read_for(
            self.task_record(), source, plugins=self.plugins, require_labels=require_labels, keep_unknown=keep_unknown,
            files=files,
        )  # fmt: skip

    def task_record(self) -> TaskRecord:
        """The task as it is written into the manifest."""
        task = self.attachment.task
        return TaskRecord(
            name=task.name,
            labels=list(task.labels),
            columns=self.columns,
            files=self.files,
            preprocessing=task.preprocessing.record(),
            decision=task.decision,
        )

    def evaluate(
        self, data: Any, processes: Processes | None = None, choices: Choices | None = None, *, progress: bool = True
    ) -> Evaluation:
        """Score the adapter on labelled data: a `Dataset`, or anything `load_data` reads.

        Args:
            data: What it is scored on. Rows with labels that the adapter does not know are counted, listed, and wrong.
            processes: Those that all call this and share the work; each gets the scores of the whole.
            choices: What is chosen on these rows before they are scored.
            progress: Show the work; False says nothing.
        """
        dataset = self.load_data(data, keep_unknown=True)
        with self.attachment.at_work():  # an adapter may have tokens of its own
            return evaluate_rows(self.attachment, dataset, shown(self.progress, progress), processes, choices)

    def choose(self, data: Any = None, **rules: Any) -> Evaluation | None:
        """Choose on labelled rows what is answered, as in `choose("held_out.csv", abstain="precision=0.95")`.

        Predictions and scores follow it from now on, and it is saved with the adapter, beside the scores of rows that were
        left out of choosing: those that are returned, on the rows that were chosen on, flatter.

        Args:
            data: Rows that were not trained on; not needed for "threshold=" and "off". The scores on them are returned.
            rules: Of `Choices.of`: abstain, label_thresholds, calibrate.

        Raises:
            ConfigError, DataError: no rule, one that is not for this task, or one that these rows do not allow.
        """
        choices = Choices.of(**rules)
        if data is not None:
            return self.evaluate(data, choices=choices)
        choose_without_rows(self.attachment.task, choices)
        return None

    def evaluate_answers(
        self,
        data: Any,
        *,
        extract: str | None = None,
        score: Callable[[str, str], Any] | None = None,
        bare: bool = True,
        progress: bool = True,
        **options: Any,
    ) -> Evaluation:
        """Let a language model answer the prompts of labelled data, and score the answers beside those of the data.

        Args:
            data: What `evaluate` takes.
            extract: A regular expression for the part of an answer that counts, such as r"#### (.+)".
            score: Given an answer and the wanted one, whether it is right, or how right from 0 to 1.
            bare: Let the bare base answer as well; names of its scores begin with "bare_".
            progress: Show the work; False says nothing.
            options: Of `Sampling`.

        Raises:
            NotSupportedError: the adapter does not continue text.
            ConfigError, DataError: options or rows that cannot be used; names the row.
        """
        sampling, task, dataset = Sampling(**options), self.attachment.task, self.load_data(data)
        judge, bars = task.judge(dataset, extract, score), shown(self.progress, progress)
        with self.attachment.at_work():
            own = evaluate_answers(
                task, self.base, dataset, judge, sampling, self.attachment.target_losses, self.attachment.ready, bars
            )
        if not bare:
            return own
        with self.disabled() as base:
            run = partial(task.target_losses, base, None)
            return beside(own, evaluate_answers(task, base, dataset, judge, sampling, run, alone, bars))

    @overload
    def predict(self, inputs: Any, *, keep_features: bool = False, progress: bool = True) -> Predictions[Any]: ...

    @overload
    def predict(
        self, inputs: Any, kind: type[Said], *, keep_features: bool = False, progress: bool = True
    ) -> Predictions[Said]: ...

    def predict(
        self, inputs: Any, kind: type[Any] = object, *, keep_features: bool = False, progress: bool = True
    ) -> Predictions[Any]:
        """Predict: a list with one result for each input, of the class that the task has for its predictions.

        Those of our tasks are in `adapterhub_lite.tasks.outputs`; all have `columns()`, which `predict --out` writes. The list
        has `to_pandas()`.

        Args:
            inputs: A list, array or column of a frame of inputs (texts, images as paths, arrays or PIL images, ...), or
                anything `load_data` reads.
            kind: The class that the results are to be of, such as `Prediction`: type checkers then know what they have.
            keep_features: Take the features that a linear probe reads from the cache, and leave them there.
            progress: Show the work; False says nothing.

        Raises:
            NotSupportedError: for a language model, which generates instead.
            ConfigError: the results are of another class than `kind`.
        """
        outputs = self.outputs(inputs, keep_features=keep_features, progress=progress)
        return Predictions() if outputs is None else outputs.predictions(kind)

    def outputs(self, inputs: Any, *, keep_features: bool = False, progress: bool = True) -> RowOutputs | None:
        """Run the adapter on what `predict` takes: what becomes predictions, or columns of more rows than objects fit.

        Returns:
            None where there are no inputs.

        Raises:
            NotSupportedError: as `predict`.
        """
        task = self.attachment.task
        if task.generates:
            raise NotSupportedError("a language model has no labels to predict; use generate")
        dataset = rows_to_predict(task, inputs, partial(self.load_data, require_labels=False))
        if not len(dataset):
            return None
        with self.attachment.at_work():  # an adapter may have tokens of its own
            return outputs_of(self.attachment, dataset, shown(self.progress, progress), keep_features=keep_features)

    @overload
    def generate(
        self, prompt: list[Any] | tuple[Any, ...] | Dataset, *, progress: bool = True, **options: Any
    ) -> list[str]: ...

    @overload
    def generate(self, prompt: Any, *, progress: bool = True, **options: Any) -> str: ...

    def generate(self, prompt: Any, *, progress: bool = True, **options: Any) -> str | list[str]:
        """Continue a prompt, or all prompts of a list or a dataset; an adapter trained on chats answers a user's turn.

        The answer to a prompt is the same alone and among others, where the likeliest token is taken each time (which is
        the default) and where tokens are drawn: row i of any list draws from the stream of the seed and i.

        Args:
            prompt: The text, without any template, or an item of a dataset of its task; its own completion is not used.
            progress: Show the work on several; False says nothing.
            options: Those of `Sampling`: max_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, stop, seed
                and at_once.

        Raises:
            NotSupportedError: the adapter does not continue text.
            ConfigError: a prompt or an option that cannot be used.
            DataError: a prompt that leaves no room for an answer; names its row.
        """
        sampling, task = Sampling(**options), self.attachment.task
        with self.attachment.at_work():  # an adapter may have tokens of its own
            ids, where = prompts_of(task, self.base, prompt)
            several = isinstance(prompt, (list, tuple, Dataset))
            replies = generate_texts(
                self.base, ids, sampling, ends=task.end_ids(self.base), ready=self.attachment.ready, where=where,
                progress=shown(self.progress, progress and several),
            )  # fmt: skip
        return replies if several else replies[0]

    def stream(self, prompt: Any, **options: Any) -> Iterator[str]:
        """Continue one prompt in pieces, which together are what `generate` returns for it.

        Between two pieces the base is free for anything else. Arguments and errors are those of `generate`.
        """
        sampling = Sampling(**options)
        with self.attachment.at_work():
            ids = self.attachment.task.prompt_ids(prompt, self.base)
            ends = self.attachment.task.end_ids(self.base)
        return stream_text(self.base, ids, sampling, ends=ends, ready=self.attachment.ready)

    @property
    def active(self) -> bool:
        """Whether it is mounted on its base; set it to mount it or take it off. What it is asked, it mounts itself for."""
        return self.base.active is self.attachment.view

    @active.setter
    def active(self, wanted: bool) -> None:
        with self.base.lock:
            if wanted or self.active:
                self.base.activate(self.attachment.view if wanted else None)

    def use(self) -> None:
        """Make this the adapter that is mounted on the base; the others on it are taken off, not lost."""
        self.base.activate(self.attachment.view)

    def disabled(self) -> AbstractContextManager[Base]:
        """Give the bare base for the length of a `with` block, for which other threads wait."""
        return self.attachment.without()

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
