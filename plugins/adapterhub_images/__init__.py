"""Images: their task, and the folders, tables and arrays that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapterhub_images.options import ROLES, TASK, ImageClassificationOptions
from adapterhub_lite.api import SEVERAL, Request, TaskSpec, hookimpl

if TYPE_CHECKING:
    from adapterhub_lite.api import Dataset, TinyModel


def read(source: Any, request: Request) -> Dataset:
    """Read labelled images and check that each file is there; see `adapterhub_images.reading`."""
    from adapterhub_images.reading import read

    return read(source, request)


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=TASK,
            summary="An image in, one of several labels or any number of them out.",
            modality="image",
            read=read,
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
