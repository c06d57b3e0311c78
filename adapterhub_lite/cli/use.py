"""The verbs that put a saved adapter on its base and run it: `evaluate`, `predict` and `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from adapterhub_lite.cli.options import AdapterPath, AsJson, Columns, Loading, columns_by_role
from adapterhub_lite.cli.output import print_json, print_result, say_columns
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.storage.bundle import manifest_of

if TYPE_CHECKING:
    from adapterhub_lite.data.dataset import Dataset

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
DataFile = Annotated[str, typer.Option("--data", metavar="FILE", help="CSV, TSV, JSONL, Parquet, a `datasets` folder.")]
NewTokens = Annotated[
    int,
    typer.Option(min=1, help="Tokens at which the answer of a language model is cut, if it is not at its end before."),
]


def evaluate(adapter: AdapterPath, data: DataFile, loading: Loading, columns: Columns, json_: AsJson = False) -> None:
    """Score an adapter on labelled data."""
    dataset = _checked_data(adapter, data, columns, require_labels=True)
    from adapterhub_lite.engine import Engine

    loaded = Engine().load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    result = loaded.evaluate(dataset)
    if json_:
        intervals = {name: list(ends) for name, ends in result.intervals.items()}
        print_json({"n": result.n, "metrics": result.metrics, "intervals": intervals, "notes": list(result.notes)})
        return
    table = Table(
        "metric",
        Column("value", justify="right"),
        Column("95 % interval", justify="right"),
        title=f"{adapter} on {data}, {result.n} rows",
        title_justify="left",
    )
    for name, value in result.metrics.items():
        ends = result.intervals.get(name)
        table.add_row(name, f"{value:.4f}", f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "")
    console = Console()
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}")


def predict(
    adapter: AdapterPath,
    data: DataFile,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where to write: .csv, .tsv, .jsonl or .parquet.")],
    loading: Loading,
    columns: Columns,
    max_new_tokens: NewTokens = 128,
) -> None:
    """Predict a label with probabilities, or a completion, for every row; the input's columns are kept."""
    target = Path(out)
    if target.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: the name must end in one of {', '.join(SUFFIXES)}")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: {'is a directory' if target.is_dir() else 'its folder does not exist'}")
    dataset = _checked_data(adapter, data, columns, require_labels=False)
    from adapterhub_lite.data.write import write_rows
    from adapterhub_lite.engine import Engine

    engine = Engine()
    loaded = engine.load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    extra: dict[str, list[Any]]
    if not loaded.attachment.task.generates:
        rows = [dict(output.columns()) for output in loaded.predict(dataset)]
        extra = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    else:
        replies = []
        with engine.progress.bar("generating", len(dataset), "rows") as bar:
            for item in dataset.inputs:
                replies.append(loaded.generate(item, max_new_tokens=max_new_tokens))
                bar.advance(1)
        extra = {"generated": replies}
    assert dataset.table is not None
    write_rows(target, dataset.table, extra)
    typer.echo(f"{len(dataset)} rows written to {target}")


def generate(
    adapter: AdapterPath,
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="What to answer or continue.")],
    loading: Loading,
    max_new_tokens: NewTokens = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
    json_: AsJson = False,
) -> None:
    """Let an adapted language model answer a prompt."""
    if not prompt.strip():
        raise ConfigError("--prompt is empty")
    task = manifest_of(Path(adapter)).task
    from adapterhub_lite.engine import Engine

    engine = Engine()
    if not engine.recorded_task(task).generates:
        raise NotSupportedError(f"{adapter} is an adapter for {task.name}; use `adapterhub-lite predict` with it")
    loaded = engine.load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    reply = loaded.generate(prompt, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    print_result({"prompt": prompt, "reply": reply}, reply, as_json=json_)


def _checked_data(adapter: str, source: str, columns: Columns, *, require_labels: bool) -> Dataset:
    """Read data as the adapter's task does, before its base is loaded.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no such adapter.
        ConfigError: a role of a column named twice.
        DataError: bad data, naming file, row and column.
    """
    from adapterhub_lite.adapter.read import read_for
    from adapterhub_lite.plugins.manager import Plugins

    named = columns_by_role(columns, columns.columns)
    task = manifest_of(Path(adapter)).task
    dataset = read_for(task, source, plugins=Plugins(), columns=named, require_labels=require_labels)
    say_columns(dataset.columns, source)
    return dataset
