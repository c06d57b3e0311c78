"""The options that say which column of the data plays which role."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field

from adapterhub_lite.cli.run_file import ColumnsByRole
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag

GUESSED = Flag(unset="guessed from its name")


class NamedColumns(BaseModel):
    """The columns that have an option each."""

    text_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the texts.")
    label_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the labels.")
    image_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the image paths.")
    prompt_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the prompts.")
    completion_column: Annotated[str | None, GUESSED] = Field(None, description="Column of the completions.")

    def with_others(self, others: Mapping[str, str]) -> dict[str, str]:
        """All columns that were named, by role.

        Raises:
            ConfigError: a role named twice.
        """
        named = self.model_dump(exclude_none=True, include=set(NamedColumns.model_fields))
        columns = {option.removesuffix("_column"): name for option, name in named.items()}
        for role, name in others.items():
            if role in columns:
                raise ConfigError(f"--column {role}={name}: the {role} column is named twice")
            columns[role] = name
        return columns


class Columns(NamedColumns):
    """The columns of the data for a saved adapter."""

    columns: ColumnsByRole = Field(default_factory=dict)

    def by_role(self) -> dict[str, str]:
        """The columns that were named, by role.

        Raises:
            ConfigError: a role named twice.
        """
        return self.with_others(self.columns)


def say_columns(columns: Mapping[str, str], source: str) -> None:
    """Tell on standard error which columns are read as what."""
    if columns:
        roles = ", ".join(f"{role} from '{name}'" for role, name in columns.items())
        print(f"{source}: reading {roles}", file=sys.stderr)
