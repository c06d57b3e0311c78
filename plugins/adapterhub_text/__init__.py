"""Texts and pairs of texts: tasks that give them a label, several labels or a number, and their tiny models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapterhub_lite.api import SEVERAL, TaskSpec, hookimpl
from adapterhub_text.options import (
    CLASSIFICATION,
    CLASSIFICATION_ROLES,
    LABEL_TEXT,
    REGRESSION,
    REGRESSION_ROLES,
    TextClassificationOptions,
    TextRegressionOptions,
)

if TYPE_CHECKING:
    from adapterhub_lite.api import TinyModel


@hookimpl
def adapterhub_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=CLASSIFICATION,
            summary="A text or a pair of texts in, one of several labels or any number of them out.",
            modality="text",
            read="adapterhub_text.reading:read_labelled",
            load="adapterhub_text.classification:TextClassification",
            roles=CLASSIFICATION_ROLES,
            options=TextClassificationOptions,
            forms=(None, SEVERAL),
            formats=(LABEL_TEXT, "folder"),
            peft_task_type="SEQ_CLS",
        ),
        TaskSpec(
            name=REGRESSION,
            summary="A text or a pair of texts in, a number out.",
            modality="text",
            read="adapterhub_text.reading:read_valued",
            load="adapterhub_text.regression:TextRegression",
            roles=REGRESSION_ROLES,
            options=TextRegressionOptions,
            labelled=False,
        ),
    ]


@hookimpl
def adapterhub_tiny_models() -> list[TinyModel]:
    from adapterhub_text.tiny import TINY

    return list(TINY)
