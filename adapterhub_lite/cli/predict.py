"""`adapterhub-lite predict`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.cli.generate import write_answers
from adapterhub_lite.cli.options import AdapterPath, Columns, DataFile, Loading, NewTokens
from adapterhub_lite.cli.rows import check_target, checked_data
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.tasks.outputs import ClassColumns


def predict(
    adapter: AdapterPath,
    data: DataFile,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where to write: .csv, .tsv, .jsonl or .parquet.")],
    loading: Loading,
    columns: Columns,
    probabilities: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="Probabilities of classes as columns beside the prediction and its own: none, all (p_LABEL each), or "
            "top:N (top1, p_top1, ... of the N likeliest).",
        ),
    ] = "none",
    max_new_tokens: NewTokens = 128,
) -> None:
    """Predict a label with its probability, or a completion, for every row; the input's columns are kept."""
    target = check_target(out)
    wanted = ClassColumns.parse(probabilities)
    dataset = checked_data(adapter, data, columns, require_labels=False)
    from adapterhub_lite.data.write import write_rows
    from adapterhub_lite.engine import Engine

    engine = Engine()
    loaded = engine.load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    if loaded.attachment.task.generates:
        if wanted != ClassColumns():
            raise ConfigError(f"--probabilities {probabilities}: a language model has no classes; leave it out")
        empty = write_answers(loaded, dataset, target, Sampling(max_new_tokens=max_new_tokens))
        if empty:
            print(f"note: {empty} of {len(dataset)} answers are empty: the model ended them at once", file=sys.stderr)
    else:
        assert dataset.table is not None
        outputs = loaded.outputs(dataset)
        write_rows(target, dataset.table, {} if outputs is None else outputs.columns(wanted))
    typer.echo(f"{len(dataset)} rows written to {target}")
