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
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.task import Encoded, Example, Task
from adapterhub_lite.training.out_of_memory import free, is_out_of_memory, need

TOKENS_AT_ONCE = 8192


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
    path = cache_dir() / "features" / f"{_key(base, task, data.examples)}.safetensors"
    found = _read(path) if keep else None
    if base.shards is not None and base.shards.largest(int(found is None)):
        found = None  # another process has to encode them, which it cannot do alone
    if found is not None:
        progress.say(f"features of {len(data.examples)} examples found in the cache")
        return found
    base.activate(None)
    lengths = [example.length for example in data.examples]
    parts: list[tuple[int, Tensor, Tensor | None]] = []
    with progress.bar("encoding", len(lengths), "examples") as bar, torch.no_grad(), kept_heap(base):
        waiting = _batches(lengths)[::-1]
        while waiting:
            rows = waiting.pop()
            try:
                batch = task.collate([data.examples[row] for row in rows], base)
                features, targets = task.features(base, {key: value.to(base.device) for key, value in batch.items()})
                if base.shards is not None:
                    base.shards.check()
                cut = False
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if base.shards is not None:
                    base.shards.begin_again(error)
                if len(rows) == 1:
                    raise TrainingError(
                        f"out of memory while encoding a single example of length {lengths[rows[0]]}"
                        f"{need(error, base.device)}; use a shorter --max-length, --quantize nf4, or a smaller base"
                    ) from error
                cut = True
            if cut:  # outside the except block, where the error would keep the activations alive
                free(base.device)
                half = len(rows) // 2
                waiting += [rows[half:], rows[:half]]
                continue
            counts = [data.examples[row].rows for row in rows]
            split_targets = targets.cpu().split(counts) if targets is not None else [None] * len(rows)
            parts += zip(rows, features.float().cpu().split(counts), split_targets, strict=True)
            bar.advance(len(rows))
    parts.sort(key=lambda part: part[0])
    features = torch.cat([part[1] for part in parts])
    known = [part[2] for part in parts if part[2] is not None]
    targets = torch.cat(known) if known else None
    if keep:
        _write(path, features, targets)
    return features, targets


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Like lengths together, the more at once the shorter they are: about `TOKENS_AT_ONCE` tokens, or 32 images."""
    if max(lengths) == 1:
        return length_batches(lengths, 32)
    batches: list[list[int]] = []
    room = 0
    for row in (row for rows in length_batches(lengths, 1) for row in rows):
        if not batches or len(batches[-1]) >= room:
            batches.append([])
            room = max(1, TOKENS_AT_ONCE // lengths[row])
        batches[-1].append(row)
    return batches


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
