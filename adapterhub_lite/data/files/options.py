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
BINARY, TEXT, TABLE = {"format"}, {"format", "encoding"}, {"format", "encoding", "no_header", "quoting"}
USABLE = {"csv": TABLE, "tsv": TABLE, "parquet": BINARY, "arrow": BINARY, "feather": BINARY}
"""The options that say something of a file of a format; of all others, `TEXT`."""


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

    @classmethod
    def of(cls, given: FileOptions | Mapping[str, Any] | None) -> FileOptions:
        """The options, given as they are or by name.

        Raises:
            ConfigError: an unknown name, or a value of another kind.
        """
        if isinstance(given, FileOptions):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise ConfigError(f"files is a {type(given).__name__}; give options by name, as in {{'no_header': True}}")
        try:
            return cls.model_validate(dict(given or {}), strict=True)
        except ValidationError as error:
            names = ", ".join(f"{'.'.join(map(str, item['loc']))!r}" for item in error.errors())
            raise ConfigError(
                f"files: {names} cannot be used as given; there are format, encoding and quoting (text), no_header (True, False)"
            ) from None

    def given(self) -> dict[str, Any]:
        """The options that were set, as JSON."""
        return self.model_dump(exclude_defaults=True)

    def over(self, before: Mapping[str, Any], source: Any) -> FileOptions:
        """These, and of those with which earlier data was read the ones that say something of this source.

        Raises:
            ConfigError: what is recorded of the earlier data is none of these.
        """
        if not isinstance(source, (str, os.PathLike)):
            return self
        suffix = Path(source).suffix.lower().removeprefix(".")
        named = suffix in FORMATS
        usable = USABLE.get(self.format or (suffix if named else before.get("format", suffix)), TEXT)
        kept = {name: value for name, value in before.items() if name in usable and not (named and name == "format")}
        return FileOptions.of(kept | self.given())

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
        wrong = next((name for name in self.given() if name not in USABLE.get(kind, TEXT)), None)
        if wrong is not None:
            which = "text files" if wrong == "encoding" else "CSV and TSV files"
            raise ConfigError(f"--{wrong.replace('_', '-')} is for {which}, and {source} is none; leave it out")


DEFAULT = FileOptions()
FileFacts = FileOptions | Mapping[str, Any] | None
"""What a user says of a file beside its name."""
