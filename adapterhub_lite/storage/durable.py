"""Getting files and directories onto the disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# Flushing a file through a read-only descriptor is refused on Windows; writing to one may be refused elsewhere.
_FILE_FLAGS = os.O_RDWR if os.name == "nt" else os.O_RDONLY


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    _sync(path, _FILE_FLAGS | getattr(os, "O_CLOEXEC", 0))


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk, where the system lets us ask for it."""
    if os.name == "nt":  # directories cannot be opened there
        return
    try:
        _sync(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise


def sync_tree(root: Path, last: str | None) -> None:
    """Wait until everything under `root` is on the disk, the file called `last` after all other files."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path != root / (last or "") and stat.S_ISREG(path.lstat().st_mode):
                sync_file(path)
        if Path(folder) != root:
            sync_directory(Path(folder))
    if last is not None:
        sync_file(root / last)
    sync_directory(root)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # fsync knows a number, not a name; the user is told which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(descriptor)
