"""Time series: their tasks and files, and the bases that read them, PatchTST and PatchTSMixer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapterhub_lite.api import ModelMap, TaskSpec, hookimpl
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

    from adapterhub_lite.api import TinyModel

INPUT = "past_values"
"""What models of transformers for series call their input."""


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=CLASSIFICATION,
            summary="A time series in, whole or in windows, one of several labels out.",
            modality="series",
            read="adapterhub_series.reading:read_classification",
            load="adapterhub_series.classification:SeriesClassification",
            roles=("channels", "series", "time", "label", "group"),
            options=SeriesClassificationOptions,
            forms=FORMS,
            columns_again="adapterhub_series.reading:columns_again",
            suffixes=SUFFIXES,
        ),
        TaskSpec(
            name=REGRESSION,
            summary="A time series in, whole or in windows, a number out.",
            modality="series",
            read="adapterhub_series.reading:read_regression",
            load="adapterhub_series.regression:SeriesRegression",
            roles=("channels", "series", "time", "target", "group"),
            options=SeriesRegressionOptions,
            labelled=False,
            forms=FORMS,
            columns_again="adapterhub_series.reading:columns_again",
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
