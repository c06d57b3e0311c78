"""Tags of words: their task, and the tables and CoNLL files that hold them."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.api import Dataset, Request, TaskSpec, hookimpl
from adapterhub_tokens.options import ROLES, TASK, TokenClassificationOptions


def read(source: Any, request: Request) -> Dataset:
    """Read and check words with tags; see `adapterhub_tokens.reading`."""
    from adapterhub_tokens.reading import read

    return read(source, request)


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=TASK,
            summary="Words in, a tag for each of them out: entities, parts of speech.",
            modality="text",
            read=read,
            load="adapterhub_tokens.classification:TokenClassification",
            roles=ROLES,
            options=TokenClassificationOptions,
        )
    ]
