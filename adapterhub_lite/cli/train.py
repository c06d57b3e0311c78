"""`adapterhub-lite train`: checks a whole run without loading a model, then trains and saves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, Field
from rich.text import Text

from adapterhub_lite.adapter.parent import Asked, Parent
from adapterhub_lite.base.references import parse_scratch, resolve, scratch_reference
from adapterhub_lite.cli.options import AsJson, NamedColumns, columns_by_role
from adapterhub_lite.cli.output import command_line, plain_console, print_json, say_columns, scores_in_words
from adapterhub_lite.cli.run_file import RunFile, read_run
from adapterhub_lite.errors import DataError
from adapterhub_lite.interrupt import listener
from adapterhub_lite.names import Flag, human_size
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.shelf import strategy_shelf
from adapterhub_lite.storage import MANIFEST, adapter_size, check_writable_target
from adapterhub_lite.tasks.catalog import Catalog
from adapterhub_lite.training.checks import check_run
from adapterhub_lite.training.config import NOT_CHOSEN
from adapterhub_lite.training.run.layout import check_run_folder, run_folder_of

if TYPE_CHECKING:
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.tasks.spec import TaskOptions
    from adapterhub_lite.training.config import TrainConfig
    from adapterhub_lite.training.held_out import Parts


class TaskShortcuts(BaseModel):
    """Options of tasks that have an option of their own here."""

    max_length: Annotated[int | None, Flag(unset="what the base takes, within the task's limit")] = Field(
        None, description="Tokens that an input is cut to."
    )
    pooling: Annotated[str | None, Flag(unset="what suits the base")] = Field(
        None, description="How tokens or patches become one vector: cls, mean or last."
    )
    class_weights: Annotated[str | None, Flag(unset="none")] = Field(
        None, description="Whether rare classes count more: none or balanced."
    )
    window: Annotated[int | None, Flag(metavar="STEPS", unset="the whole series")] = Field(
        None, description="Cut time series into windows of so many steps."
    )
    stride: Annotated[int | None, Flag(metavar="STEPS", unset="1")] = Field(
        None, description="Steps from one window of a time series to the next."
    )


def train(
    run: Annotated[dict[str, Any], RunFile],
    shortcuts: Annotated[dict[str, Any], TaskShortcuts],
    named: NamedColumns,
    config: Annotated[
        str | None,
        typer.Option(metavar="RUN.YAML", help="A run file; what is given on the command line as well wins over it."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            metavar="",
            help="Go on with the run in OUT.run, exactly where it stopped; alone with --out, all else is as it was.",
        ),
    ] = False,
    json_: AsJson = False,
) -> None:
    """Adapt a base to your data and save the adapter."""
    if resume and config is None and "base" not in run and "out" in run:
        recorded = run_folder_of(Path(run["out"])) / "run.yaml"
        config = str(recorded) if recorded.is_file() else None
    run["task_options"] = run.get("task_options", {}) | shortcuts
    run["columns"] = columns_by_role(named, run.get("columns", {}))
    settled = read_run(config, run)
    if settled.strategy == "auto":
        from adapterhub_lite.cli.compare import train_best

        train_best(settled, resume=resume, as_json=json_)
        return
    started = time.monotonic()
    report = run_training(settled, resume=resume)
    report["seconds"] = round(time.monotonic() - started, 1)
    if json_:
        print_json(report)
    else:
        _show(report)
    why = report.get("training", {}).get(NOT_CHOSEN)
    if why:
        raise DataError(f"{report['adapter']} is saved and answers every row: {why}")


def run_training(run: RunFile, *, resume: bool = False) -> dict[str, Any]:
    """Check everything that can be checked without a model, then load, train, evaluate and save.

    Args:
        run: What to do.
        resume: Go on with the run in the folder beside the adapter, if there is one.

    Returns:
        What `train --json` prints.
    """
    from adapterhub_lite.tasks.catalog import Catalog

    plugins = Plugins()
    tasks = Catalog(plugins)
    parent = Parent.open(run.from_adapter) if run.from_adapter is not None else None
    asked = Asked(run.task, run.strategy, run.settings, run.task_options)
    asked = asked if parent is None else parent.completed(asked)
    checked = check_run(
        strategy_shelf(plugins),
        tasks,
        strategy=run.strategy,
        settings=asked.settings,
        task=run.task,
        task_options=asked.task_options,
        config=run.training,
        quantization=run.quantize,
        held_out=run.eval_data is not None or run.hold_out != 0,
        from_scratch=run.from_scratch,
        picks_step=run.eval_data is None,
    )
    target = Path(run.out)
    check_writable_target(target)
    run_folder = run_folder_of(target)
    check_run_folder(run_folder, resume=resume)
    if not plugins.implementations("adapterhub_load_base"):
        scratch = parse_scratch(run.base)
        resolve(run.base if scratch is None else scratch[1])
    dataset, held_out, share, line = read_rows(run, tasks, checked.task_options, parent)
    say_columns(dataset.columns, run.data)

    from adapterhub_lite.auditing.quick import warn
    from adapterhub_lite.base.precision import choose_device, choose_dtype, dtype_name
    from adapterhub_lite.reporting.engine import Engine
    from adapterhub_lite.training.processes import Processes
    from adapterhub_lite.training.run.place import Place

    processes = Processes()
    engine = Engine(plugins, progress=processes.is_main)
    if line is not None:
        engine.progress.say(line)
    if processes.is_main:
        warn(dataset, held_out, checked.task.spec.modality, engine.progress)
    if (target / MANIFEST).is_file():
        engine.progress.say(f"{target} holds an adapter, which this run replaces; `rollback {target}` brings it back")
    device, dtype, first = choose_device(run.device).type, run.dtype, run.device
    if run.training.shard:
        # What does not fit one accelerator goes there in parts, from the CPU.
        dtype, first = dtype_name(choose_dtype(run.dtype, choose_device(run.device))), "cpu"
    reference = scratch_reference(run.base, run.training.seed) if run.from_scratch else run.base
    loaded = engine.load_base(reference, quantization=run.quantize, dtype=dtype, device=first)
    # "auto" depends on the machine: what it came to is what reproduces the run.
    settled = run.model_copy(
        update={"dtype": dtype_name(loaded.dtype), "device": device, **({} if run.eval_data else {"hold_out": share})}
    )

    def written(training: TrainConfig) -> str:
        return settled.model_copy(update={"training": training}).to_yaml()

    place = Place(run_folder, resume, written, listener())
    adapter = engine.train_checked(loaded, dataset, held_out, checked, place, parent=parent)
    if not processes.is_main:
        adapter.accompany_saving()
        processes.end()
        raise typer.Exit  # the main process saves, and speaks
    with place.interrupt.delayed():
        adapter.save(target)
    page = engine.leave_report(adapter, dataset, held_out, command_line())
    processes.end()
    return {
        "adapter": str(target),
        "strategy": run.strategy,
        "base": run.base,
        "rows": len(dataset),
        "trainable": adapter.trainable,
        "base_parameters": loaded.parameters,
        "size_bytes": adapter_size(target),
        "metrics": adapter.metrics,
        "notes": adapter.training.get("notes", []),
        "training": adapter.training,
        "run_folder": str(run_folder),
        "report": page,
    }


def read_rows(
    run: RunFile, catalog: Catalog, options: TaskOptions | None = None, parent: Parent | None = None
) -> Parts:
    """Read and check the data of a run.

    Rows are held out first, by group where there is a group column, and only what is left is sampled, so that the scores
    of several sizes are on the same rows.

    Args:
        run: Names the files, columns and shares.
        catalog: The tasks.
        options: Those of the task, where they were built from the run's already.
        parent: The adapter that is gone on with, if one is.

    Raises:
        DataError: bad data; names file, row and column.
    """
    from adapterhub_lite.adapter.read import as_before, read_like
    from adapterhub_lite.data.sampling import subsample
    from adapterhub_lite.tasks.catalog import read_data
    from adapterhub_lite.training.held_out import Parts, held_out_of

    source, columns, files = run.data, run.columns, run.files
    if parent is not None:
        source, columns, files = as_before(catalog, parent.manifest.task, source, columns, files)

    def read(labels: Sequence[str] | None) -> Dataset:
        settled = options or run.task_options
        return read_data(catalog, source, run.task, columns=columns, labels=labels, options=settled, files=files)

    dataset = read(None) if parent is None else parent.read(read)
    if run.eval_data is not None:
        like = parent.relabelled(dataset) if parent else dataset
        parts = Parts(dataset, read_like(catalog, like, run.eval_data, run.columns), 0)
    else:
        parts = held_out_of(dataset, run.hold_out, run.training)
    if run.shots is not None or run.fraction is not None:
        kept = subsample(parts.train, shots=run.shots, fraction=run.fraction, seed=run.training.seed)
        parts = parts._replace(train=kept)
    return parts


def _show(report: dict[str, Any]) -> None:
    console, metrics = plain_console(), report["metrics"]
    share = report["trainable"] / report["base_parameters"]
    console.print(
        Text(report["adapter"], "bold")
        + f": {human_size(report['size_bytes'])}, {report['trainable']:,} trained weights "
        f"({share:.2%} of the base), {report['seconds']} s"
    )
    if scores := scores_in_words(metrics):
        console.print(f"held-out ({metrics['n']:.0f} rows): {scores}", soft_wrap=True)
    for note in report.get("notes", []):
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    forgotten = report.get("training", {}).get("forgetting")
    if forgotten:
        console.print(
            f"on general text ({forgotten['tokens']} tokens): loss {forgotten['loss_before']:.4f} before, "
            f"{forgotten['loss_after']:.4f} after; the same next token in {forgotten['agreement']:.1%}"
        )
    if report.get("report"):
        console.print(f"report: {report['report']}")
    console.print(f"next: adapterhub-lite predict {report['adapter']} --data FILE --out FILE", style="dim")
