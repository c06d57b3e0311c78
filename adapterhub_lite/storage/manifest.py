"""`adapterhub.json`: what an adapter is, what it was trained on, and what its files should be.

The file carries its own SHA-256 as its first key, taken over its bytes with the digest itself written as zeros. With
the digests of the other files in it, every byte of an adapter is covered: a flipped bit anywhere is noticed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from adapterhub_lite.errors import AdapterCorruptError, StorageError
from adapterhub_lite.names import QUANTIZATIONS
from adapterhub_lite.scoring.decision import PLAIN, DecisionRecord
from adapterhub_lite.storage.migrate import migrate
from adapterhub_lite.storage.strict_json import parse_json

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 4 << 20

_SEAL = "manifest_sha256"
_OPENING = f'{{\n  "{_SEAL}": "'.encode()
_BLANK = b"0" * 64
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?")


def _all_finite(value: JsonValue) -> JsonValue:
    # JSON has no NaN. A loop, because a recursion of ours would be the first to give up on deep nesting.
    stack: list[JsonValue] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError("numbers must be finite")
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return value


def _is_utc(text: str) -> str:
    if datetime.fromisoformat(text).utcoffset() != timedelta(0):
        raise ValueError("must be in UTC, as in 2025-01-31T12:00:00+00:00")
    return text


def _one_of(*choices: str) -> AfterValidator:
    def check(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return AfterValidator(check)


Json = Annotated[JsonValue, AfterValidator(_all_finite)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Record(BaseModel):
    """A part of the manifest: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StrategyRecord(Record):
    """The strategy that made the adapter."""

    name: str = Field(description="Name of the strategy, as it is looked up.")
    dist: str | None = Field(description="Distribution that provided it; None for one registered by hand.")
    version: str | None = Field(description="Version of that distribution.")
    config: dict[str, Json] = Field(description="Its options, as its config class dumps them.")
    state: dict[str, Json] = Field(
        default_factory=dict,
        exclude_if=lambda state: not state,
        description="What else it keeps; tensors are in the file.",
    )


class Fingerprint(Record):
    """What a base is, apart from where it was loaded from and how it was quantized."""

    architecture: str = Field(description="SHA-256 of the normalised config.")
    weights: str = Field(description="SHA-256 of the weights before any quantization.")
    tokenizer: str | None = Field(description="SHA-256 of the tokenizer or image processor files; None without one.")
    vocabulary: int | None = Field(description="Rows of the input embedding; None without one.")
    layers: int = Field(description="Number of repeated blocks.")


class BaseRecord(Record):
    """The base the adapter was trained on."""

    reference: str = Field(description="What the user named the base by: a hub id or a path.")
    revision: str | None = Field(description="Commit of the hub repository; None for a path.")
    fingerprint: Fingerprint = Field(description="What the base is, compared when the adapter is loaded.")
    quantization: Annotated[str, _one_of(*QUANTIZATIONS)] = Field(description="How the base was quantized in training.")
    dtype: Annotated[str, _one_of("float32", "bfloat16", "float16", "float64")] = Field(
        description="Dtype the base computed in."
    )
    parameters: int = Field(ge=0, description="Number of parameters of the base.")


class TaskRecord(Record):
    """What the model was asked to do."""

    name: str = Field(description="Name of the task.")
    labels: list[str] = Field(description="Names of the classes in the order of the outputs; empty without classes.")
    columns: dict[str, str] = Field(description="Column of the data that played each role.")
    files: dict[str, Json] = Field(
        default_factory=dict,
        exclude_if=lambda files: not files,
        description="What was said of the file of data beside its name.",
    )
    preprocessing: dict[str, Json] = Field(description="How inputs were prepared: max_length, pooling, chat template.")
    decision: DecisionRecord = Field(
        default=PLAIN,
        exclude_if=lambda decision: decision == PLAIN,
        description="What is done between the outputs and the answer.",
    )

    @model_validator(mode="after")
    def _a_threshold_each(self) -> Self:
        chosen = self.decision.labels
        if chosen is not None and len(chosen.thresholds) != len(self.labels):
            raise ValueError(f"{len(chosen.thresholds)} thresholds for {len(self.labels)} labels")
        return self

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if len(set(self.labels)) != len(self.labels) or not all(self.labels):
            raise ValueError("labels must be different and not empty")
        return self


class DataRecord(Record):
    """The data the adapter was trained on."""

    source: str = Field(description="Path or name the data was given by.")
    sha256: str = Field(description="SHA-256 of the data.")
    rows: int = Field(ge=0, description="Number of examples used.")


class FileRecord(Record):
    """One file of the adapter."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of its bytes.")
    size: int = Field(ge=0, description="Its size in bytes.")


class ProbeRecord(Record):
    """A few inputs with the outputs seen at save time."""

    inputs: list[Json] = Field(description="Inputs as a user would give them.")
    outputs: list[list[Finite]] = Field(description="One row of outputs for each input.")

    @model_validator(mode="after")
    def _one_row_each(self) -> Self:
        if len(self.inputs) != len(self.outputs):
            raise ValueError(f"{len(self.inputs)} inputs but {len(self.outputs)} rows of outputs")
        return self


class Manifest(Record):
    """Everything about an adapter but its tensors."""

    schema_version: int = Field(SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION, description="Version of this layout.")
    strategy: StrategyRecord = Field(description="The strategy that made the adapter.")
    base: BaseRecord = Field(description="The base it was trained on.")
    task: TaskRecord = Field(description="What the model was asked to do.")
    data: DataRecord | None = Field(None, description="The data it was trained on; None where unknown.")
    training: dict[str, Json] = Field(description="How it was trained: options, steps, seed.")
    metrics: dict[str, Finite | None] = Field(description="What was measured; None for a value that was not finite.")
    versions: dict[str, str] = Field(description="Versions of the libraries that made it, by distribution.")
    files: dict[str, FileRecord] = Field(
        default_factory=dict, description="Every other file of the adapter; filled in when it is written."
    )
    probe: ProbeRecord | None = Field(None, description="Inputs and outputs to replay; None where there are none.")
    forced: list[str] = Field(default_factory=list, description="Checks that were overruled, in words.")
    created: Annotated[str, AfterValidator(_is_utc)] = Field(description="When it was saved: ISO 8601, UTC.")


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of `adapterhub.json`.

    Raises:
        StorageError: where they would be more than a reader accepts.
    """
    document = {_SEAL: _BLANK.decode(), **manifest.model_dump(mode="json")}
    try:
        blank = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    except (ValueError, RecursionError) as error:
        raise StorageError(f"the manifest cannot be written as JSON ({error}); simplify its config or probe") from None
    if len(blank) > MAX_MANIFEST_BYTES:
        raise StorageError(f"the manifest has {len(blank)} bytes, over {MAX_MANIFEST_BYTES}; make its probe smaller")
    return _sealed(blank)


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Return the manifest that `encode_manifest` made these bytes from.

    Raises:
        AdapterCorruptError: where they are not such bytes, or are of a later version than this one; names `where`.
    """
    document = parse_json(data, where)
    if not isinstance(document, dict):
        raise AdapterCorruptError(f"{where}: not a JSON object; save the adapter again or fetch it anew")
    version = document.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:  # before the seal, which a later version may place elsewhere
        raise AdapterCorruptError(
            f"{where}: schema version {str(version)[:20]} is newer than {SCHEMA_VERSION}, the newest known here; "
            f"run: pip install {_wanted(document)}"
        )
    if not data.startswith(_OPENING) or data != _sealed(data):
        raise AdapterCorruptError(
            f"{where}: not as it was saved (its own {_SEAL} does not match); save the adapter again or fetch it anew"
        )
    del document[_SEAL]
    document = migrate(document, SCHEMA_VERSION, where)
    try:
        return Manifest.model_validate(document, strict=True)
    except (ValidationError, RecursionError) as error:
        raise AdapterCorruptError(
            f"{where}: {_first_problem(error)}; save the adapter again or fetch it anew"
        ) from None


def _sealed(data: bytes) -> bytes:
    head, rest = data[: len(_OPENING)], data[len(_OPENING) + len(_BLANK) :]
    return head + hashlib.sha256(head + _BLANK + rest).hexdigest().encode() + rest


def _wanted(document: dict[str, Any]) -> str:
    # The version comes from a file we do not understand and goes into a command: only a plain version may.
    versions = document.get("versions")
    version = versions.get("adapterhub-lite") if isinstance(versions, dict) else None
    if isinstance(version, str) and len(version) < 40 and _VERSION.fullmatch(version):
        return f"'adapterhub-lite>={version}'"
    return "--upgrade adapterhub-lite"


def _first_problem(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    place = ".".join(str(part) for part in problems[0]["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place[:120]!r}: {problems[0]['msg']}{more}"
