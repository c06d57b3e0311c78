"""`adapterhub-lite predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from adapterhub_lite.cli.options import AdapterPath, Columns, DataFile, Loading, NewTokens
from adapterhub_lite.cli.rows import checked_data
from adapterhub_lite.errors import ConfigError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


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
    dataset = checked_data(adapter, data, columns, require_labels=False)
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
        empty = sum(not reply for reply in replies)
        if empty:
            print(
                f"note: {empty} of {len(replies)} answers are empty: the model ends its turn at once", file=sys.stderr
            )
    assert dataset.table is not None
    write_rows(target, dataset.table, extra)
    typer.echo(f"{len(dataset)} rows written to {target}")
