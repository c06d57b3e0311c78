"""Small valid adapters, made by hand, for the tests of this folder."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from adapterhub_lite.storage.layout import MANIFEST, TENSORS
from adapterhub_lite.storage.manifest import (
    BaseRecord,
    DataRecord,
    Fingerprint,
    Manifest,
    ProbeRecord,
    StrategyRecord,
    TaskRecord,
)
from adapterhub_lite.storage.store import write_adapter

FINGERPRINT = Fingerprint(architecture="a" * 64, weights="b" * 64, tokenizer="c" * 64, vocabulary=30522, layers=6)


def safetensors_bytes(header: Any, data: bytes, length: int | None = None) -> bytes:
    """A file with this header, an object or raw bytes, and this data."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def good_header() -> dict[str, Any]:
    return {
        "__metadata__": {"format": "pt"},
        "layer.0.a": entry("F32", [2, 3], 0, 24),
        "layer.0.b": entry("BF16", [4], 24, 32),
        "empty": entry("F32", [0, 5], 32, 32),
        "scale": entry("F32", [], 32, 36),
    }


def good_tensors(version: int = 0) -> bytes:
    return safetensors_bytes(good_header(), bytes((version + i) % 120 for i in range(36)))  # all finite


def manifest(version: int = 0) -> Manifest:
    return Manifest(
        strategy=StrategyRecord(
            name="lora", dist="adapterhub-lite", version="0.1.0", config={"rank": 8, "targets": []}
        ),
        base=BaseRecord(
            reference="org/base",
            revision=None,
            fingerprint=FINGERPRINT,
            quantization="nf4",
            dtype="bfloat16",
            parameters=100,
        ),
        task=TaskRecord(
            name="text-classification",
            labels=["no", "да", "是"],
            columns={"text": "utterance"},
            preprocessing={"max_length": 128},
        ),
        data=DataRecord(source="train.csv", sha256="d" * 64, rows=10),
        training={"seed": version, "learning_rate": 1e-4},
        metrics={"accuracy": 0.1 + 0.2, "loss": None},
        versions={"adapterhub-lite": "0.1.0"},
        probe=ProbeRecord(inputs=["hello", {"text": "a"}], outputs=[[0.25, -1e-9], [1.0, 3.0]]),
        forced=[],
        created="2025-01-31T12:00:00+00:00",
    )


def save(target: Path, version: int = 0, extra: dict[str, bytes] | None = None) -> Manifest:
    return write_adapter(
        target,
        tensors=good_tensors(version),
        config={"peft_type": "LORA", "r": version},
        manifest=manifest(version),
        extra={"tokenizer.json": b"{}"} if extra is None else extra,
    )


def reseal(folder: Path, *, raw: bytes | None = None) -> None:
    """What a forger does: make the manifest agree with the files as they are now, its own digest included."""
    path = folder / MANIFEST
    if raw is None:
        document = json.loads(path.read_bytes())
        for name in document["files"]:
            data = (folder / name).read_bytes()
            document["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        raw = json.dumps(document, indent=2).encode() + b"\n"
    opening = b'{\n  "manifest_sha256": "'
    blank = opening + b"0" * 64 + raw[len(opening) + 64 :]
    path.write_bytes(blank[: len(opening)] + hashlib.sha256(blank).hexdigest().encode() + blank[len(opening) + 64 :])


def edit_manifest(folder: Path, **changes: Any) -> None:
    """Change keys of the manifest and seal it again."""
    document = json.loads((folder / MANIFEST).read_bytes())
    document.update(changes)
    reseal(folder, raw=json.dumps(document, indent=2).encode() + b"\n")


def forge_tensors(folder: Path, tensors: bytes) -> None:
    (folder / TENSORS).write_bytes(tensors)
    reseal(folder)


def leftovers(target: Path) -> list[str]:
    """Everything beside `target` but its history."""
    ours = (target.name, f".{target.name}.history")
    return sorted(p.name for p in target.parent.iterdir() if p.name not in ours)
