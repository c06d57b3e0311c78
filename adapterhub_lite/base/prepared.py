"""Bases kept ready on disk: converted from GGUF or already quantized, keyed by content, written in one atomic step."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from adapterhub_lite.base.fingerprint import TOKENIZER_FILES, file_hash, weights_hash
from adapterhub_lite.base.references import Source
from adapterhub_lite.cache import cache_dir
from adapterhub_lite.errors import StorageError
from adapterhub_lite.storage.disk import sync_file
from adapterhub_lite.storage.manifest import Fingerprint

FORMAT = 2
NOTE = "prepared.json"


@dataclass(frozen=True)
class Prepared:
    """A folder that `from_pretrained` opens at once, with the fingerprint of the base it was made from."""

    folder: Path
    fingerprint: Fingerprint


def prepared_folder(source: Source, quantization: str, dtype: str) -> Path:
    """Where the prepared form of a base belongs: a function of its content and of the libraries that wrote it."""
    parts = [f"format {FORMAT}", weights_hash(source), quantization, dtype]
    parts += [f"{name} {metadata.version(name)}" for name in ("transformers", "bitsandbytes")]
    if source.gguf is None:
        side = [source.folder / name for name in ("config.json", "tokenizer_config.json", *TOKENIZER_FILES)]
        parts += [f"{path.name} {file_hash(path)}" for path in side if path.is_file()]
    return cache_dir() / "bases" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def find_prepared(folder: Path) -> Prepared | None:
    """Open a prepared base, or None where there is none that can be read."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        files_whole = all((folder / name).stat().st_size == size for name, size in note["files"].items())
        return Prepared(folder, Fingerprint.model_validate(note["fingerprint"])) if files_whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep_prepared(folder: Path, model: Any, processor: Any, fingerprint: Fingerprint) -> None:
    """Write a loaded model as a prepared base; a reader sees all of it or nothing.

    Raises:
        StorageError: when the cache cannot be written; nothing is left behind.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if find_prepared(folder) is not None:
                return  # another process was faster
            for dead in folder.parent.glob(f".{folder.name}.*/"):
                shutil.rmtree(dead, ignore_errors=True)  # of a process that was killed; a living one holds the lock
            staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                model.save_pretrained(staging)
                if processor is not None:
                    processor.save_pretrained(staging)
                sizes = {path.name: path.stat().st_size for path in staging.iterdir() if path.is_file()}
                note = {"fingerprint": fingerprint.model_dump(mode="json"), "files": sizes}
                (staging / NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")
                for path in staging.iterdir():
                    sync_file(path)
                if folder.exists():
                    shutil.rmtree(folder)  # an unreadable one, or `find_prepared` would have found it
                staging.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot keep the prepared base in {folder.parent}: {error}; set ADAPTERHUB_CACHE"
        ) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that exists only for a `with` block, on the cache's file system where that is possible."""
    parent = cache_dir() / "tmp"
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        parent = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)
