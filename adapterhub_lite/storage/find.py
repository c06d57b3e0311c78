"""Finding the folder of an adapter, and noticing when another one takes its place."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapterhub_lite.errors import AdapterNotFoundError
from adapterhub_lite.storage.commit import recover
from adapterhub_lite.storage.layout import CONFIG, MANIFEST


def find_adapter(path: Path) -> Path:
    """Return the folder of the adapter at `path`, after putting back what an interrupted save left aside.

    Raises:
        AdapterNotFoundError: where there is none; says what is there instead, or what may have been meant.
    """
    if "\0" in str(path):
        raise AdapterNotFoundError(f"no adapter at {str(path)!r}: a path cannot have a NUL character")
    folder = Path(os.path.realpath(path))
    try:
        if folder.name:  # the root of a file system has none
            recover(folder)
        if not folder.exists():
            raise AdapterNotFoundError(f"no adapter at {path}: {_what_is_missing(folder)}")
        if not folder.is_dir():
            raise AdapterNotFoundError(f"no adapter at {path}: it is a file; give the folder of the adapter")
        if os.path.lexists(folder / MANIFEST):
            return folder
        if (folder / CONFIG).is_file():
            raise AdapterNotFoundError(
                f"no adapter of ours at {path}: it has {CONFIG} but no {MANIFEST}, so it looks like a plain PEFT "
                "adapter; load that with PEFT"
            )
        raise AdapterNotFoundError(f"no adapter at {path}: the folder has no {MANIFEST}{_one_inside(folder)}")
    except OSError as error:
        raise AdapterNotFoundError(f"no adapter at {path}: cannot look there ({error.strerror or error})") from None


def plain_files(folder: Path) -> list[Path]:
    """Return every file under `folder`, links not followed, in the order of their paths."""
    return sorted(Path(inside, name) for inside, _, names in os.walk(folder) for name in names)


@contextmanager
def identity(path: Path) -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether `path` is still the directory it was on entry."""
    descriptor = -1
    with suppress(OSError, ValueError):  # missing, or Windows, where the number alone has to do
        # Held open: otherwise the inode number could be that of yet another directory by the time it is compared.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        before = _inode(path) if descriptor < 0 else _inode(descriptor)
        yield lambda: _inode(path) == before
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _inode(path: Path | int) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path has no stat of a descriptor
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _what_is_missing(folder: Path) -> str:
    parent = folder.parent
    if not parent.is_dir():
        return f"{parent} does not exist" if not parent.exists() else f"{parent} is a file"
    names = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
    near = difflib.get_close_matches(folder.name, names, n=1)
    return f"there is no such folder; did you mean {parent / near[0]}?" if near else "there is no such folder"


def _one_inside(folder: Path) -> str:
    inside = sorted(entry.name for entry in folder.iterdir() if (entry / MANIFEST).is_file())
    return f"; did you mean {folder / inside[0]}?" if inside else "; give the folder an adapter was saved to"
