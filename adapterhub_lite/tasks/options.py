"""The options of tasks with classes, whatever their input. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adapterhub_lite.tasks.spec import TaskOptions


class ClassificationOptions(TaskOptions):
    """For tasks with classes."""

    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: rare classes count more, n / (classes * rows of the class)."
    )
    separator: str | None = Field(
        default=None, min_length=1, description="What stands between several labels in a text; found out by default."
    )
