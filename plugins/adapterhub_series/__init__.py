"""Time series: their tasks and files, and the bases that read them, PatchTST and PatchTSMixer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapterhub_lite.api import ModelMap, Request, TaskSpec, hookimpl
from adapterhub_series.options import (
    CLASSIFICATION,
    FORMS,
    REGRESSION,
    SUFFIXES,
    SeriesClassificationOptions,
    SeriesRegressionOptions,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from adapterhub_lite.api import Dataset, TinyModel

INPUT = "past_values"
"""What models of transformers for series call their input."""


def read_classification(source: Any, request: Request) -> Dataset:
    """Read and check series with one label each; see `adapterhub_series.data`."""
    from adapterhub_series.reading import read_classification

    return read_classification(source, request)


def read_regression(source: Any, request: Request) -> Dataset:
    """Read and check series with one number each; see `adapterhub_series.data`."""
    from adapterhub_series.reading import read_regression

    return read_regression(source, request)


def columns_again(recorded: Mapping[str, str], source: Any) -> Mapping[str, str]:
    """The columns of the training data, by role, by which to read a new source."""
    from adapterhub_series.reading import columns_again

    return columns_again(recorded, source)


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=CLASSIFICATION,
            summary="A time series in, whole or in windows, one of several labels out.",
            modality="series",
            read=read_classification,
            load="adapterhub_series.classification:SeriesClassification",
            roles=("channels", "series", "time", "label", "group"),
            options=SeriesClassificationOptions,
            forms=FORMS,
            columns_again=columns_again,
            suffixes=SUFFIXES,
        ),
        TaskSpec(
            name=REGRESSION,
            summary="A time series in, whole or in windows, a number out.",
            modality="series",
            read=read_regression,
            load="adapterhub_series.regression:SeriesRegression",
            roles=("channels", "series", "time", "target", "group"),
            options=SeriesRegressionOptions,
            labelled=False,
            forms=FORMS,
            columns_again=columns_again,
            suffixes=SUFFIXES,
        ),
    ]


@hookimpl
def adapterhub_base_config(config: Mapping[str, Any]) -> PretrainedConfig | None:
    if config.get("model_type") != "patchtst" or not config.get("do_mask_input"):
        return None
    from transformers import PatchTSTConfig

    # Saved in pre-training, it would go on hiding patches at random.
    return PatchTSTConfig.from_dict({**config, "do_mask_input": False})


@hookimpl
def adapterhub_describe_model(model: Any) -> ModelMap | None:
    if getattr(model, "main_input_name", None) != INPUT:
        return None
    from adapterhub_series.base import describe

    return describe(model)


@hookimpl
def adapterhub_tiny_models() -> list[TinyModel]:
    from adapterhub_series.tiny import TINY

    return list(TINY)
