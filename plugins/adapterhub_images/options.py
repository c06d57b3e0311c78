"""The task on images by name, the roles of its columns, and its options. Nothing heavy here."""

from __future__ import annotations

from typing import Literal

from adapterhub_lite.api import ClassificationOptions, Field

TASK = "image-classification"
ROLES = ("image", "label", "labels", "group")


class ImageClassificationOptions(ClassificationOptions):
    """Options of image-classification."""

    pooling: Literal["cls", "mean", "last"] | None = Field(
        default=None, description="How patches become one vector; what suits the base."
    )
