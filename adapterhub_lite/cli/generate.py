"""`adapterhub-lite generate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.cli.options import AdapterPath, AsJson, Columns, Loading
from adapterhub_lite.cli.output import print_json, print_result
from adapterhub_lite.cli.rows import check_target, checked_data
from adapterhub_lite.data.roles.columns import counted
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.storage.bundle import manifest_of

if TYPE_CHECKING:
    from adapterhub_lite.adapter.adapter import Adapter
    from adapterhub_lite.data.dataset import Dataset

COLUMN = "generated"


def generate(
    adapter: AdapterPath,
    loading: Loading,
    columns: Columns,
    sampling: Sampling,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What to answer or continue.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FILE", help="Prompts instead: CSV, TSV, JSONL, Parquet, a `datasets` folder.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the answers to --data go: .csv, .tsv, .jsonl or .parquet.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Let an adapted language model answer a prompt, or every prompt of a file, whose columns are kept."""
    if (prompt is None) == (data is None) or (data is None) != (out is None):
        raise ConfigError("give --prompt TEXT, or --data FILE and --out FILE")
    if prompt is not None and not prompt.strip():
        raise ConfigError("--prompt is empty")
    task = manifest_of(Path(adapter)).task
    target = check_target(out) if out is not None else None
    dataset = checked_data(adapter, data, columns, require_labels=False) if data is not None else None
    from adapterhub_lite.engine import Engine

    engine = Engine()
    if not engine.recorded_task(task).generates:
        raise NotSupportedError(f"{adapter} is an adapter for {task.name}; use `adapterhub-lite predict` with it")
    loaded = engine.load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    if dataset is not None and target is not None:
        empty = write_answers(loaded, dataset, target, sampling)
        said = f"{len(dataset)} rows written to {target}" + (f", {counted(empty, 'answer')} empty" if empty else "")
        print_result({"out": str(target), "rows": len(dataset), "empty": empty}, said, as_json=json_)
        return
    options = sampling.model_dump(exclude_unset=True)
    if json_:
        reply = loaded.generate(prompt, **options)
        print_json({"prompt": prompt, "reply": reply})
    else:
        reply = ""
        for piece in loaded.stream(prompt, **options):
            reply += piece
            print(piece, end="", flush=sys.stdout.isatty())
        print()
    if not reply:
        print("note: the answer is empty: the model ended it at once", file=sys.stderr)


def write_answers(loaded: Adapter, dataset: Dataset, target: Path, sampling: Sampling) -> int:
    """Write every row of a dataset with the answer to it, whole or not at all; returns how many answers are empty."""
    from adapterhub_lite.data.write import write_rows

    replies = loaded.generate(dataset, **sampling.model_dump(exclude_unset=True))
    assert dataset.table is not None
    write_rows(target, dataset.table, {COLUMN: replies})
    return replies.count("")
