"""`adapterhub-lite evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field
from rich.table import Column, Table

from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.cli.options import AdapterPath, AsJson, Columns, DataFile, Loading
from adapterhub_lite.cli.output import plain_console, print_json
from adapterhub_lite.cli.rows import checked_data
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag, one_line


class Answers(BaseModel):
    """Whether and how the answers of a language model are scored."""

    answers: bool = Field(
        False, description="Let a language model answer the prompts, and score the answers beside those of the data."
    )
    extract: Annotated[str | None, Flag(metavar="REGEX")] = Field(
        None,
        description="Compare the last match of this in an answer, or its first group, as well; as numbers where they are.",
    )
    score: Annotated[str | None, Flag(metavar="MODULE:FUNCTION")] = Field(
        None,
        description="Your own score: called with an answer and the wanted one, it returns whether the answer is right.",
    )
    no_bare: bool = Field(False, description="Leave out the answers of the bare base, which are scored beside them.")
    sampling: Sampling = Field(default_factory=Sampling, description="How answers are made")

    @property
    def wanted(self) -> bool:
        """Whether answers are scored.

        Raises:
            ConfigError: they are not, and there are options for them.
        """
        wanted = self.answers or self.extract is not None or self.score is not None
        if not wanted and (self.no_bare or self.sampling.model_fields_set):
            raise ConfigError("how a language model answers is asked for, and not that it does; give --answers as well")
        return wanted


def evaluate(
    adapter: AdapterPath, data: DataFile, loading: Loading, columns: Columns, answers: Answers, json_: AsJson = False
) -> None:
    """Score an adapter on labelled data."""
    wanted, score = answers.wanted, _imported(answers.score) if answers.score is not None else None
    dataset = checked_data(adapter, data, columns, require_labels=True)
    from adapterhub_lite.adapter.evaluation import BARE
    from adapterhub_lite.engine import Engine

    loaded = Engine().load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    if wanted:
        options = answers.sampling.model_dump(exclude_unset=True)
        result = loaded.evaluate_answers(
            dataset, extract=answers.extract, score=score, bare=not answers.no_bare, **options
        )
    else:
        result = loaded.evaluate(dataset)
    if json_:
        intervals = {name: list(ends) for name, ends in result.intervals.items()}
        print_json({"n": result.n, "metrics": result.metrics, "intervals": intervals, "notes": list(result.notes)})
        return
    beside = any(name.startswith(BARE) for name in result.metrics)
    more = [Column(title, justify="right") for title in ("bare base", "95 % interval")] if beside else []
    table = Table(
        "metric",
        Column("value", justify="right"),
        Column("95 % interval", justify="right"),
        *more,
        title=f"{adapter} on {data}, {result.n} rows",
        title_justify="left",
    )
    for name in result.metrics:
        if not name.startswith(BARE):
            cells = [cell for of in [name, BARE + name][: 1 + beside] for cell in _cells(result, of)]
            table.add_row(name, *cells)
    console = plain_console()
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}")


def _cells(result: Any, name: str) -> list[str]:
    """A score and its interval; nothing where there is none."""
    if name not in result.metrics:
        return ["", ""]
    ends = result.intervals.get(name)
    return [f"{result.metrics[name]:.4f}", f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""]


def _imported(place: str) -> Callable[[str, str], Any]:
    """The function at `module:function`, of a module that is installed or lies in the current folder.

    Raises:
        ConfigError: there is none.
    """
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        raise ConfigError(f"--score {place}: write it as --score MODULE:FUNCTION, as in --score checks:is_right")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(import_module(module), name)
    except Exception as error:  # whatever a user's module raises
        raise ConfigError(f"--score {place}: cannot be imported ({one_line(error)}); correct it") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(function):
        raise ConfigError(f"--score {place}: is a {type(function).__name__}, not a function")
    return function
