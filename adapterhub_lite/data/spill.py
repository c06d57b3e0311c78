"""Data that does not fit in memory: written to a nameless file, which is mapped back."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from contextlib import suppress
from typing import BinaryIO

import pyarrow as pa

from adapterhub_lite.cache import cache_dir
from adapterhub_lite.errors import StorageError

ROOM = 1 << 29
"""Bytes of a table, or of tokens, that are kept in memory; what comes after them is written to a file."""


class Spill:
    """A file without a name in the cache folder, which the system deletes when this process ends, however it ends.

    Raises:
        StorageError: no file can be made there, or the disk is full.
    """

    def __init__(self) -> None:
        folder = cache_dir() / "spilled"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as what is mapped
        except OSError as error:
            raise _failed(error) from error
        weakref.finalize(self, _close, self._file)
        self.size = 0

    def write(self, *parts: bytes | memoryview | pa.Buffer) -> int:
        """Append bytes; returns where they start."""
        start = self.size
        try:
            for part in parts:
                self.size += self._file.write(part)
        except OSError as error:
            raise _failed(error) from error
        return start

    def mapped(self) -> memoryview:
        """Return everything that was written, read-only; nothing can be appended afterwards."""
        try:
            self._file.flush()
            content = memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise _failed(error) from error
        self._file.close()  # the mapping holds the file
        return content


class Batches:
    """Record batches in the order in which they come: in memory as long as there is room, the others in a file."""

    def __init__(self, room: int | None = None) -> None:
        self._room = ROOM if room is None else room
        self._batches: list[pa.RecordBatch | int] = []  # an int is the offset of a batch in the file
        self._held = 0
        self._spill: Spill | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep a batch.

        Raises:
            StorageError: the disk is full.
        """
        if self._spill is None and self._held + batch.nbytes <= self._room:
            self._held += batch.nbytes
            self._batches.append(batch)
            return
        self._spill = self._spill or Spill()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        content = sink.getvalue()
        # Arrow wants what it maps to start at a multiple of 64 bytes.
        self._batches.append(self._spill.write(content, bytes(-content.size % 64)))

    def finish(self) -> tuple[list[pa.RecordBatch], bool]:
        """All batches, and whether some of them are mapped."""
        if self._spill is None:
            return [batch for batch in self._batches if isinstance(batch, pa.RecordBatch)], False
        whole = pa.py_buffer(self._spill.mapped())
        batches = []
        for batch in self._batches:
            if isinstance(batch, int):
                batch = pa.ipc.open_stream(pa.BufferReader(whole.slice(batch))).read_next_batch()
            batches.append(batch)
        return batches, True


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # of a full disk, which `write` has reported
        file.close()


def _failed(error: OSError) -> StorageError:
    return StorageError(
        f"{cache_dir()}: the data is larger than memory and cannot be kept here ({error.strerror or error}); make room, "
        "or set ADAPTERHUB_CACHE to a folder on a larger disk"
    )
