"""Opening and hashing plain files: no symbolic links, no pipes or devices, no more bytes than allowed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from adapterhub_lite.errors import AdapterCorruptError

_CHUNK = 1 << 20  # bytes
# The flags are 0 where a platform lacks them. O_NONBLOCK: opening a pipe must not wait for someone to write into it.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file for reading, unbuffered.

    Raises:
        AdapterCorruptError: where there is none, or something else than a plain file, or it cannot be read.
    """
    try:
        # Looked at before it is opened, because opening some devices does something; looked at again once open,
        # because it may have been swapped in between.
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise AdapterCorruptError(f"{path} is a symbolic link; copy the adapter with its links followed (cp -rL)")
        if not stat.S_ISREG(mode):
            raise AdapterCorruptError(f"{path} is not a plain file; save the adapter again or fetch it anew")
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise AdapterCorruptError(f"{path} is missing; save the adapter again or fetch it anew") from None
    except OSError as error:
        raise AdapterCorruptError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AdapterCorruptError(f"{path} is not a plain file; save the adapter again or fetch it anew")
    return os.fdopen(descriptor, "rb", buffering=0)


def size_of(file: BinaryIO) -> int:
    """Return the size in bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def sha256_of(file: BinaryIO, path: Path) -> str:
    """Return the SHA-256 of an open file from where it stands to its end, in hexadecimal."""
    digest = hashlib.sha256()
    try:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    except OSError as error:
        raise AdapterCorruptError(f"{path} cannot be read ({error.strerror}); check the disk") from None
    return digest.hexdigest()


def read_plain(path: Path, limit: int) -> bytes:
    """Return the bytes of a plain file of at most `limit` bytes.

    Raises:
        AdapterCorruptError: where it is larger, or for the reasons of `open_plain`.
    """
    with open_plain(path) as file:
        size = size_of(file)
        if size > limit:
            raise AdapterCorruptError(f"{path} has {size} bytes where at most {limit} are expected; fetch it anew")
        return read_exactly(file, size, path)


def read_chunks(file: BinaryIO, size: int, path: Path, most: int = _CHUNK) -> Iterator[bytes]:
    """Yield the next `size` bytes of an open file, at most `most` at a time; raises what `read_exactly` does."""
    for start in range(0, size, most):
        yield read_exactly(file, min(most, size - start), path)


def read_exactly(file: BinaryIO, size: int, path: Path) -> bytes:
    """Return the next `size` bytes of an open file.

    Raises:
        AdapterCorruptError: where the file ends before that or cannot be read.
    """
    parts = []
    left = size
    try:
        while left > 0 and (part := file.read(min(left, 1 << 30))):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise AdapterCorruptError(f"{path} cannot be read ({error.strerror}); check the disk") from None
    if left > 0:
        raise AdapterCorruptError(f"{path} ends {left} bytes early; save the adapter again or fetch it anew")
    return parts[0] if len(parts) == 1 else b"".join(parts)
