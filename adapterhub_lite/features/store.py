"""Encode a dataset with the frozen base, or find that it was done before."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapterhub_lite.base.fingerprint import file_hash
from adapterhub_lite.base.heap import kept_heap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.precision import dtype_name
from adapterhub_lite.cache import cache_dir
from adapterhub_lite.data.batches import length_batches
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.task import Encoded, Example, Task
from adapterhub_lite.training.memory import in_batches

TOKENS_AT_ONCE = 8192
IMAGES_AT_ONCE = 32


def encode_features(
    base: Base, task: Task, data: Encoded, progress: Progress, *, keep: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Run the bare base over a dataset.

    Args:
        base: Any adapter on it is taken off first.
        task: Decides what a feature is: a pooled vector an example, or the last hidden state at a supervised token.
        data: Encoded examples.
        progress: Shows the work.
        keep: Look in the cache, and leave the result there.

    Returns:
        (n, hidden_size) fp32 features and (n,) targets in the order of the examples, on the CPU.

    Raises:
        TrainingError: out of memory with a single example; batches that do not fit are cut in two.
    """
    examples = data.examples
    path = cache_dir() / "features" / f"{_key(base, task, examples)}.safetensors"
    found = _read(path) if keep else None
    if base.shards is not None and base.shards.largest(int(found is None)):
        found = None  # another process has to encode them, which it cannot do alone
    if found is not None:
        progress.say(f"features of {len(examples)} examples found in the cache")
        return found
    features, targets = _encode(base, task, examples, progress)
    if keep:
        _write(path, features, targets)
    return features, targets


def _encode(base: Base, task: Task, examples: Sequence[Example], progress: Progress) -> tuple[Tensor, Tensor | None]:
    base.activate(None)
    (order,) = length_batches([example.length for example in examples], len(examples))
    lengths = [examples[row].length for row in order]
    parts: list[tuple[int, Tensor, Tensor | None]] = []

    def work(start: int, stop: int) -> list[tuple[int, Tensor, Tensor | None]]:
        rows = order[start:stop]
        batch = task.collate([examples[row] for row in rows], base)
        features, targets = task.features(base, {key: value.to(base.device) for key, value in batch.items()})
        counts = [examples[row].rows for row in rows]
        split_targets = targets.cpu().split(counts) if targets is not None else [None] * len(rows)
        return list(zip(rows, features.float().cpu().split(counts), split_targets, strict=True))

    at_once = TOKENS_AT_ONCE if lengths[0] > 1 else IMAGES_AT_ONCE
    with progress.bar("encoding", len(order), "examples") as bar, torch.no_grad(), kept_heap(base):
        for done in in_batches(lengths, at_once, work, base, "while encoding", by_length=True):
            parts += done
            bar.advance(len(done))
    parts.sort(key=lambda part: part[0])
    features = torch.cat([part[1] for part in parts])
    known = [part[2] for part in parts if part[2] is not None]
    return features, torch.cat(known) if known else None


def _key(base: Base, task: Task, examples: Sequence[Example]) -> str:
    """A hash of all that the features depend on."""
    about = {
        "base": base.fingerprint.model_dump(mode="json"),
        "quantization": base.quantization,
        "dtype": dtype_name(base.dtype),
        "device": base.device.type,
        "task": task.name,
        "labels": len(task.labels),  # how wide the targets of several labels are
        "preprocessing": task.preprocessing.record(),
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for example in examples:
        digest.update(_content(example.inputs))
        digest.update(_content(-1 if example.target is None else example.target))
    return digest.hexdigest()[:40]


def _content(inputs: Any) -> bytes:
    if isinstance(inputs, (str, Path)):
        return file_hash(Path(inputs)).encode()
    if isinstance(inputs, bytes):
        return hashlib.sha256(inputs).digest()
    if isinstance(inputs, tuple):  # of parts that differ in length
        return b"".join(map(_content, inputs))
    array = np.asarray(inputs)
    return f"{array.shape}{array.dtype}".encode() + array.tobytes()


def _read(path: Path) -> tuple[Tensor, Tensor | None] | None:
    try:
        tensors = load_file(path)
        return tensors["features"], tensors.get("targets")
    except Exception:  # a damaged or missing cache entry is made again, whatever is wrong with it
        return None


def _write(path: Path, features: Tensor, targets: Tensor | None) -> None:
    tensors = {"features": features} if targets is None else {"features": features, "targets": targets}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        os.close(handle)
        try:
            save_file(tensors, name)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError:
        pass  # a full or read-only cache costs time, not correctness
