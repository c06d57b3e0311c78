"""Images: their task, and the folders, tables and arrays that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapterhub_images.options import ROLES, TASK, ImageClassificationOptions
from adapterhub_lite.api import SEVERAL, TaskSpec, hookimpl

if TYPE_CHECKING:
    from adapterhub_lite.api import TinyModel


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=TASK,
            summary="An image in, one of several labels or any number of them out.",
            modality="image",
            read="adapterhub_images.reading:read",
            load="adapterhub_images.classification:ImageClassification",
            suffixes=(".npz",),
            roles=ROLES,
            options=ImageClassificationOptions,
            forms=(None, SEVERAL),
        )
    ]


@hookimpl
def adapterhub_tiny_models() -> list[TinyModel]:
    from adapterhub_images.tiny import TINY

    return [TINY]
