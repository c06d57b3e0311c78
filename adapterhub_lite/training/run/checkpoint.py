"""A checkpoint on disk: a folder with tensors, numbers and the log so far, committed whole or not at all.

    state.safetensors   `adapter/...`, `average/...`, `optimizer/...`, `random/<process>/...`
    metrics.jsonl       the log up to this step
    state.json          the numbers, what the run is, SHA-256 and size of the other two, and a seal over all of it

No pickle, and nothing that depends on the clock: two runs with the same history have the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.storage import commit_directory, read_header
from adapterhub_lite.storage.plain import open_plain, read_plain, sha256_of, size_of
from adapterhub_lite.storage.strict_json import parse_json

STATE, TENSORS, LOG = "state.json", "state.safetensors", "metrics.jsonl"
FORMAT = 1
MAX_STATE_BYTES = 64 << 20
MAX_LOG_BYTES = 1 << 30


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and checked."""

    path: Path
    identity: dict[str, Any]
    """What is trained on what and how; a run goes on only if all of it is the same."""
    state: dict[str, Any]
    tensors: dict[str, Tensor]
    log: bytes


def write_checkpoint(
    path: Path, *, identity: Mapping[str, Any], state: Mapping[str, Any], tensors: Mapping[str, Tensor], log: bytes
) -> None:
    """Commit a checkpoint.

    Raises:
        StorageError: it cannot be written; nothing is there then.
    """

    def write(folder: Path) -> None:
        # Cloned, because bitsandbytes shares tensors between parameters and the format does not.
        own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        safetensors.torch.save_file(own, folder / TENSORS)
        (folder / LOG).write_bytes(log)
        files = {name: _record(folder / name) for name in (TENSORS, LOG)}
        content = {"format": FORMAT, "identity": dict(identity), "state": dict(state), "files": files}
        (folder / STATE).write_bytes(_encode({**content, "seal": _seal(content)}))

    commit_directory(path, write, last=STATE)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check that it is what was written.

    Raises:
        AdapterCorruptError: it is not; names the file and the reason.
    """
    content = parse_json(read_plain(path / STATE, MAX_STATE_BYTES), str(path / STATE))
    if not isinstance(content, dict) or set(content) != {"format", "identity", "state", "files", "seal"}:
        raise AdapterCorruptError(f"{path / STATE} is not what was written")
    if content["format"] != FORMAT:
        raise AdapterCorruptError(
            f"{path / STATE} has the format {content['format']!r}, which this version cannot read"
        )
    if content.pop("seal") != _seal(content):
        raise AdapterCorruptError(f"{path / STATE} was changed after it was written")
    for name in (TENSORS, LOG):
        if _record(path / name) != content["files"][name]:
            raise AdapterCorruptError(f"{path / name} is damaged: its size or SHA-256 is not what was written")
    read_header(path / TENSORS)
    tensors = safetensors.torch.load_file(path / TENSORS)
    return Checkpoint(
        path, content["identity"], content["state"], tensors, read_plain(path / LOG, MAX_LOG_BYTES)
    )  # fmt: skip


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix/`, named without it."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `part`."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _record(path: Path) -> dict[str, Any]:
    with open_plain(path) as file:
        return {"size": size_of(file), "sha256": sha256_of(file, path)}


def _encode(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_encode(content)).hexdigest()
