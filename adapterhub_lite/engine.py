"""The engine: plug-ins, bases, data, training and loading, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.evaluation import evaluate_bare
from adapterhub_lite.adapter.parent import Asked, Parent
from adapterhub_lite.adapter.read import parts_of
from adapterhub_lite.adapter.recorded import recorded_adapter
from adapterhub_lite.adapter.restore import restore
from adapterhub_lite.adapter.train import train_adapter
from adapterhub_lite.auditing.quick import warn
from adapterhub_lite.base.differences import explain_architecture
from adapterhub_lite.base.foreign import foreign_bases
from adapterhub_lite.base.loaded import LoadedBases
from adapterhub_lite.base.loading import Base, load_base
from adapterhub_lite.base.references import parse_scratch
from adapterhub_lite.base.scratch import with_random_weights
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.errors import BaseNotFoundError, ConfigError, NotSupportedError
from adapterhub_lite.evaluation.result import Evaluation
from adapterhub_lite.interrupt import Interrupt, listener, safe_point
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.shelf import strategy_shelf
from adapterhub_lite.plugins.spec import ProvidedStrategy
from adapterhub_lite.plugins.strategy_call import is_out_of_memory
from adapterhub_lite.progress import Lines, Progress, shown, silenced
from adapterhub_lite.storage import BaseRecord, TaskRecord, check_base
from adapterhub_lite.storage.bundle import open_any
from adapterhub_lite.storage.public import local_reference
from adapterhub_lite.tasks.catalog import Catalog, read_data
from adapterhub_lite.tasks.make import recorded_task, settled_task
from adapterhub_lite.tasks.task import Task
from adapterhub_lite.training.checks import CheckedRun, check_arguments, check_run
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.run.place import Place


class Engine:
    """Everything with one set of plug-ins. The functions of the package use one engine made on first use.

    Args:
        plugins: The plug-ins to use; the installed ones by default.
        progress: Where to show what is being done; by default as `Lines` does, and nowhere where it is False.
    """

    def __init__(self, plugins: Plugins | None = None, progress: Progress | bool = True):
        self.plugins = plugins if plugins is not None else Plugins()
        self.strategy_shelf = strategy_shelf(self.plugins)
        self.task_shelf = Catalog(self.plugins)
        self.progress: Progress = shown(Lines(), progress) if isinstance(progress, bool) else progress
        self._loaded = LoadedBases()

    def load_base(
        self,
        reference: str | Path,
        *,
        quantization: str = "none",
        dtype: str = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
        progress: bool = True,
    ) -> Base:
        """Load a foundation model, frozen; see `adapterhub_lite.base.loading.load_base`.

        `scratch:SEED:REFERENCE` gives the model of that reference with random weights, as a control.

        Raises:
            NotSupportedError: it does not fit into memory, among the reasons given there.
            ConfigError: no reference.
        """
        if not isinstance(reference, (str, Path)):
            raise ConfigError(f"the base is a {type(reference).__name__}; give its reference as text, or its folder")
        reference = str(reference)
        scratch = parse_scratch(reference)
        try:
            base = load_base(
                scratch[1] if scratch is not None else reference,
                quantization=quantization,
                dtype=dtype,
                device=device,
                trust_remote_code=trust_remote_code,
                foreign=foreign_bases(self.plugins),
                report=shown(self.progress, progress).say,
            )
            safe_point()
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
        format: str | None = None,
        no_header: bool = False,
        encoding: str | None = None,
        quoting: str | None = None,
    ) -> Dataset:
        """Read and check labelled data for a task; see `read_data`, and `FileOptions` for what the last four say of a file."""
        files = FileOptions.of({"format": format, "no_header": no_header, "encoding": encoding, "quoting": quoting})
        return read_data(self.task_shelf, source, task, columns=columns, labels=labels, options=options, files=files)

    def train(
        self,
        base: Base,
        data: Dataset,
        *,
        strategy: str | None = None,
        settings: Mapping[str, Any] | None = None,
        eval_data: Any = None,
        hold_out: float | None = None,
        config: TrainConfig | None = None,
        task_options: Mapping[str, Any] | None = None,
        run_folder: str | Path | None = None,
        resume: bool = False,
        run_file: str | None = None,
        interrupt: Interrupt | None = None,
        callbacks: Sequence[object] = (),
        from_adapter: str | Path | None = None,
        progress: bool = True,
    ) -> Adapter:
        """Adapt a base to a task.

        Args:
            base: From `load_base`. It is not changed; the adapter sits on it.
            data: From `load_data`.
            strategy: Name of an installed strategy; by default "lora", or that of `from_adapter`.
            settings: The strategy's options.
            eval_data: Held-out data, scored after training and every `config.eval_every` steps; the last scores are
                saved with the adapter.
            hold_out: Without `eval_data`, the share of `data` that is kept apart to score on and to choose a step by,
                0 for none; by default a tenth, of 200 rows and more.
            config: Epochs, batch size, learning rate and so on. What is not given is chosen from the data, and said.
            task_options: The task's options, such as max_length, over those the data was read with.
            run_folder: Where log and checkpoints go; see `adapterhub_lite.training.run.folder`.
            resume: Go on with the run in that folder, exactly where it stopped, if there is one.
            run_file: The run as YAML, to be kept in that folder.
            interrupt: Says when to stop; the run can then be resumed. By default what listens to signals now, if anything.
            callbacks: Objects that look on, with methods named as the hooks of a run (`adapterhub_step_end` and so on).
            from_adapter: A saved adapter to go on with, on its base, with its strategy and options. Labels that it does not
                know come behind its own, whose rows of the head start as they are.
            progress: Show the work; False says nothing, and neither does the adapter afterwards.

        Raises:
            StrategyNotFoundError, ConfigError: an unknown strategy or option, or a run to be resumed that is another one.
            NotSupportedError: strategy, task and base do not go together.
            TrainingError: the run cannot go on.
        """
        check_arguments(base, data, eval_data, hold_out, config, run_folder, resume=resume)
        engine = self if progress else silenced(self)
        parent = Parent.open(from_adapter) if from_adapter is not None else None
        asked = Asked(data.task, strategy, settings or {}, {**data.options, **(task_options or {})})
        asked = asked if parent is None else parent.completed(asked)
        run = check_run(
            self.strategy_shelf, self.task_shelf, strategy=asked.strategy or "lora", settings=asked.settings,
            task=data.task, task_options=asked.task_options, config=config or TrainConfig(), quantization=base.quantization,
            held_out=eval_data is not None or hold_out != 0, picks_step=eval_data is None,
        )  # fmt: skip
        place = Place(Path(run_folder) if run_folder is not None else None, resume, run_file, interrupt or listener())
        like = data if parent is None or eval_data is None else parent.relabelled(data)
        data, held_out = parts_of(data, eval_data, hold_out, run.config, self.task_shelf, engine.progress, like=like)
        warn(data, held_out, run.task.spec.modality, engine.progress)
        adapter = engine.train_checked(base, data, held_out, run, place, callbacks, parent)
        for note in adapter.notes:
            engine.progress.say(f"note: {note}")
        engine.finished(adapter, data, held_out)
        return adapter

    def finished(self, adapter: Adapter, data: Dataset, held_out: Dataset | None) -> None:
        """Called at the end of `train` with what it learnt from and was scored on; here there is nothing more to do."""

    def train_checked(
        self,
        base: Base,
        data: Dataset,
        held_out: Dataset | None,
        run: CheckedRun,
        place: Place,
        callbacks: Sequence[object] = (),
        parent: Parent | None = None,
        settled_on: Dataset | None = None,
    ) -> Adapter:
        """Adapt a base to a task, as `train` does once strategy, task and options are checked.

        The base has the quantization that was checked, and `place` says where the run is recorded and who may stop it;
        `settled_on` as for `train_adapter`.

        Raises:
            ConfigError, NotSupportedError, TrainingError: as `train`.
        """
        with base.lock:
            main = Processes().is_main  # the others look on in silence
            observers = Observers(self.plugins, callbacks) if main else Observers(None)
            error: BaseException | None = None
            metrics: dict[str, float] = {}
            try:
                adapter = train_adapter(
                    base, data, held_out, run, place, parent, strategies=self.strategy_shelf, tasks=self.task_shelf,
                    plugins=self.plugins, observers=observers, progress=self.progress, settled_on=settled_on,
                )  # fmt: skip
                learnt = {name: adapter.training[name] for name in ("train_loss",) if name in adapter.training}
                metrics = {**learnt, **adapter.metrics}
                return adapter
            except BaseException as raised:
                error = raised
                raise
            finally:
                observers.end(error, metrics)

    def task_for(self, base: Base, data: Dataset, options: Mapping[str, Any] | None = None) -> Task:
        """The task of a dataset on a base, its preprocessing settled; `options` go over those the data was read with.

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
        progress: bool = True,
    ) -> Adapter:
        """Load a saved adapter onto its base.

        Args:
            path: The adapter's directory, or a bundle of it.
            base: A loaded base, or a reference; by default the one recorded in the adapter. Adapters that are loaded without
                one share it.
            dtype: What to compute in; by default what the adapter was trained in.
            device: Where, if the base is not loaded yet.
            force: Accept a base that differs from the one of training; recorded in whatever is saved afterwards.
            progress: Show the work; False says nothing, and neither does the adapter afterwards.

        Raises:
            AdapterNotFoundError, AdapterCorruptError: nothing there, or not what was saved.
            StrategyNotFoundError: the strategy's plug-in is not installed.
            BaseMismatchError: another base; names what differs.
        """
        if not progress:
            return silenced(self).load_adapter(path, base=base, dtype=dtype, device=device, force=force)
        stored, payload = open_any(Path(path))
        manifest, made_by = stored.manifest, stored.manifest.strategy
        provided = self.strategy_shelf.resolve(made_by.name, dist=made_by.dist, version=made_by.version)
        options = self.strategy_shelf.configure(provided, made_by.config)
        task = self.recorded_task(manifest.task)
        base, differences = self.base_for(manifest.base, base, dtype=dtype, device=device, force=force)
        for difference in differences:
            self.progress.say(f"warning: {difference}")
        probes = [task.item_of_probe(value) for value in manifest.probe.inputs] if manifest.probe is not None else []
        strategy = self.strategy_shelf.load(provided)
        with base.lock:
            attachment = restore(base, task, provided, strategy, options, stored, payload)
        return recorded_adapter(
            attachment, self.plugins, self.progress, manifest,
            differences=differences if force else [], probe_inputs=probes,
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
        if not isinstance(base, Base):
            if base is not None and not isinstance(base, (str, Path)):
                raise ConfigError(f"base is a {type(base).__name__}; give a loaded base, or its reference")
            given = str(base) if base is not None else None
            try:
                base = self._loaded.shared(
                    given if given is not None else local_reference(record),
                    record,
                    dtype or record.dtype,
                    device,
                    self.load_base,
                )
            except BaseNotFoundError as error:
                if given is not None:
                    raise
                raise BaseNotFoundError(
                    f"the base that the adapter records: {error}; or give it with --base"
                ) from error
        explain = partial(explain_architecture, record, base.model)
        differences = check_base(
            record, base.fingerprint, base.quantization, base.reference, force=force, explain=explain
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
        return evaluate_bare(base, task, data, self.progress)

    def strategies(self) -> list[ProvidedStrategy]:
        """Every strategy that can be used, by name."""
        return sorted(self.plugins.strategies, key=lambda provided: provided.spec.name)
