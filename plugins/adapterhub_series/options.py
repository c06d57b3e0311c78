"""The tasks on time series by name, the forms of their data, and their options. Nothing heavy here."""

from __future__ import annotations

from typing import Literal

from adapterhub_lite.api import Field, TaskOptions

CLASSIFICATION = "series-classification"
REGRESSION = "series-regression"

WHOLE, WINDOWS = "series", "windows"
FORMS = (WHOLE, WINDOWS)
"""Every `Dataset.form` of series: a row a series, or a row a window."""
SUFFIXES = (".npz", ".ts", ".arff")
"""Endings of the names of files of series that are no tables."""


class SeriesOptions(TaskOptions):
    """For tasks that read a time series."""

    window: int | None = Field(
        default=None, ge=2, description="Cut series into windows of so many steps; whole by default."
    )
    stride: int = Field(default=1, ge=1, description="Steps from the end of one window to the end of the next.")
    last_only: bool = Field(
        default=False,
        description="Evaluate and predict the last window of each series only; training takes all of them.",
    )
    resample: Literal["resample", "pad", "last"] = Field(
        default="resample",
        description="Where a series has not the steps that the base takes. resample: stretched or squeezed; pad: a shorter "
        "one is led by its first step, a longer one squeezed; last: of a longer one the last steps, a shorter one led.",
    )
    normalize: Literal["channel", "series", "none"] = Field(
        default="channel",
        description="channel: by mean and spread of each channel in the training data; series: by those of each series.",
    )
    channel_pooling: Literal["concat", "mean"] = Field(
        default="concat", description="concat: the head sees each channel apart; mean: their average."
    )
    patch_pooling: Literal["mean", "max", "last", "cls", "flatten", "mean+max", "mean+last"] | None = Field(
        default=None,
        description="How patches become one vector a channel; cls where the base has such a token, else mean.",
    )
    levels: bool | None = Field(
        default=None,
        description="Give the head the mean and spread of each channel as well; by default where normalize is channel and "
        "the base takes them out of its input.",
    )


class SeriesClassificationOptions(SeriesOptions):
    """Options of series-classification."""

    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: rare classes count more, n / (classes * rows of the class)."
    )


class SeriesRegressionOptions(SeriesOptions):
    """Options of series-regression."""

    target_cap: float | None = Field(
        default=None,
        description="Targets above it count as it, in training and in scores: remaining life is capped at 125 or so.",
    )
