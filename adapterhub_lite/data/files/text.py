"""Opening text files strictly: UTF-8 or UTF-16 with a byte order mark, and never a silent guess."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import TextIO

from adapterhub_lite.errors import DataError


def open_text(path: Path, source: str, encoding: str | None = None) -> TextIO:
    """Open a text file, its line ends kept; decoding is strict, see `undecodable` for the error to raise."""
    return path.open(encoding=encoding or encoding_of(path, source), newline="")


def encoding_of(path: Path, source: str) -> str:
    """The encoding that the file's first bytes announce, UTF-8 where they announce none."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{source}: is UTF-32; convert it: iconv -f UTF-32 -t UTF-8 {path.name} > utf8-{path.name}")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.startswith(b"PK\x03\x04"):
        raise DataError(f"{source}: is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV (UTF-8)")
    # Without a mark, UTF-16 text in a Latin script decodes as UTF-8 with a NUL at every other place.
    if head[:200].count(0) >= 0.4 * len(head[:200]) > 0:
        raise DataError(
            f"{source}: looks like UTF-16 without a byte order mark; "
            f"convert it: iconv -f UTF-16LE -t UTF-8 {path.name} > utf8-{path.name}"
        )
    return "utf-8-sig"


def undecodable(path: Path, source: str, given: str | None = None) -> DataError:
    """The error for a file that did not decode: finds the byte and line of the first place that is wrong."""
    # Plain UTF-8 here, since "utf-8-sig" counts its error's place from behind the mark.
    encoding = given or encoding_of(path, source).removesuffix("-sig")
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    offset, line = 0, 1
    with path.open("rb") as file:
        while True:
            chunk = file.read(1 << 16)
            pending = len(decoder.getstate()[0])  # the start of a character that the last chunk cut in two
            try:
                line += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as error:
                good = max(0, error.start - pending)
                line += decoder.decode(chunk[:good]).count("\n")
                where = f"{source}, line {line} (byte {offset - pending + error.start})"
                advice = (
                    "save it as UTF-8, or name what it is, as in --encoding cp1252" if given is None else "give another"
                )
                return DataError(
                    f"{where}: not {encoding.upper()} (0x{error.object[error.start]:02x}: {error.reason}); {advice}"
                )
            offset += len(chunk)
            if not chunk:
                return DataError(f"{source}: changed while it was read; try again")
