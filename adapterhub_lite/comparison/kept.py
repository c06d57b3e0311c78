"""What was found out before, kept in the cache by content: what a model said of rows, and the adapter that said it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.save import save_adapter
from adapterhub_lite.cache import cache_dir, cache_limit, keep_below
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.storage.bundle import SUFFIX, pack

FOLDER = "comparison"


@dataclass
class Result:
    """What came of fitting one contender to some rows."""

    said: Tensor
    """Its outputs for the rows it was scored on; see `Judge`."""
    seconds: float
    steps: int
    """Of an optimizer."""
    trained: int
    """Weights that were fitted."""
    size: int
    """Bytes that they take."""
    adapter: Adapter | None = None
    """On the base still, if it was fitted in this process and is to be kept."""
    bundle: Path | None = None
    """Where the adapter lies in the cache."""
    reused: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers, as JSON."""
        return {name: getattr(self, name) for name in ("seconds", "steps", "trained", "size")}


def key_of(about: Any) -> str:
    """The name under which a result is kept: a hash of everything that it depends on."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:40]


def recall(key: str, *, adapter: bool) -> Result | None:
    """A result that is kept; None where there is none, or where its adapter is asked for and is not there.

    A file that is damaged counts as none.
    """
    path, bundle = _file(key), _bundle(key)
    try:
        with safe_open(path, framework="pt") as file:
            note, said = file.metadata() or {}, file.get_tensor("said")
        if note.get("sha256") != _digest(key, said, note.get("facts", "")):
            return None
        facts = json.loads(note["facts"])
        if adapter and not bundle.is_file():
            return None
        for kept in (path, bundle):
            with suppress(OSError):  # for `keep_below`
                os.utime(kept)
        return Result(said, **facts, bundle=bundle if adapter else None, reused=True)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError):
        return None


def keep(key: str, result: Result) -> None:
    """Keep a result and its adapter, if it has one; a cache that is full or cannot be written costs time alone."""
    path, limit = _file(key), cache_limit()
    with suppress(OSError, SafetensorError, AdapterHubError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if result.adapter is not None:
            _keep_adapter(result.adapter, _bundle(key))
            result.bundle = _bundle(key)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        os.close(handle)
        try:
            facts = json.dumps(result.facts)
            said = result.said.contiguous()
            save_file({"said": said}, name, metadata={"facts": facts, "sha256": _digest(key, said, facts)})
            Path(name).replace(path)  # last: whoever finds it finds all of it
        finally:
            Path(name).unlink(missing_ok=True)
        keep_below(path.parent, limit)


def _keep_adapter(adapter: Adapter, bundle: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="adapterhub-") as name:
        folder = Path(name, "adapter")
        # Not by `Adapter.save`, which tells plug-ins that there is an adapter.
        save_adapter(
            adapter.attachment, folder, task=adapter.task_record(), data=adapter.data, training=adapter.training,
            metrics={}, forced=[], probe_inputs=adapter.probe_inputs, run_file=None,
        )  # fmt: skip
        pack(folder, bundle)


def _digest(key: str, said: Tensor, facts: str) -> str:
    digest = hashlib.sha256(f"{key} {said.dtype} {tuple(said.shape)} {facts}".encode())
    digest.update(said.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _file(key: str) -> Path:
    return cache_dir() / FOLDER / f"{key}.safetensors"


def _bundle(key: str) -> Path:
    return cache_dir() / FOLDER / f"{key}{SUFFIX}"
