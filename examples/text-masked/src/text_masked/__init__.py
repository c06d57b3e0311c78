"""Texts of a domain, without labels, whose masked words an encoder learns to guess."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.api import DataError, Dataset, Field, Request, TaskOptions, TaskSpec, hookimpl, read_table


class MaskedOptions(TaskOptions):
    """Options of text-masked."""

    max_length: int | None = Field(default=None, ge=3, description="Tokens a text is cut to; what the base takes.")
    share: float = Field(default=0.15, gt=0, lt=1, description="Share of the tokens of a text that are masked.")


def read(source: Any, request: Request) -> Dataset:
    """Read and check a column of texts; every row has to have one."""
    table = read_table(source)
    column = request.columns.get("text", "text")
    if column not in table.columns:
        raise DataError(f"{table.source}: has no column '{column}'; name it with --column text=NAME")
    texts = tuple(table.column(column))
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{table.where(row, column)}: text is missing")
    return Dataset("text-masked", texts, None, (), {"text": column}, table.source, table.sha256, table)


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name="text-masked",
            summary="Texts without labels in, masked words guessed: an encoder learns a domain.",
            modality="text",
            read=read,
            load="text_masked.task:MaskedWords",
            roles=("text",),
            options=MaskedOptions,
            labelled=False,
        )
    ]
