"""Encode a dataset with the frozen base, or take the result of an earlier time from the cache."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adapterhub_lite.base.fingerprint import file_hash
from adapterhub_lite.base.heap import kept_heap
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.precision import dtype_name
from adapterhub_lite.cache import cache_dir, cache_limit, keep_below
from adapterhub_lite.data.batches import longest_first
from adapterhub_lite.errors import DataError
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.head_class import FACT
from adapterhub_lite.tasks.task import Encoded, Example, Task
from adapterhub_lite.training.flat import flattened
from adapterhub_lite.training.out_of_memory import in_batches

TOKENS_AT_ONCE = 8192
IMAGES_AT_ONCE = 32


def encode_features(
    base: Base, task: Task, data: Encoded, progress: Progress, *, keep: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Run the bare base over a dataset.

    Args:
        base: Any adapter on it is taken off first.
        task: Decides what a feature is: one pooled vector for an example, or a hidden state for a supervised token.
        data: Encoded examples.
        progress: Shows the work.
        keep: Look in the cache, and leave the result there; `ADAPTERHUB_CACHE_LIMIT` says how much it holds.

    Returns:
        (n, hidden_size) fp32 features and (n,) targets in the order of the examples, on the CPU.

    Raises:
        ConfigError: `ADAPTERHUB_CACHE_LIMIT` is no size.
        TrainingError: out of memory with a single example; batches that do not fit are cut in two.
    """
    examples, limit = data.examples, cache_limit() if keep else 0
    about, contents = _about(base, task), list(map(example_content, data.examples))
    known, keys = base.row_features, [about + content for content in contents]
    if known is not None and all(key in known for key in keys):
        return _joined([known[key] for key in keys])
    path = cache_dir() / "features" / f"{_digest_of([about, *contents])}.safetensors"
    cached = _read(path, examples, progress) if keep else None
    if base.shards is not None and base.shards.largest(int(cached is None)):
        cached = None  # another process has to encode them, which it cannot do alone
    if cached is not None:
        progress.say(f"features of {len(examples)} examples found in the cache")
    features, targets = cached or _encode(base, task, examples, progress)
    if keep:
        size = features.nbytes + (targets.nbytes if targets is not None else 0)
        if cached is None and size <= limit:
            _write(path, features, targets, examples)
        keep_below(path.parent, limit)
    if known is not None:
        known.update(zip(keys, _by_example(examples, features, targets), strict=True))
    return features, targets


@contextmanager
def shared_features(base: Base) -> Iterator[None]:
    """For the length of a `with` block, remember features by example: parts of data that was encoded are not run again."""
    base.row_features = {}
    try:
        yield
    finally:
        base.row_features = None


OfExample = tuple[Tensor, Tensor | None]


def _by_example(examples: Sequence[Example], features: Tensor, targets: Tensor | None) -> Iterator[OfExample]:
    counts = [example.rows for example in examples]
    parts = targets.split(counts) if targets is not None else [None] * len(counts)
    return zip(features.split(counts), parts, strict=True)


def _joined(parts: Sequence[OfExample]) -> OfExample:
    known = [targets for _, targets in parts if targets is not None]
    return torch.cat([features for features, _ in parts]), torch.cat(known) if known else None


def _encode(base: Base, task: Task, examples: Sequence[Example], progress: Progress) -> tuple[Tensor, Tensor | None]:
    base.activate(None)
    order = longest_first([example.length for example in examples])
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
    bars, in_one_row = progress.bar("encoding", len(order), "examples"), flattened(base, task, examples)
    with bars as bar, torch.no_grad(), kept_heap(base), in_one_row:
        for done in in_batches(lengths, at_once, work, base, "while encoding", by_length=True):
            parts += done
            bar.advance(len(done))
    parts.sort(key=lambda part: part[0])
    features = torch.cat([part[1] for part in parts])
    known = [part[2] for part in parts if part[2] is not None]
    return features, torch.cat(known) if known else None


def _about(base: Base, task: Task) -> bytes:
    """A hash of all that features depend on beside the examples; the class that a head is made for is not among it."""
    preprocessing = task.preprocessing.record()
    facts = {name: value for name, value in preprocessing.get("facts", {}).items() if name != FACT}
    about = {
        "base": base.fingerprint.model_dump(mode="json"),
        "quantization": base.quantization,
        "dtype": dtype_name(base.dtype),
        "device": base.device.type,
        "task": task.name,
        "labels": len(task.labels),  # how wide the targets of several labels are
        "preprocessing": {**preprocessing, "facts": facts},
        "padding": "none where none is needed",  # which rounds otherwise than padded rows do
        "versions": {name: metadata.version(name) for name in ("adapterhub-lite", "torch", "transformers")},
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).digest()


def _digest_of(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:40]


def example_content(example: Example) -> bytes:
    """A hash of what an example is: its inputs, of a file the content, and its target.

    Raises:
        DataError: a file that cannot be read.
    """
    digest = hashlib.sha256(_content(example.inputs))
    digest.update(_content(-1 if example.target is None else example.target))
    return digest.digest()


def _content(inputs: Any) -> bytes:
    if isinstance(inputs, (str, Path)):
        try:
            return file_hash(Path(inputs)).encode()
        except OSError as error:
            raise DataError(f"{inputs}: cannot be read ({error.strerror}); replace or remove it") from None
    if isinstance(inputs, bytes):
        return hashlib.sha256(inputs).digest()
    if isinstance(inputs, tuple):  # of parts that differ in length
        return b"".join(map(_content, inputs))
    array = np.asarray(inputs)
    return f"{array.shape}{array.dtype}".encode() + array.tobytes()


def _read(path: Path, examples: Sequence[Example], progress: Progress) -> tuple[Tensor, Tensor | None] | None:
    try:
        with safe_open(path, framework="pt") as file:
            note, names = file.metadata() or {}, set(file.keys())
            features = file.get_tensor("features")
            targets = file.get_tensor("targets") if "targets" in names else None
        _check(features, targets, examples)
        if note.get("sha256") != _digest(path.stem, features, targets):
            raise ValueError("its content is not what was written")
    except Exception as error:  # whatever is wrong with an entry, it is made again
        # A file is opened twice; where another process deletes it in between, torch says so in a RuntimeError.
        if isinstance(error, FileNotFoundError) or "No such file" in str(error):
            return None
        progress.say(f"features of {len(examples)} examples in the cache cannot be used ({error}); they are made again")
        return None
    with suppress(OSError):  # another process deleted it, or the cache is read-only
        os.utime(path)  # for `keep_below`
    return features, targets


def _check(features: Tensor, targets: Tensor | None, examples: Sequence[Example]) -> None:
    """Refuse features that cannot be those of the examples.

    Raises:
        ValueError: shape, dtype or values are wrong.
    """
    rows = sum(example.rows for example in examples)
    if features.dtype != torch.float32 or features.dim() != 2 or len(features) != rows or not features.shape[1]:
        raise ValueError(f"they are {features.dtype} of shape {tuple(features.shape)}, not float32 of {rows} rows")
    if targets is not None and (targets.dim() == 0 or len(targets) != rows):
        raise ValueError(f"the targets are of shape {tuple(targets.shape)}, for {rows} rows")
    if not torch.isfinite(features).all():
        raise ValueError("some are not finite")


def _digest(key: str, features: Tensor, targets: Tensor | None) -> str:
    digest = hashlib.sha256(key.encode())  # so that the entry of other data is not taken for these
    for tensor in (features, targets):
        if tensor is not None:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(path: Path, features: Tensor, targets: Tensor | None, examples: Sequence[Example]) -> None:
    tensors = {"features": features} if targets is None else {"features": features, "targets": targets}
    try:
        _check(features, targets, examples)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        os.close(handle)
        try:
            save_file(tensors, name, metadata={"sha256": _digest(path.stem, features, targets)})
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except (OSError, SafetensorError, ValueError):
        pass  # a full or read-only cache, or features that would not be read, cost time, not correctness
