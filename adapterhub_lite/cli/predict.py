"""`adapterhub-lite predict`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.cli.generate import write_answers
from adapterhub_lite.cli.options import AdapterPath, Columns, DataFile, Loading, NewTokens
from adapterhub_lite.cli.rows import check_target, checked_data


def predict(
    adapter: AdapterPath,
    data: DataFile,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where to write: .csv, .tsv, .jsonl or .parquet.")],
    loading: Loading,
    columns: Columns,
    max_new_tokens: NewTokens = 128,
) -> None:
    """Predict a label with probabilities, or a completion, for every row; the input's columns are kept."""
    target = check_target(out)
    dataset = checked_data(adapter, data, columns, require_labels=False)
    from adapterhub_lite.data.write import write_rows
    from adapterhub_lite.engine import Engine

    engine = Engine()
    loaded = engine.load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    if loaded.attachment.task.generates:
        empty = write_answers(loaded, dataset, target, Sampling(max_new_tokens=max_new_tokens))
        if empty:
            print(f"note: {empty} of {len(dataset)} answers are empty: the model ended them at once", file=sys.stderr)
    else:
        rows = [dict(output.columns()) for output in loaded.predict(dataset)]
        assert dataset.table is not None
        write_rows(target, dataset.table, {name: [row[name] for row in rows] for name in rows[0]} if rows else {})
    typer.echo(f"{len(dataset)} rows written to {target}")
