"""`adapterhub-lite audit`: faults of the data, before anything is trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, Field

from adapterhub_lite.cli.options import AsJson, Columns, DataFile, TaskSettings, columns_by_role
from adapterhub_lite.cli.output import plain_console, print_json, say_columns
from adapterhub_lite.cli.preview import guessed_data
from adapterhub_lite.cli.rows import check_target
from adapterhub_lite.cli.train import TaskShortcuts
from adapterhub_lite.names import Flag

if TYPE_CHECKING:
    from adapterhub_lite.auditing.outcome import Audit
    from adapterhub_lite.data.dataset import Dataset


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
    from adapterhub_lite.comparison.engine import Engine

    if looking.out is not None:
        check_target(looking.out, suffixes=(".html",))
    if looking.fix is not None:
        check_repair(looking.fix, data)
    engine = Engine()
    roles, options = columns_by_role(columns, columns.columns), {**looking.task_options, **shortcuts}

    def read(name: str, source: Any = data) -> Dataset:
        return engine.load_data(source, name, columns=roles, options=options, **columns.files.given())

    dataset = read(task) if task is not None else guessed_data(engine, data, columns.files, read)
    say_columns(dataset.columns, data)
    base = None
    if looking.base is not None:
        base = engine.load_base(looking.base, device=looking.device)
    names = [name.strip() for given in looking.slices for name in given.split(",") if name.strip()]
    looked = engine.audit(dataset, eval_data=looking.eval_data, base=base, slices=names, seed=looking.seed)
    if looking.out is not None:
        looked.save(looking.out)
    left_out = looked.fix(looking.fix) if looking.fix is not None else None
    show(looked, looking, left_out, as_json=json_)


def show(looked: Audit, looking: Looking, left_out: int | None, *, as_json: bool) -> None:
    """Print an audit, and where its files are."""
    if as_json:
        print_json({**looked.record(), "page": looking.out, "fixed": looking.fix, "left_out": left_out})
        return
    from adapterhub_lite.auditing.outcome import rows_beside, table_of

    console = plain_console()
    console.print(table_of(looked))
    for line in looked.closing():
        console.print(line, soft_wrap=True)
    if looking.out is not None:
        console.print(f"{looking.out}: the page; {rows_beside(looking.out)}: all rows that are named", style="bold")
    if left_out is not None:
        console.print(
            f"{looking.fix}: without {left_out:,} rows; {looking.fix}.log.csv says which, and why", style="bold"
        )
