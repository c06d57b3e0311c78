"""Tags of words: their task, and the tables and CoNLL files that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapterhub_lite.api import TaskSpec, hookimpl
from adapterhub_tokens.options import ROLES, SUFFIXES, TASK, TokenClassificationOptions

if TYPE_CHECKING:
    from adapterhub_lite.api import TinyModel


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=TASK,
            summary="Words in, a tag for each of them out: entities, parts of speech.",
            modality="text",
            read="adapterhub_tokens.reading:read",
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
