"""The options of the tasks that come with adapterhub-lite. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adapterhub_lite.tasks.spec import TaskOptions

Pooling = Literal["cls", "mean", "last"]


class PooledText(TaskOptions):
    """For tasks that read a text."""

    max_length: int | None = Field(
        None, ge=2, description="Tokens an input is cut to; what the base takes, at most 512."
    )
    pooling: Pooling | None = Field(None, description="How tokens become one vector; what suits the base.")
    normalize: bool | None = Field(None, description="Bring every vector to one length; what suits the base.")


class Classes(TaskOptions):
    """For tasks with classes."""

    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes count more, n / (classes * rows of the class)."
    )
    separator: str | None = Field(
        None, min_length=1, description="What stands between several labels in a text; found out by default."
    )


class TextClassificationOptions(PooledText, Classes):
    """Options of text-classification."""

    learn_names: bool = Field(
        False, description="Learn the name of each class as one more example of it; helps where labels are few."
    )


class TextRegressionOptions(PooledText):
    """Options of text-regression."""


class TokenClassificationOptions(TaskOptions):
    """Options of token-classification."""

    max_length: int | None = Field(
        None, ge=2, description="Tokens an input is cut to; what the base takes, at most 512."
    )


class ImageClassificationOptions(Classes):
    """Options of image-classification."""

    pooling: Pooling | None = Field(None, description="How patches become one vector; what suits the base.")


class CausalLMOptions(TaskOptions):
    """Options of causal-lm."""

    max_length: int | None = Field(
        None, ge=2, description="Tokens an input is cut to; what the base takes, at most 1024."
    )
    packing: bool = Field(
        False,
        description="Several short examples in a row of max_length tokens, without seeing each other, instead of padding.",
    )


class SeriesOptions(TaskOptions):
    """For tasks that read a time series."""

    window: int | None = Field(None, ge=2, description="Cut series into windows of so many steps; whole by default.")
    stride: int = Field(1, ge=1, description="Steps from the end of one window to the end of the next.")
    last_only: bool = Field(
        False, description="Evaluate and predict the last window of each series only; training takes all of them."
    )
    resample: Literal["resample", "pad", "last"] = Field(
        "resample",
        description="Where a series has not the steps that the base takes. resample: stretched or squeezed; pad: a shorter "
        "one is led by its first step, a longer one squeezed; last: of a longer one the last steps, a shorter one led.",
    )
    normalize: Literal["channel", "series", "none"] = Field(
        "channel",
        description="channel: by mean and spread of each channel in the training data; series: by those of each series.",
    )
    channel_pooling: Literal["concat", "mean"] = Field(
        "concat", description="concat: the head sees each channel apart; mean: their average."
    )
    patch_pooling: Literal["mean", "max", "last", "cls", "flatten", "mean+max", "mean+last"] | None = Field(
        None, description="How patches become one vector a channel; cls where the base has such a token, else mean."
    )
    levels: bool | None = Field(
        None,
        description="Give the head the mean and spread of each channel as well; by default where normalize is channel and "
        "the base takes them out of its input.",
    )


class SeriesClassificationOptions(SeriesOptions):
    """Options of series-classification."""

    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes count more, n / (classes * rows of the class)."
    )


class SeriesRegressionOptions(SeriesOptions):
    """Options of series-regression."""

    target_cap: float | None = Field(
        None,
        description="Targets above it count as it, in training and in scores: remaining life is capped at 125 or so.",
    )
