"""The task by name, the roles of its columns, and its options. Nothing heavy here."""

from __future__ import annotations

from adapterhub_lite.api import Field, TaskOptions

TASK = "token-classification"
ROLES = ("tokens", "tags", "group")
SUFFIXES = (".conll", ".iob", ".iob2", ".bio")
"""Endings of the names of CoNLL files."""


class TokenClassificationOptions(TaskOptions):
    """Options of token-classification."""

    max_length: int | None = Field(
        default=None, ge=2, description="Tokens an input is cut to; what the base takes, at most 512."
    )
