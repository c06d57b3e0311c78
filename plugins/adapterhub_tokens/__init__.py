"""Tags of words: their task, and the tables and CoNLL files that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapterhub_lite.api import Request, TaskSpec, hookimpl
from adapterhub_tokens.options import ROLES, SUFFIXES, TASK, TokenClassificationOptions

if TYPE_CHECKING:
    from adapterhub_lite.api import Dataset, TinyModel


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
            suffixes=SUFFIXES,
            roles=ROLES,
            options=TokenClassificationOptions,
        )
    ]


@hookimpl
def adapterhub_tiny_models() -> list[TinyModel]:
    from adapterhub_tokens.tiny import TINY

    return [TINY]
