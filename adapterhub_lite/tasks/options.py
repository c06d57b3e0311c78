"""The options of the tasks that come with adapterhub-lite. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adapterhub_lite.tasks.spec import TaskOptions

Pooling = Literal["cls", "mean", "last"]


class PooledText(TaskOptions):
    """For tasks that read a text."""

    max_length: int | None = Field(
        default=None, ge=2, description="Tokens an input is cut to; what the base takes, at most 512."
    )
    pooling: Pooling | None = Field(default=None, description="How tokens become one vector; what suits the base.")
    normalize: bool | None = Field(default=None, description="Bring every vector to one length; what suits the base.")


class ClassificationOptions(TaskOptions):
    """For tasks with classes."""

    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: rare classes count more, n / (classes * rows of the class)."
    )
    separator: str | None = Field(
        default=None, min_length=1, description="What stands between several labels in a text; found out by default."
    )


class TextClassificationOptions(PooledText, ClassificationOptions):
    """Options of text-classification."""

    learn_names: bool = Field(
        default=False, description="Learn the name of each class as one more example of it; helps where labels are few."
    )


class TextRegressionOptions(PooledText):
    """Options of text-regression."""
