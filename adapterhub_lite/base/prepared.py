"""Bases kept ready on disk: converted from GGUF or already quantized, keyed by content, written in one atomic step."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from adapterhub_lite.base.experts import write_packed
from adapterhub_lite.base.fingerprint import file_hash, weights_hash
from adapterhub_lite.base.model_folder import READ
from adapterhub_lite.base.references import Source, resolve
from adapterhub_lite.cache import cache_dir
from adapterhub_lite.errors import StorageError
from adapterhub_lite.names import one_line
from adapterhub_lite.storage.disk import errors_of_the_system, sync_tree
from adapterhub_lite.storage.manifest import Fingerprint

FORMAT = 4
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
        side = [path for path in source.folder.iterdir() if path.suffix in READ and path.suffix != ".safetensors"]
        parts += [f"{path.name} {file_hash(path)}" for path in sorted(side) if path.is_file()]
    return cache_dir() / "bases" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def find_prepared(folder: Path, say: Callable[[str], None] = lambda line: None) -> Prepared | None:
    """Open a prepared base, or None where there is none, or one that is not what was written.

    Its weights are hashed once after each start of the machine, which takes longer than loading them; all else every time.

    Args:
        folder: From `prepared_folder`.
        say: Told what is wrong with it, in a line.
    """
    if not (folder / NOTE).is_file():
        return None
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        if note.pop("seal") != _seal(note):
            raise ValueError(f"{NOTE} was changed")
        if sorted(note["files"]) != _files(folder):
            raise ValueError("it does not have the files that were written")
        for name, sha256 in note["files"].items():
            if file_hash(folder / name, for_this_boot=True) != sha256:
                raise ValueError(f"{name} is not what was written")
        return Prepared(folder, Fingerprint.model_validate(note["fingerprint"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        say(f"the prepared base in {folder} is damaged ({one_line(error)}) and is made again")
        return None


def hash_anew(reference: str, quantization: str, dtype: str) -> None:
    """Read the files of a base, and of its prepared forms, whatever is remembered of their hashes.

    Raises:
        BaseNotFoundError: the reference leads nowhere.
    """
    source = resolve(reference)
    weights_hash(source, anew=True)
    for kind in {quantization, "none"}:
        folder = prepared_folder(source, kind, dtype)
        for name in _files(folder) if folder.is_dir() else []:
            file_hash(folder / name, for_this_boot=True, anew=True)


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
                with errors_of_the_system():
                    model.save_pretrained(staging)
                    write_packed(model, staging)
                if processor is not None:
                    processor.save_pretrained(staging)
                hashes = {name: file_hash(staging / name) for name in _files(staging)}
                note = {"fingerprint": fingerprint.model_dump(mode="json"), "files": hashes}
                (staging / NOTE).write_text(json.dumps({**note, "seal": _seal(note)}, indent=1), encoding="utf-8")
                sync_tree(staging, NOTE)
                if folder.exists():
                    shutil.rmtree(folder)  # an unreadable one, or `find_prepared` would have found it
                staging.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot keep the prepared base in {folder.parent}: {error}; set ADAPTERHUB_CACHE"
        ) from error


def _files(folder: Path) -> list[str]:
    """The paths of all files in a prepared base but the note, from its folder."""
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    return sorted(path for path in paths if path != NOTE)


def _seal(note: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


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
