"""The tasks by name, the roles of their columns, and their options. Nothing heavy here."""

from __future__ import annotations

from typing import Literal

from adapterhub_lite.api import ClassificationOptions, Field, TaskOptions

CLASSIFICATION = "text-classification"
CLASSIFICATION_ROLES = ("text", "pair", "label", "labels", "group")
LABEL_TEXT = "label-text"
"""The name for `--format` of files whose lines are a label and a text."""
REGRESSION = "text-regression"
REGRESSION_ROLES = ("text", "pair", "target", "group")

Pooling = Literal["cls", "mean", "last", "max", "mean_sqrt_len", "weightedmean"]


class PooledText(TaskOptions):
    """For tasks that read a text."""

    max_length: int | None = Field(
        default=None, ge=2, description="Tokens an input is cut to; what the base takes, at most 512."
    )
    pooling: Pooling | None = Field(default=None, description="How tokens become one vector; what suits the base.")
    prompt: str | None = Field(
        default=None, description="What goes before every text; what the base declares, which is mostly nothing."
    )
    normalize: bool | None = Field(default=None, description="Bring every vector to one length; what suits the base.")


class TextClassificationOptions(PooledText, ClassificationOptions):
    """Options of text-classification."""

    learn_names: bool = Field(
        default=False, description="Learn the name of each class as one more example of it; helps where labels are few."
    )


class TextRegressionOptions(PooledText):
    """Options of text-regression."""
