"""The engine: plug-ins, bases, data, training and loading, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from adapterhub_lite.adapter.adapter import Adapter, Evaluation
from adapterhub_lite.adapter.read import read_like
from adapterhub_lite.adapter.restore import restore
from adapterhub_lite.base.differences import explain_architecture
from adapterhub_lite.base.loading import Base, Foreign, load_base
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.references import parse_scratch
from adapterhub_lite.base.scratch import with_random_weights
from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.shelf import strategy_shelf
from adapterhub_lite.plugins.spec import ProvidedStrategy
from adapterhub_lite.progress import Lines, Progress
from adapterhub_lite.storage import BaseRecord, DataRecord, TaskRecord, check_base
from adapterhub_lite.storage.bundle import open_any
from adapterhub_lite.tasks.catalog import read_data, task_shelf
from adapterhub_lite.tasks.make import recorded_task, settled_task
from adapterhub_lite.tasks.rows import encode, rows_of
from adapterhub_lite.tasks.task import Encoded, Task
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.checks import CheckedRun, check_run
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.evaluate import score_language_model
from adapterhub_lite.training.interrupt import Interrupt
from adapterhub_lite.training.loop import Training
from adapterhub_lite.training.out_of_memory import is_out_of_memory
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.randomness import seeded
from adapterhub_lite.training.run.place import Place, opened
from adapterhub_lite.training.sharded_base import shard_base
from adapterhub_lite.training.solve import find_solver, solve_adapter, start_head

PROBES = 3


class Engine:
    """Everything with one set of plug-ins. The functions of the package use one engine made on first use.

    Args:
        plugins: The plug-ins to use; the installed ones by default.
        progress: Where to show what is being done; standard error by default.
    """

    def __init__(self, plugins: Plugins | None = None, progress: Progress | None = None):
        self.plugins = plugins if plugins is not None else Plugins()
        self.strategy_shelf = strategy_shelf(self.plugins)
        self.task_shelf = task_shelf(self.plugins)
        self.progress: Progress = progress if progress is not None else Lines()

    def load_base(
        self,
        reference: str,
        *,
        quantization: str = "none",
        dtype: str = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> Base:
        """Load a foundation model, frozen; see `adapterhub_lite.base.loading.load_base`.

        `scratch:SEED:REFERENCE` gives the model of that reference with random weights, as a control.

        Raises:
            NotSupportedError: it does not fit into memory, among the reasons given there.
        """
        scratch = parse_scratch(reference)
        try:
            base = load_base(
                scratch[1] if scratch is not None else reference,
                quantization=quantization,
                dtype=dtype,
                device=device,
                trust_remote_code=trust_remote_code,
                foreign=Foreign(self._load_foreign, self._configure_foreign, self._describe_foreign),
                report=self.progress.say,
            )
            return with_random_weights(base, scratch[0]) if scratch is not None else base
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            advice = "--quantize nf4, " if quantization == "none" else ""
            raise NotSupportedError(
                f"out of memory while loading '{reference}'; use {advice}--device cpu, or a smaller base"
            ) from error

    def load_data(
        self,
        source: Any,
        task: str,
        *,
        columns: Mapping[str, str] | None = None,
        labels: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Read and check labelled data for a task, ours or a plug-in's; see `adapterhub_lite.tasks.load_data`."""
        return read_data(self.task_shelf, source, task, columns=columns, labels=labels, options=options)

    def train(
        self,
        base: Base,
        data: Dataset,
        *,
        strategy: str = "lora",
        settings: Mapping[str, Any] | None = None,
        eval_data: Any = None,
        config: TrainConfig | None = None,
        task_options: Mapping[str, Any] | None = None,
        run_folder: str | Path | None = None,
        resume: bool = False,
        run_file: str | None = None,
        interrupt: Interrupt | None = None,
    ) -> Adapter:
        """Adapt a base to a task.

        Args:
            base: From `load_base`. It is not changed; the adapter sits on it.
            data: From `load_data`.
            strategy: Name of an installed strategy.
            settings: The strategy's options.
            eval_data: Held-out data, scored after training and every `config.eval_every` steps; the last scores are
                saved with the adapter.
            config: Epochs, batch size, learning rate and so on.
            task_options: The task's options, such as max_length, over those the data was read with.
            run_folder: Where log and checkpoints go; see `adapterhub_lite.training.run.folder`.
            resume: Go on with the run in that folder, exactly where it stopped, if there is one.
            run_file: The run as YAML, to be kept in that folder.
            interrupt: Says when to stop; the run can then be resumed.

        Raises:
            StrategyNotFoundError, ConfigError: an unknown strategy or option, or a run to be resumed that is another one.
            NotSupportedError: strategy, task and base do not go together.
            TrainingError: the run cannot go on.
        """
        run = check_run(
            self.strategy_shelf,
            self.task_shelf,
            strategy=strategy,
            settings=settings or {},
            task=data.task,
            task_options={**data.options, **(task_options or {})},
            config=config or TrainConfig(),
            quantization=base.quantization,
            held_out=eval_data is not None,
        )
        place = Place(Path(run_folder) if run_folder is not None else None, resume, run_file, interrupt or Interrupt())
        return self.train_checked(base, data, self._held_out(eval_data, data), run, place)

    def train_checked(
        self, base: Base, data: Dataset, held_out: Dataset | None, run: CheckedRun, place: Place
    ) -> Adapter:
        """Adapt a base to a task, as `train` does once strategy, task and options are checked.

        Args:
            base: From `load_base`, of the quantization that was checked.
            data: What is learnt from.
            held_out: What is scored on.
            run: Strategy, task and options.
            place: Where the run is recorded, and who may stop it.

        Raises:
            ConfigError: a run to be resumed that is another one.
            NotSupportedError: strategy, task and base do not go together.
            TrainingError: the run cannot go on.
        """
        task = settled_task(self.task_shelf, run.task, base, data, run.task_options)
        for note in data.notes:
            self.progress.say(f"note: {note}")
        for note in [note for note in held_out.notes if note not in data.notes] if held_out is not None else ():
            self.progress.say(f"note, held-out data: {note}")
        shared = _shared_rows(data, held_out) if held_out is not None else 0
        if held_out is not None and shared:
            self.progress.say(
                f"warning: the evaluation data ({held_out.source}) has {counted(shared, 'row')} that the training data "
                "has as well; scores on them say nothing about new data"
            )
        loaded = self.strategy_shelf.load(run.strategy)
        with seeded(run.config.seed, base.device):
            attachment = attach(base, task, run.strategy, loaded, run.settings)
            try:
                encoded = encode(task, data, base, learn=True)
                for note in encoded.notes:
                    self.progress.say(f"note: {note}")
                facts = self._fit(attachment, encoded, run.config, held_out, place)
            except BaseException:
                attachment.detach()
                raise
        adapter = Adapter(
            attachment,
            self.plugins,
            self.progress,
            data=DataRecord(source=data.source, sha256=data.sha256, rows=len(data)),
            training=facts,
            columns=dict(data.columns),
            probe_inputs=list(data.inputs[:PROBES]),
            run_file=place.run_file,
            run_folder=place.folder,
        )
        if held_out is not None:
            evaluation = adapter.evaluate(held_out, Processes())
            adapter.metrics = evaluation.record()
        return adapter

    def task_for(self, base: Base, data: Dataset, options: Mapping[str, Any] | None = None) -> Task:
        """The task of a dataset on a base, its preprocessing settled.

        Args:
            base: What it will run on.
            data: What it will learn from.
            options: The task's options, over those the data was read with.

        Raises:
            ConfigError, NotSupportedError: options or data that this base cannot follow.
        """
        provided = self.task_shelf.resolve(data.task)
        settled = self.task_shelf.configure(provided, {**data.options, **(options or {})})
        return settled_task(self.task_shelf, provided, base, data, settled)

    def recorded_task(self, record: TaskRecord) -> Task:
        """The task of a saved adapter; see `adapterhub_lite.tasks.make.recorded_task`."""
        return recorded_task(self.task_shelf, record)

    def load_adapter(
        self,
        path: str | Path,
        *,
        base: Base | str | None = None,
        dtype: str | None = None,
        device: str = "auto",
        force: bool = False,
    ) -> Adapter:
        """Load a saved adapter onto its base.

        Args:
            path: The adapter's directory, or a bundle of it.
            base: A loaded base, or a reference; by default the one recorded in the adapter.
            dtype: What to compute in; by default what the adapter was trained in.
            device: Where, if the base is not loaded yet.
            force: Accept a base that differs from the one of training; recorded in whatever is saved afterwards.

        Raises:
            AdapterNotFoundError, AdapterCorruptError: nothing there, or not what was saved.
            StrategyNotFoundError: the strategy's plug-in is not installed.
            BaseMismatchError: another base; names what differs.
        """
        stored, payload = open_any(Path(path))
        manifest = stored.manifest
        made_by = manifest.strategy
        provided = self.strategy_shelf.resolve(made_by.name, dist=made_by.dist, version=made_by.version)
        options = self.strategy_shelf.configure(provided, manifest.strategy.config)
        base, differences = self.base_for(manifest.base, base, dtype=dtype, device=device, force=force)
        for difference in differences:
            self.progress.say(f"warning: {difference}")
        task = self.recorded_task(manifest.task)
        probes = [task.item_of_probe(value) for value in manifest.probe.inputs] if manifest.probe is not None else []
        attachment = restore(base, task, provided, self.strategy_shelf.load(provided), options, stored, payload)
        overridden = differences if force else []
        return Adapter.recorded(
            attachment, self.plugins, self.progress, manifest, differences=overridden, probe_inputs=probes
        )  # fmt: skip

    def base_for(
        self,
        record: BaseRecord,
        base: Base | str | None,
        *,
        dtype: str | None = None,
        device: str = "auto",
        force: bool = False,
    ) -> tuple[Base, list[str]]:
        """The base for a saved adapter, checked to be the one of training.

        Args:
            record: What the adapter records of its base.
            base: A loaded base or a reference to use instead of the recorded one.
            dtype: What to compute in; by default as recorded.
            device: Where, if it is not loaded yet.
            force: Return differences that matter instead of raising.

        Returns:
            The base, and how it differs.

        Raises:
            BaseMismatchError: another base; names what differs.
        """
        if base is None or isinstance(base, str):
            base = self.load_base(
                base or record.reference,
                quantization=record.quantization,
                dtype=dtype or record.dtype,
                device=device,
            )
        differences = check_base(
            record,
            base.fingerprint,
            base.quantization,
            base.reference,
            force=force,
            explain=partial(explain_architecture, record, base.model),
        )
        return base, differences

    def evaluate_base(self, base: Base, data: Dataset, *, task_options: Mapping[str, Any] | None = None) -> Evaluation:
        """Score a bare language model: what an adapter has to beat.

        Raises:
            NotSupportedError: for a task whose head has to be trained first.
        """
        task = self.task_for(base, data, task_options)
        if not task.generates:
            raise NotSupportedError(
                f"a base has no head for {data.task} before it is trained; try strategy linear_probe"
            )
        encoded = encode(task, data, base)
        base.activate(None)
        metrics, intervals = score_language_model(
            base, task, lambda batch: task.logits(base, None, batch), encoded, self.progress, intervals=True
        )
        return Evaluation(len(encoded.examples), metrics, encoded.notes, intervals)

    def strategies(self) -> list[ProvidedStrategy]:
        """Every strategy that can be used, by name."""
        return sorted(self.plugins.strategies, key=lambda provided: provided.spec.name)

    def _load_foreign(self, reference: str, quantization: str) -> nn.Module | None:
        """Ask the plug-ins for a base that the core cannot load."""
        given = {"ref": reference, "quantization": quantization}
        answer: nn.Module | None = self.plugins.first_result("adapterhub_load_base", given, nn.Module, "a torch module")
        return answer

    def _configure_foreign(self, config: Mapping[str, Any]) -> Any:
        """Ask the plug-ins for the configuration of a model that transformers would make otherwise, or not at all."""
        from transformers import PretrainedConfig

        given = {"config": config}
        return self.plugins.first_result("adapterhub_base_config", given, PretrainedConfig, "a PretrainedConfig")

    def _describe_foreign(self, model: nn.Module) -> ModelMap | None:
        """Ask the plug-ins for the map of a model that introspection gets wrong."""
        given = {"model": model}
        answer: ModelMap | None = self.plugins.first_result("adapterhub_describe_model", given, ModelMap, "a ModelMap")
        return answer

    def _held_out(self, eval_data: Any, data: Dataset) -> Dataset | None:
        if eval_data is None or isinstance(eval_data, Dataset):
            return eval_data
        return read_like(self.task_shelf, data, eval_data)

    def _fit(
        self, attachment: Attachment, data: Encoded, config: TrainConfig, held_out: Dataset | None, place: Place
    ) -> dict[str, Any]:
        if config.shard:
            shard_base(attachment, Processes())
        scored = encode(attachment.task, held_out, attachment.base) if held_out is not None else None
        for note in scored.notes if scored is not None else ():
            self.progress.say(f"note, held-out data: {note}")
        with opened(place, attachment, config, data, scored, self.progress) as folder:
            if isinstance(attachment.strategy, Solver):
                return solve_adapter(
                    attachment, attachment.strategy, data, config, Observers(self.plugins), self.progress
                )
            if config.start_head == "probe":
                self._start_head(attachment, data, config)
            training = Training(
                attachment, data, config, self.progress, Observers(self.plugins),
                held_out=scored, folder=folder, interrupt=place.interrupt,
            )  # fmt: skip
            return training.run().facts(config)

    def _start_head(self, attachment: Attachment, data: Encoded, config: TrainConfig) -> None:
        provided, probe = find_solver(self.strategy_shelf)
        given = {} if config.start_penalty is None else {"penalty": config.start_penalty}
        options = self.strategy_shelf.configure(provided, given)
        start_head(attachment, probe, options, data, config, self.progress)


def _shared_rows(one: Dataset, other: Dataset) -> int:
    """How many rows of a file two datasets have in common; files are the same whose bytes are."""
    if not one.sha256 or one.sha256 != other.sha256:
        return 0
    return len(set(rows_of(one)) & set(rows_of(other)))
