"""`adapterhub-lite preview`: what the rows of a file become for a base, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, Field
from rich.text import Text

from adapterhub_lite.cli.options import AsJson, Columns, DataFile, TaskSettings, columns_by_role
from adapterhub_lite.cli.output import plain_console, print_json
from adapterhub_lite.cli.train import TaskShortcuts
from adapterhub_lite.errors import AdapterHubError, ConfigError, DataError, NotSupportedError
from adapterhub_lite.tasks.catalog import unused_columns

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.data.files.options import FileOptions
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.tasks.task import Example, Task


class Options(BaseModel):
    """Of the task."""

    task_options: TaskSettings = Field(default_factory=dict)


def preview(
    data: DataFile,
    base: Annotated[str, typer.Option(metavar="REF", help="The foundation model that the rows are meant for.")],
    of_task: Options,
    shortcuts: Annotated[dict[str, Any], TaskShortcuts],
    columns: Columns,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What the model is to do; by default the task that uses most of the columns."
        ),
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="How many rows, from the first on.")] = 3,
    json_: AsJson = False,
) -> None:
    """Show what rows become: their tokens, which of them are learnt, what is cut, and which columns are used."""
    from adapterhub_lite.engine import Engine

    engine = Engine()
    dataset = data_for(engine, data, task, columns, {**of_task.task_options, **shortcuts})
    report: dict[str, Any] = {
        "task": dataset.task,
        "rows": len(dataset),
        "columns": dict(dataset.columns),
        "ignored": unused_columns(dataset),
        "notes": list(dataset.notes),
    }
    prepared, settled = _settled(engine, base, dataset)
    report["shown"] = [_row(dataset, row, settled, prepared) for row in range(min(rows, len(dataset)))]
    if json_:
        print_json(report)
    else:
        _print(report, data)


def data_for(
    engine: Engine, source: str, task: str | None, columns: Columns, options: Mapping[str, Any]
) -> Dataset:  # fmt: skip
    """The rows as a task reads them; where none is named, the one that uses most of their columns.

    Raises:
        ConfigError: a role of a column named twice; no task reads them, or several do equally well.
        DataError: bad rows; names file, row and column.
    """
    roles = columns_by_role(columns, columns.columns)

    def read(name: str, rows: Any = source) -> Dataset:
        return engine.load_data(rows, name, columns=roles, options=options, **columns.files.given())

    return read(task) if task is not None else _guessed(engine, source, columns.files, read)


def _guessed(engine: Engine, source: str, files: FileOptions, read: Callable[[str, Any], Dataset]) -> Dataset:
    """The rows as the task reads them that uses most of their columns.

    Raises:
        ConfigError: no task reads them, or several do equally well.
    """
    from adapterhub_lite.data.files.read import read_table

    opened: Any = source
    with suppress(AdapterHubError):  # what is no table each task reads in its own way, or says why not
        opened = read_table(source, files)
    datasets: dict[str, Dataset] = {}
    reasons: dict[str, str] = {}
    for offer in engine.task_shelf.offered:
        try:
            datasets[offer.spec.name] = read(offer.spec.name, opened)
        except AdapterHubError as error:
            reasons.setdefault(str(error).removeprefix(f"{source}: "), offer.spec.name)
    unused = {name: len(unused_columns(dataset)) for name, dataset in datasets.items()}
    best = [name for name, number in unused.items() if number == min(unused.values())]
    if len(best) > 1:
        raise ConfigError(f"{source}: could be for {' or '.join(best)}; name the task with --task")
    if not best:
        said = "; ".join(f"{name}: {reason[:200]}" for reason, name in reasons.items())
        raise ConfigError(f"{source}: is not read by any task as it is; {said}")
    return datasets[best[0]]


def _settled(engine: Engine, reference: str, dataset: Dataset) -> tuple[Base, Task]:
    """The base, without its weights where these are not asked for, and the task on it."""
    from adapterhub_lite.base.foreign import foreign_bases
    from adapterhub_lite.base.outline import outline_base

    plugins = engine.plugins
    if not plugins.implementations("adapterhub_load_base"):
        # Some plug-ins, and the tasks of series, run the model to describe it or to settle.
        with suppress(RuntimeError, ValueError, AdapterHubError):
            outlined = outline_base(reference, foreign_bases(plugins))
            if outlined is not None:
                return outlined, engine.task_for(outlined, dataset)
    base = engine.load_base(reference, device="cpu")
    return base, engine.task_for(base, dataset)


def _row(dataset: Dataset, row: int, task: Task, base: Base) -> dict[str, Any]:
    """One row: its examples with what is learnt of each, and what is to be said of it, or why it is refused."""
    from adapterhub_lite.tasks.task import encode

    shown: dict[str, Any] = {"row": row + 1, "examples": [], "notes": [], "refused": None}
    try:
        encoded = encode(task, dataset.select([row]), base)
    except (DataError, NotSupportedError) as error:
        return shown | {"refused": str(error)}
    return shown | {"examples": [_example(e, task, base) for e in encoded.examples], "notes": list(encoded.notes)}


def _example(example: Example, task: Task, base: Base) -> dict[str, Any]:
    """An example in pieces: tokens in a row that are all given, or all learnt with the same label."""
    labelled = task.token_labels(example)
    pieces: list[dict[str, Any]] = []
    if labelled is None:
        shape = getattr(example.inputs, "shape", None)
        text = str(example.inputs) if shape is None else f"values of shape {tuple(shape)}"
        pieces.append({"text": text, "tokens": [], "learnt": False, "label": None})
    else:
        for label, run in groupby(zip(*labelled, strict=True), key=lambda pair: pair[1]):
            ids = [token for token, _ in run]
            text = base.tokenizer.decode(ids)
            pieces.append({"text": text, "tokens": ids, "learnt": label is not None, "label": label or None})
    by_token = any(piece["learnt"] for piece in pieces)
    return {"pieces": pieces, "target": None if by_token else _target(example, task)}


def _target(example: Example, task: Task) -> str | None:
    if example.target is None:
        return None
    several = example.target if isinstance(example.target, (list, tuple)) else [example.target]
    return ", ".join(task.labels[part] if task.labels else f"{part:g}" for part in several)


def _print(report: dict[str, Any], source: str) -> None:
    console = plain_console()
    used = ", ".join(f"{role} from '{name}'" for role, name in report["columns"].items())
    ignored = ", ".join(report["ignored"]) or "none"
    console.print(
        f"{source}: {report['rows']} rows for {report['task']}; columns used: {used or 'none'}; ignored: {ignored}",
        soft_wrap=True,
    )
    for note in report["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
    for row in report["shown"]:
        for example in row["examples"]:
            total = sum(len(piece["tokens"]) for piece in example["pieces"])
            learnt = sum(len(piece["tokens"]) for piece in example["pieces"] if piece["learnt"])
            of_it = f", {learnt} learnt" if example["target"] is None else ""
            counted = f" ({total} tokens{of_it})" if total else ""
            console.print(f"\nrow {row['row']}{counted}:", style="bold")
            console.print(_coloured(example["pieces"], console.is_terminal), soft_wrap=True)
            if example["target"] is not None:
                console.print(f"to be learnt: {example['target']}", soft_wrap=True)
        for line in [f"note: {note}" for note in row["notes"]] + (
            [f"refused: {row['refused']}"] * bool(row["refused"])
        ):
            console.print(line, soft_wrap=True)


def _coloured(pieces: list[dict[str, Any]], is_terminal: bool) -> Text:
    text = Text()
    for piece in pieces:
        written = piece["text"] + (f" = {piece['label']}" if piece["label"] else "")
        if piece["learnt"]:
            text.append(written if is_terminal else f"[{written}]", style="bold green")
        else:
            text.append(written, style="dim")
    return text
