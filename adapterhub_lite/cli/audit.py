"""`adapterhub-lite audit`: faults of the data, before anything is trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, Field

from adapterhub_lite.cli.options import AsJson, Columns, DataFile, TaskSettings
from adapterhub_lite.cli.output import plain_console, print_json, say_columns
from adapterhub_lite.cli.preview import data_for
from adapterhub_lite.cli.rows import check_target
from adapterhub_lite.cli.train import TaskShortcuts
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag, listed_names

if TYPE_CHECKING:
    from adapterhub_lite.auditing.outcome import Audit


class Looking(BaseModel):
    """What is looked at, and where the outcome goes."""

    eval_data: Annotated[str | None, Flag(metavar="FILE")] = Field(
        None, description="Rows to score on, or a sample of the deployment: what is in both, and how they differ."
    )
    base: Annotated[str | None, Flag(metavar="REF", unset="none, so that what needs features is not looked for")] = (
        Field(
            None,
            description="The foundation model that the rows are meant for; its features show wrong labels and paraphrases.",
        )
    )
    slices: Annotated[list[str], Flag(metavar="COLUMN")] = Field(
        default_factory=list,
        description="A column that rows are compared by, as often as needed, or several with commas.",
    )
    out: Annotated[str | None, Flag(metavar="FILE", unset="not written")] = Field(
        None, description="Page to write, such as audit.html; the rows go beside it, into audit.rows.csv."
    )
    fix: Annotated[str | None, Flag(metavar="FILE", unset="not written")] = Field(
        None,
        description="Write the data anew, without the rows to be left out, and FILE.log.csv, which says each of them.",
    )
    seed: int = Field(0, description="Seed of samples and folds.")
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, ...")
    task_options: TaskSettings = Field(default_factory=dict)


def audit(
    data: DataFile,
    looking: Looking,
    shortcuts: Annotated[dict[str, Any], TaskShortcuts],
    columns: Columns,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What the model is to do; by default the task that uses most of the columns."
        ),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Look for wrong labels, leaks, shortcuts and other faults of the data; nothing is changed."""
    from adapterhub_lite.auditing.repair import check_repair
    from adapterhub_lite.auditing.targets import check_files, fix_files, page_files
    from adapterhub_lite.comparison.engine import Engine

    sources = [data, *([] if looking.eval_data is None else [looking.eval_data])]
    written = []
    if looking.out is not None:
        check_target(looking.out, suffixes=(".html",))
        written = page_files(looking.out)
        check_files(f"--out {looking.out}", written, sources)
    if looking.fix is not None:
        check_repair(looking.fix, sources)
        if set(written) & set(fix_files(looking.fix)):
            raise ConfigError(f"--fix {looking.fix}: --out {looking.out} is to write that file too; give another name")
    engine = Engine()
    dataset = data_for(engine, data, task, columns, {**looking.task_options, **shortcuts})
    say_columns(dataset.columns, data)
    base = None
    if looking.base is not None:
        base = engine.load_base(looking.base, device=looking.device)
    looked = engine.audit(
        dataset, eval_data=looking.eval_data, base=base, slices=listed_names(looking.slices), seed=looking.seed
    )
    if not json_:
        show(looked)  # before anything is saved: what fails there loses nothing of it
    left_out = None
    try:
        if looking.out is not None:
            looked.save(looking.out)
        left_out = looked.fix(looking.fix) if looking.fix is not None else None
    finally:
        if json_:
            print_json({**looked.record(), "page": looking.out, "fixed": looking.fix, "left_out": left_out})
    if json_:
        return
    console = plain_console()
    if looking.out is not None:
        page, rows = page_files(looking.out)
        console.print(f"{page}: the page; {rows}: all rows that are named", style="bold")
    if looking.fix is not None:
        fixed, log = fix_files(looking.fix)
        console.print(f"{fixed}: without {left_out:,} rows; {log} says which, and why", style="bold")


def show(looked: Audit) -> None:
    """Print the findings of an audit."""
    from adapterhub_lite.auditing.outcome import table_of

    console = plain_console()
    console.print(table_of(looked))
    for line in looked.closing():
        console.print(line, soft_wrap=True)
