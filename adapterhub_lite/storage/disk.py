"""What the operating system does for a save: bytes onto the disk, two folders swapped, refusals said in plain words."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapterhub_lite.errors import StorageError

# Flushing a file through a read-only descriptor is refused on Windows; writing to one may be refused elsewhere.
_FILE_FLAGS = os.O_RDWR if os.name == "nt" else os.O_RDONLY

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # macOS sys/stdio.h

# What kernels and file systems answer that know no exchange; every other error is a real one.
_UNAVAILABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}

_ADVICE = {
    errno.ENOSPC: "make room or choose another disk",
    errno.EDQUOT: "your disk quota is used up; make room or choose another disk",
    errno.EFBIG: "the limit on file sizes is reached; raise it (ulimit -f) or choose another disk",
    errno.EROFS: "choose a folder on a disk that can be written to",
    errno.EACCES: "choose a folder you may write in",
    errno.EPERM: "choose a folder you may write in",
    errno.EIO: "the disk may be failing; choose another one",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    _sync(path, _FILE_FLAGS | getattr(os, "O_CLOEXEC", 0))


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk, on systems that can be asked to do so."""
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


@contextmanager
def replacing_file(target: Path, temporary: Path) -> Iterator[Path]:
    """Give the path `temporary` to write a file to; it takes the place of `target` when the block ends without an error.

    Raises:
        StorageError: it cannot be written; what was at `target` is untouched.
    """
    try:
        try:
            yield temporary
            sync_file(temporary)
            temporary.replace(target)
            sync_directory(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, target) from error


@contextmanager
def errors_of_the_system() -> Iterator[None]:
    """Raise the error of the system that safetensors met while it wrote, which it tells in words alone, as one.

    Raises:
        OSError: such as a full disk.
    """
    try:
        yield
    except Exception as error:
        # By its name: the library is not needed to read and write what is no tensor.
        told = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
        if told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1]))) from error


def exchange(one: Path, other: Path) -> bool:
    """Swap two existing paths on one file system; False where that is not available and nothing has happened.

    Raises:
        OSError: where it is available and failed.
    """
    if sys.platform == "linux":
        swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # not in an old libc
        arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    elif sys.platform == "darwin":
        swap = getattr(ctypes.CDLL(None, use_errno=True), "renamex_np", None)
        arguments = (os.fsencode(one), os.fsencode(other), _RENAME_SWAP)
    else:
        return False
    if swap is None:
        return False
    if swap(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNAVAILABLE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def storage_error(error: OSError, target: Path) -> StorageError:
    """Return the error that tells a user why nothing could be saved at `target`."""
    place = f" ({error.filename})" if error.filename and str(error.filename) != str(target) else ""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        reason += f", {_free_space(target)} free"
    advice = _ADVICE.get(error.errno or 0, "choose another folder")
    return StorageError(f"cannot save to {target}: {reason}{place}; {advice}; what was there before is untouched")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # fsync knows a number, not a name; the user is told which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(descriptor)


def _free_space(target: Path) -> str:
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB"
    except OSError:
        return "unknown space"
