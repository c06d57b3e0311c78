"""`POST /predict`: rows as the task of an adapter takes them, and a prediction for each."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from adapterhub_lite.adapter.inputs import rows_to_predict
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.serve.models import Model
from adapterhub_lite.serve.refusal import Refusal, bad, refusal_of
from adapterhub_lite.serve.settings import Settings

PIXELS = 25_000_000
"""The most of one image; a small file may hold many."""


class PredictRequest(BaseModel):
    """Rows to predict for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="The name of the adapter; may be left out where there is only one.")
    rows: list[Any] = Field(
        min_length=1,
        description="A row each: a text, [text, pair], a list of words, an image in base64 or as a data URL, a series as "
        "[[channel, ...], ...], or an object with the columns of the training data.",
    )
    probabilities: bool = Field(False, description="Give those of all labels.")


def read_rows(model: Model, asked: PredictRequest, settings: Settings) -> Dataset:
    """Read and check rows as the adapter's task does; nothing is opened that a row may name.

    Raises:
        Refusal: too many, or rows that cannot be used; names the row and the field.
    """
    if len(asked.rows) > settings.max_rows:
        raise Refusal(
            413, f"rows: {len(asked.rows)} in one request, of at most {settings.max_rows}; send fewer", "rows"
        )
    rows: Any = asked.rows
    try:
        if model.task.modality == "image":
            column = model.adapter.columns.get("image", "image")
            images = [{"bytes": _image(row, column, number)} for number, row in enumerate(rows, start=1)]
            rows = pa.table({column: pa.array(images, pa.struct({"bytes": pa.binary()}))})
        elif any(isinstance(row, Mapping) != isinstance(rows[0], Mapping) for row in rows):
            raise bad("rows: some are objects and some are not; write all alike", "rows")
        return rows_to_predict(model.task, rows, partial(model.adapter.load_data, require_labels=False))
    except Exception as error:
        raise refusal_of(error, "rows") from error


def predicted(outputs: Sequence[Any], *, probabilities: bool) -> list[dict[str, Any]]:
    """Predictions as JSON, a row each."""
    rows = []
    for output in outputs:
        row = dict(output.columns())
        by_label = getattr(output, "probabilities", None)
        if probabilities and isinstance(by_label, dict):
            row["probabilities"] = {label: round(value, 6) for label, value in by_label.items()}
        rows.append(row)
    return rows


def _image(row: Any, column: str, number: int) -> bytes:
    """The bytes of an image that is written in base64; a path or an address is never followed."""
    where = f"rows, row {number}"
    if isinstance(row, Mapping):
        if column not in row:
            raise bad(f"{where}: has no '{column}'; give the image in base64, or as a data URL", "rows")
        row, where = row[column], f"{where}, column '{column}'"
    if not isinstance(row, str):
        raise bad(f"{where}: is no text; give the image in base64, or as a data URL", "rows")
    text = row.partition(",")[2] if row.startswith("data:") else row
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise bad(
            f"{where}: is not base64; paths and addresses are not opened, send the image itself", "rows"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
    except Exception:  # which the reader of the task puts into words
        return data
    if width * height > PIXELS:
        raise bad(f"{where}: has {width} x {height} pixels, more than {PIXELS:,}; make it smaller", "rows")
    return data
