"""How a file of rows is read where its name and its first bytes do not say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag, check_choice

FORMATS = ("csv", "tsv", "jsonl", "ndjson", "json", "parquet", "arrow", "feather")
"""Those that every task reads."""
DELIMITED = ("csv", "tsv")
BINARY = ("parquet", "arrow", "feather")


class FileOptions(BaseModel):
    """How a file of rows is read where its name and its first bytes do not say; every verb that reads data has these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[str | None, Flag(unset="as its suffix says")] = Field(
        None,
        description="What the file is: csv, tsv, jsonl, json, parquet, arrow, or label-text (a label, then a text).",
    )
    no_header: bool = Field(
        False, description="The first line of a CSV or TSV is a row; its columns are column_1, column_2, ..."
    )
    encoding: Annotated[str | None, Flag(unset="as its first bytes say")] = Field(
        None, description="Encoding of a text file, such as latin-1 or cp1252."
    )
    quoting: Annotated[str | None, Flag(unset="minimal")] = Field(
        None, description="Whether double quotes enclose values in a CSV or TSV: minimal (where they need it) or none."
    )

    def given(self) -> dict[str, Any]:
        """The options that were set, as JSON."""
        return self.model_dump(exclude_defaults=True)

    def over(self, before: Mapping[str, Any], source: Any) -> FileOptions:
        """These, and of those with which earlier data was read the ones that say something of this source.

        Raises:
            ConfigError: what is recorded of the earlier data is none of these.
        """
        path = Path(source) if isinstance(source, (str, os.PathLike)) else None
        if path is None:
            return self
        suffix = path.suffix.lower().removeprefix(".")
        kind = self.format or (suffix if suffix in FORMATS else before.get("format", suffix))
        usable = _usable(kind) - ({"format"} if suffix in FORMATS else set())
        kept = {name: value for name, value in before.items() if name in usable}
        try:
            return FileOptions.model_validate(kept | self.given())
        except ValidationError:
            raise ConfigError(f"what is recorded of the file of training is not understood: {kept!r:.100}") from None

    def check(self, source: str, kind: str) -> None:
        """Refuse an option that says nothing of a file of this kind, or nothing that is known.

        Raises:
            ConfigError: naming the option.
        """
        check_choice("quoting", self.quoting or "minimal", ("minimal", "none"))
        try:
            "a".encode(self.encoding or "utf-8")
        except LookupError:
            raise ConfigError(
                f"there is no text encoding '{self.encoding}'; give a name that Python knows, such as latin-1 or cp1252"
            ) from None
        wrong = next((name for name in self.given() if name not in _usable(kind)), None)
        if wrong is not None:
            which = "text files" if wrong == "encoding" else "CSV and TSV files"
            raise ConfigError(f"--{wrong.replace('_', '-')} is for {which}, and {source} is none; leave it out")


def _usable(kind: str) -> set[str]:
    """The options that say something of a file of this kind."""
    return (
        {"format"}
        | (set() if kind in BINARY else {"encoding"})
        | ({"no_header", "quoting"} if kind in DELIMITED else set())
    )


DEFAULT = FileOptions()
