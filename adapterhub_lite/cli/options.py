"""Options that several verbs share."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from pydantic import BaseModel, Field

from adapterhub_lite.names import Flag

AdapterPath = Annotated[str, typer.Argument(metavar="ADAPTER", help="Directory of a saved adapter.")]
DataFile = Annotated[str, typer.Option("--data", metavar="FILE", help="CSV, TSV, JSONL, Parquet, a `datasets` folder.")]
NewTokens = Annotated[
    int,
    typer.Option(min=1, help="Tokens at which the answer of a language model is cut, if it is not at its end before."),
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object on standard output.")]


class Place(BaseModel):
    """The base that a saved adapter is put on, and where it computes."""

    base: Annotated[str | None, Flag(metavar="REF", unset="the one recorded in the adapter")] = Field(
        None, description="Base to use instead of the recorded one: a folder, a hub id, a .gguf file or pypi:DIST."
    )
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, ...")


class Loading(Place):
    """How a saved adapter is loaded."""

    force: bool = Field(False, description="Accept a base that differs from the one of training.")


def print_json(value: Any) -> None:
    """Write one JSON object to standard output."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    print()
