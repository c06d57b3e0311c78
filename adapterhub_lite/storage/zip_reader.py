"""A reader for the one kind of ZIP file that a bundle is, which has no room for anything but its members.

`PKZIP Application Note <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>`_: local headers each followed by
its data, the central directory, the end record. Here members are stored, not compressed, so that a file is never larger
than its archive; they follow each other from the first byte on without a gap; names, flags, attributes and lengths say
nothing that a plain file does not need; and the archive ends where it says it ends.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.storage.layout import case_clash, is_file_name
from adapterhub_lite.storage.plain import read_chunks, read_exactly, size_of

MAX_MEMBERS = 64

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


@dataclass(frozen=True)
class Member:
    """A file in the archive; its `size` bytes begin at `start`."""

    name: str
    start: int
    size: int
    crc: int


def read_members(file: BinaryIO, path: Path) -> list[Member]:
    """Return the members of an open archive in their order, having accounted for every byte of it.

    Raises:
        AdapterCorruptError: naming `path`, the member and the reason.
    """
    size = size_of(file)
    if size < _END.size:
        raise _bad(path, f"{size} bytes are too few for a ZIP file")
    file.seek(size - _END.size)
    mark, disk, first_disk, here, count, length, start, comment = _END.unpack(read_exactly(file, _END.size, path))
    if mark != b"PK\5\6" or comment:
        raise _bad(path, "not a ZIP file that ends with its end record: cut off, with a comment, or data after its end")
    if count > MAX_MEMBERS or here != count or disk or first_disk:
        raise _bad(path, f"{count} members, or several disks, where at most {MAX_MEMBERS} files are expected")
    if start + length + _END.size != size or length > MAX_MEMBERS * (_CENTRAL.size + 128):
        raise _bad(path, "its central directory is not where its end record says")
    file.seek(start)
    directory = read_exactly(file, length, path)
    members: list[Member] = []
    position = offset = 0
    for _ in range(count):
        fields = directory[offset : offset + _CENTRAL.size]
        if len(fields) < _CENTRAL.size or fields[:4] != b"PK\1\2":
            raise _bad(path, "its central directory is cut off")
        member = _member(fields, directory, offset, position, path)
        if _read_local(file, position, member, fields, path) != member.start:
            raise _bad(path, f"{member.name!r}: its two headers disagree")
        position = member.start + member.size
        offset += _CENTRAL.size + len(member.name)
        members.append(member)
    if offset != length or position != start:
        raise _bad(path, "it has bytes that belong to no member")
    twice = case_clash(member.name for member in members)
    if twice is not None:
        raise _bad(path, f"{twice!r} is in it twice")
    return members


def copy_member(file: BinaryIO, member: Member, write: Callable[[bytes], object], path: Path) -> None:
    """Pass the data of a member to `write`, a chunk at a time.

    Raises:
        AdapterCorruptError: where it is not what its checksum says.
    """
    file.seek(member.start)
    crc = 0
    for data in read_chunks(file, member.size, path):
        crc = zlib.crc32(data, crc)
        write(data)
    if crc != member.crc:
        raise _bad(path, f"{member.name!r} is damaged (CRC)")


def _member(fields: bytes, directory: bytes, offset: int, position: int, path: Path) -> Member:
    """Check one entry of the central directory, for a member whose local header should be at `position`."""
    (_, made_by, _, flags, method, _, _, crc, packed, size, name_length, extra, comment, disk, _, attributes, at) = (
        _CENTRAL.unpack(fields)
    )
    raw = directory[offset + _CENTRAL.size : offset + _CENTRAL.size + name_length]
    name = raw.decode("latin-1")
    if len(raw) != name_length or not is_file_name(name):
        raise _bad(path, f"member {name[:120]!r} has a name no file of an adapter has")
    if flags & 1:
        raise _bad(path, f"{name!r} is encrypted")
    if flags or extra or comment or disk:
        raise _bad(path, f"{name!r} has flags, extra fields or a comment")
    if method or packed != size:
        raise _bad(path, f"{name!r} is compressed; files of a bundle are stored as they are")
    kind = stat.S_IFMT(attributes >> 16)
    if kind not in (0, stat.S_IFREG) or attributes & 0x10 or made_by >> 8 not in (0, 3):
        raise _bad(path, f"{name!r} is not a plain file")
    if at != position:
        raise _bad(path, f"{name!r} does not follow the member before it: overlapping, or with a gap")
    return Member(name, position + _LOCAL.size + name_length, size, crc)


def _read_local(file: BinaryIO, position: int, member: Member, central: bytes, path: Path) -> int:
    """Return where the data of a member begins if its local header agrees with the central one, else -1."""
    file.seek(position)
    local = read_exactly(file, _LOCAL.size + len(member.name), path)
    # Version, flags, method, time, date, checksum, both sizes and the length of the name are the same 24 bytes in both.
    same = local[4:28] == central[6:30] and local[28:30] == b"\0\0" and local[30:] == member.name.encode("latin-1")
    return position + len(local) if local[:4] == b"PK\3\4" and same else -1


def _bad(path: Path, reason: str) -> AdapterCorruptError:
    return AdapterCorruptError(f"{path}: no bundle of ours: {reason}; make it with `adapterhub-lite pack`")
