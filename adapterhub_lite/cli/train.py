"""`adapterhub-lite train`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, Field

from adapterhub_lite.base.references import parse_scratch, scratch_reference
from adapterhub_lite.cli.columns import NamedColumns, say_columns
from adapterhub_lite.cli.options import (
    AsJson,
    print_json,
)
from adapterhub_lite.cli.rows import read_rows
from adapterhub_lite.cli.run_file import RunFile, read_run
from adapterhub_lite.names import Flag, human_size
from adapterhub_lite.training.interrupt import Interrupt, Stopped
from adapterhub_lite.training.run.layout import run_folder_of


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
    run["columns"] = named.with_others(run.get("columns", {}))
    settled = read_run(config, run)
    started = time.monotonic()
    try:
        with Interrupt().listening() as interrupt:
            report = run_training(settled, resume=resume, interrupt=interrupt)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        raise typer.Exit(stop.exit_code) from None
    report["seconds"] = round(time.monotonic() - started, 1)
    if json_:
        print_json(report)
    else:
        _show(report)


def run_training(run: RunFile, *, resume: bool = False, interrupt: Interrupt | None = None) -> dict[str, object]:
    """Check everything that can be checked without a model, then load, train, evaluate and save.

    Args:
        run: What to do.
        resume: Go on with the run in the folder beside the adapter, if there is one.
        interrupt: Says when to stop.

    Returns:
        What `train --json` prints.
    """
    from adapterhub_lite.base.references import resolve
    from adapterhub_lite.plugins.manager import Plugins
    from adapterhub_lite.plugins.shelf import strategy_shelf
    from adapterhub_lite.storage import adapter_size, check_writable_target
    from adapterhub_lite.tasks.catalog import task_shelf
    from adapterhub_lite.training.checks import check_run
    from adapterhub_lite.training.run.layout import check_run_folder

    plugins = Plugins()
    tasks = task_shelf(plugins)
    checked = check_run(
        strategy_shelf(plugins),
        tasks,
        strategy=run.strategy,
        settings=run.settings,
        task=run.task,
        task_options=run.task_options,
        config=run.training,
        quantization=run.quantize,
        held_out=run.eval_data is not None or run.hold_out is not None,
        from_scratch=run.from_scratch,
    )
    target = Path(run.out)
    check_writable_target(target)
    run_folder = run_folder_of(target)
    check_run_folder(run_folder, resume=resume)
    if not plugins.observers("adapterhub_load_base"):
        scratch = parse_scratch(run.base)
        resolve(run.base if scratch is None else scratch[1])
    dataset, held_out = read_rows(run, tasks, checked.task_options)
    say_columns(dataset.columns, run.data)

    from adapterhub_lite.base.precision import choose_device, choose_dtype, dtype_name
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.progress import Silent
    from adapterhub_lite.training.processes import Processes
    from adapterhub_lite.training.run.place import Place

    processes = Processes()
    engine = Engine(plugins, None if processes.is_main else Silent())
    device, dtype, first = choose_device(run.device).type, run.dtype, run.device
    if run.training.shard:
        # What does not fit one accelerator goes there in parts, from the CPU.
        dtype, first = dtype_name(choose_dtype(run.dtype, choose_device(run.device))), "cpu"
    reference = scratch_reference(run.base, run.training.seed) if run.from_scratch else run.base
    loaded = engine.load_base(reference, quantization=run.quantize, dtype=dtype, device=first)
    # "auto" depends on the machine: what it came to is what reproduces the run.
    settled = run.model_copy(update={"dtype": dtype_name(loaded.dtype), "device": device})
    interrupt = interrupt or Interrupt()
    place = Place(run_folder, resume, settled.to_yaml(), interrupt)
    adapter = engine.train_checked(loaded, dataset, held_out, checked, place)
    if not processes.is_main:
        adapter.accompany_saving()
        processes.end()
        raise typer.Exit  # the main process saves, and speaks
    with interrupt.delayed():
        adapter.save(target)
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
        "training": adapter.training,
        "run_folder": str(run_folder),
    }


def _show(report: dict[str, object]) -> None:
    from rich.console import Console

    console = Console()
    metrics = report["metrics"]
    assert isinstance(metrics, dict)
    ends = {name for name in metrics for end in ("_low", "_high") if name.endswith(end)}
    scores = ", ".join(_score(name, metrics) for name in metrics if name != "n" and name not in ends)
    trainable, parameters = int(str(report["trainable"])), int(str(report["base_parameters"]))
    console.print(
        f"[bold]{report['adapter']}[/bold]: {human_size(float(str(report['size_bytes'])))}, {trainable:,} trained weights "
        f"({trainable / parameters:.2%} of the base), {report['seconds']} s"
    )
    if scores:
        console.print(f"held-out ({metrics['n']:.0f} rows): {scores}")
    console.print(f"next: adapterhub-lite predict {report['adapter']} --data FILE --out FILE", style="dim")


def _score(name: str, metrics: Mapping[str, float]) -> str:
    """A metric with its 95 % interval, where there is one."""
    low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
    return f"{name} {metrics[name]:.4f}" + (f" ({low:.4f} to {high:.4f})" if low is not None else "")
