"""Options that several verbs share, and how those given as KEY=VALUE are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import BaseModel, Field

from adapterhub_lite.cli.bounded_yaml import UnboundedYaml, UnusableYaml, read_yaml
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag

AdapterPath = Annotated[str, typer.Argument(metavar="ADAPTER", help="Directory of a saved adapter.")]
NoProbe = Annotated[
    bool, typer.Option("--no-probe", metavar="", help="Leave the rows of training data out that `verify` replays.")
]
DataFile = Annotated[str, typer.Option("--data", metavar="FILE", help="CSV, TSV, JSONL, Parquet, a `datasets` folder.")]
NewTokens = Annotated[
    int,
    typer.Option(min=1, help="Tokens at which the answer of a language model is cut, if it is not at its end before."),
]
Folder = Annotated[str, typer.Argument(metavar="DIR", help="Where the adapter goes.")]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object on standard output.")]
ColumnsByRole = Annotated[
    dict[str, str],
    Flag("--column", "ROLE=NAME", "guessed from the names"),
    Field(description="The column of a role, such as pair, labels, target, group or time; as often as needed."),
]
TaskSettings = Annotated[
    dict[str, Any],
    Flag("--task-set", "KEY=VALUE", "the task's own"),
    Field(description="An option of the task, as often as needed; `adapterhub-lite tasks` lists them."),
]
GUESSED = Flag(unset="guessed from its name")


class Place(BaseModel):
    """The base that a saved adapter is put on, and where it computes."""

    base: Annotated[str | None, Flag(metavar="REF", unset="the one recorded in the adapter")] = Field(
        None, description="Base to use instead of the recorded one: a folder, a hub id, a .gguf file or pypi:DIST."
    )
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, ...")


class Loading(Place):
    """How a saved adapter is loaded."""

    force: bool = Field(False, description="Accept a base that differs from the one of training.")


class NamedColumns(BaseModel):
    """The columns that have an option each."""

    text_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the texts.")
    label_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the labels.")
    image_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the image paths.")
    prompt_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the prompts.")
    completion_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the completions.")


class Columns(NamedColumns):
    """The columns of the data for a saved adapter."""

    columns: ColumnsByRole = Field(default_factory=dict)
    files: FileOptions = Field(default_factory=FileOptions, description="What the file is")


def columns_by_role(named: NamedColumns, others: Mapping[str, str]) -> dict[str, str]:
    """Join the columns named by options of their own with those named by `--column`.

    Raises:
        ConfigError: a role named twice.
    """
    options = named.model_dump(exclude_none=True, include=set(NamedColumns.model_fields))
    columns = {option.removesuffix("_column"): name for option, name in options.items()}
    for role, name in others.items():
        if role in columns:
            raise ConfigError(f"--column {role}={name}: the {role} column is named twice")
        columns[role] = name
    return columns


def parse_settings(pairs: list[str], option: str = "--set") -> dict[str, Any]:
    """Read `--set key=value` options; values are written as in YAML.

    Raises:
        ConfigError: an option that is not key=value.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option} {pair}: write it as {option} key=value")
        try:
            parsed = read_yaml(value)
        except UnboundedYaml as error:
            raise ConfigError(f"{option} {key.strip()}: its value cannot be used: {error}") from None
        except UnusableYaml:
            parsed = value
        if value and (not value.strip() or parsed == ""):
            parsed = value.strip("'\"") if value.strip() else value  # to YAML "|" opens a block, and a blank is nothing
        # YAML 1.1 reads 1e-3 as text, which nobody means; anything else that is text, or in quotes, stays text.
        plain = isinstance(parsed, str) and value.strip()[:1] not in ("'", '"')
        settings[key.strip()] = _number(parsed) if plain else parsed
    return settings


def parse_columns(pairs: list[str]) -> dict[str, str]:
    """Read `--column ROLE=NAME` options.

    Raises:
        ConfigError: one that is not ROLE=NAME, or a role named twice.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        role, equals, name = (part.strip() for part in pair.partition("="))
        if not equals or not role or not name:
            raise ConfigError(f"--column {pair}: write it as --column ROLE=NAME, as in --column labels=tags")
        if role in columns:
            raise ConfigError(f"--column {pair}: the {role} column is named twice")
        columns[role] = name
    return columns


def _number(text: str) -> str | float:
    try:
        return float(text) if any(c.isdigit() for c in text) else text
    except ValueError:
        return text
