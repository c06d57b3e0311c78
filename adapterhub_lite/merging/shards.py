"""Writing a changed copy of a model folder, a tensor at a time: memory holds one weight and its update."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.progress import Progress
from adapterhub_lite.storage.header import TensorInfo, read_header

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
# What belongs to a model folder beside its weights; never pickles, nor what only the cache of prepared bases has.
SIDE_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "1_Pooling/*.json")
NOT_COPIED = frozenset({"prepared.json", "adapterhub.json", "adapter_config.json", "adapterhub_merge.json"})
MAX_HEADER_BYTES = 100 << 20  # the limit of the format itself; a base has more tensors than an adapter

Update = Callable[[Tensor], Tensor]


def headers_of(files: list[Path]) -> dict[Path, dict[str, TensorInfo]]:
    """The header of each file; a link, as in the hub's cache, is followed."""
    return {file: read_header(file.resolve(), max_header_bytes=MAX_HEADER_BYTES) for file in files}


def copy_side_files(folder: Path, out: Path) -> None:
    """Copy configuration, tokenizer or processor."""
    for pattern in SIDE_FILES:
        for file in sorted(folder.glob(pattern)):
            if file.is_file() and file.name not in NOT_COPIED:
                target = out / file.relative_to(folder)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target)


def write_shards(
    headers: Mapping[Path, Mapping[str, TensorInfo]],
    updates: Mapping[tuple[Path, str], Update],
    out: Path,
    progress: Progress,
) -> set[str]:
    """Copy each file, then overwrite the tensors that change in the copy; their dtype stays.

    `updates` has for a file and tensor the function from the weight in fp32 to the merged one; `out` is an existing folder.

    Returns:
        The dtypes of the tensors that were changed, by the names of the format.
    """
    dtypes = set()
    with progress.bar("merging", len(updates), "weights") as bar:
        for path, header in headers.items():
            shutil.copyfile(path, out / path.name)  # by the kernel; nothing of it passes through this process
            with (out / path.name).open("r+b") as file:
                data = 8 + int.from_bytes(file.read(8), "little")
                for name, info in header.items():
                    update = updates.get((path, name))
                    if update is not None:
                        dtypes.add(_overwrite(file, data, name, info, update))
                        bar.advance(1)
    return dtypes


def _overwrite(file: BinaryIO, data: int, name: str, info: TensorInfo, update: Update) -> str:
    if info.dtype not in FLOATS:
        raise NotSupportedError(
            f"weight '{name}' is stored as {info.dtype}; merge into a base whose weights are floating-point numbers"
        )
    file.seek(data + info.start)
    raw = bytearray(file.read(info.end - info.start))
    weight = torch.frombuffer(raw, dtype=FLOATS[info.dtype]).reshape(info.shape)
    merged = update(weight.float())
    assert merged.shape == weight.shape, f"{name}: {tuple(merged.shape)} for {tuple(weight.shape)}"
    if not math.isfinite(float(merged.sum())):  # one that is not finite, or so many that are too large
        raise NotSupportedError(
            f"weight '{name}' would not be finite after merging; the adapter is broken or too large"
        )
    file.seek(data + info.start)
    stored = merged.to(weight.dtype).contiguous()
    file.write(stored.flatten().view(torch.uint8).numpy().data)
    return info.dtype
