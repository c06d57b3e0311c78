"""The .ts files of sktime and aeon.

A header of lines that begin with "@", then a series a line: values with commas between them, dimensions with colons
between them, the class or target last. Format: https://www.sktime.net/en/stable/api_reference/file_specifications/ts.html
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from adapterhub_lite.api import DataError, Table, counted, did_you_mean, place, shortened
from adapterhub_series.data.collected import Array, Collected, numbered_channels
from adapterhub_series.data.numbers import fields_to_numbers
from adapterhub_series.data.text_lines import number_error, numbered_lines
from adapterhub_series.data.times import spacing_note, text_times, uneven

PAIR = re.compile(r"\(\s*([^(),]*?)\s*,\s*([^(),]*?)\s*\)")
# Colons also stand inside time stamps: (2024-05-01 13:00:00,1.5).
BETWEEN = re.compile(r":(?![^()]*\))")
UNKNOWN = ("", "?")


@dataclass
class Header:
    """What the lines before @data say. The defaults are what the format means where a line is left out."""

    timestamps: bool = False
    univariate: bool | None = None
    dimensions: int | None = None
    equal_length: bool | None = None
    series_length: int | None = None
    answer: str | None = None
    """The role of the last field of each line: "label", "target" or "none"; None where no line says."""
    classes: tuple[str, ...] = ()


@dataclass
class Spacing:
    """Counts over the time stamps of all series: how many series are unsorted or uneven, and lengths of uneven steps."""

    unsorted: int = 0
    irregular: int = 0
    steps: list[float] = field(default_factory=list)


def read_ts(path: Path, source: str, sha256: str, answer: str, required: bool) -> Collected:
    """Read a .ts file for classification (`answer` "label") or regression ("target").

    Classes keep the order of @classLabel. `?` and `NaN` are missing values. Time stamps are used for the order of the
    values and left out. Raises DataError with row, line, dimension and step.
    """
    lines = numbered_lines(path, source)
    header = _header(lines, source)
    if header.answer is None:
        raise DataError(
            f"{source}: the header does not say what ends each line; add '@classLabel true NAME NAME ...', "
            "'@targetLabel true' (regression), or '@classLabel false' where there is nothing but values"
        )
    if required and header.answer != answer:
        raise DataError(f"{source}: {_mismatch(header.answer, answer)}")
    has_answer = header.answer != "none"
    numbers = array("q")
    values: list[Array] = []
    answers: list[str | None] = []
    spacing = Spacing()
    for number, line in lines:
        if line.startswith("#"):
            continue
        row = len(values)
        where = place(source, row, number)
        parts = BETWEEN.split(line) if header.timestamps else line.split(":")
        if has_answer:
            last = parts.pop().strip()
            if not parts:
                raise DataError(f"{where}: has no ':' before a {header.answer}; is the file cut short?")
            if header.answer == "label" and header.classes and last not in header.classes and last not in UNKNOWN:
                raise DataError(
                    f"{where}: label {last[:60]!r} is not declared in @classLabel{did_you_mean(last, header.classes)}; "
                    f"declared: {shortened(header.classes)}"
                )
            answers.append(None if last in UNKNOWN else last)
        _check_dimensions(parts, values, header, where)
        if header.timestamps:
            values.append(_timed(parts, source, row, number, spacing))
        else:
            values.append(_untimed(parts, source, row, number))
        _check_length(len(values[-1]), len(values[0]), header, where)
        numbers.append(number)
    if not values:
        raise DataError(f"{source}: has no series below @data; add some")
    columns: dict[str, pa.Array] = {"series": pa.array(range(1, len(values) + 1))}
    if has_answer:
        columns[header.answer] = pa.array(answers, pa.utf8())
    used = {answer: answer} if header.answer == answer else {}
    table = Table(source, pa.table(columns), sha256, numbers)
    declared = header.classes if header.answer == answer == "label" and header.classes else None
    return Collected(
        values, numbered_channels(values[0].shape[1]), table, used, declared, _notes(spacing), number="series"
    )


def _mismatch(there: str, wanted: str) -> str:
    if there == "none":
        return f"has no {wanted}s (its header says so); give a file that has them"
    if there == "label":
        return "its header declares classes, not a target; use --task series-classification"
    return "its header declares a target, not classes; use --task series-regression"


def _header(lines: Iterator[tuple[int, str]], source: str) -> Header:
    header = Header()
    for number, line in lines:
        where = place(source, line=number)
        if line.startswith(("#", "%")):
            continue
        if not line.startswith("@"):
            raise DataError(f"{where}: values stand before a line @data; is this a .ts file, and whole?")
        key, *rest = line[1:].split() or [""]
        key = key.lower()
        if key == "data":
            return header
        if key == "timestamps":
            header.timestamps = _truth(rest, key, where)
        elif key == "univariate":
            header.univariate = _truth(rest, key, where)
        elif key == "equallength":
            header.equal_length = _truth(rest, key, where)
        elif key in ("dimension", "dimensions"):
            header.dimensions = _count(rest, key, where)
        elif key == "serieslength":
            header.series_length = _count(rest, key, where)
        elif key == "classlabel":
            header.answer = "label" if _truth(rest[:1], key, where) else (header.answer or "none")
            header.classes = tuple(rest[1:])
        elif key == "targetlabel":
            header.answer = "target" if _truth(rest[:1], key, where) else (header.answer or "none")
    raise DataError(f"{source}: has no line @data; is the file whole?")


def _truth(words: list[str], key: str, where: str) -> bool:
    if len(words) == 1 and words[0].lower() in ("true", "false"):
        return words[0].lower() == "true"
    raise DataError(f"{where}: @{key} is {' '.join(words)[:40]!r}; write true or false")


def _count(words: list[str], key: str, where: str) -> int:
    if len(words) == 1 and re.fullmatch(r"[1-9]\d{0,8}", words[0], re.ASCII):
        return int(words[0])
    raise DataError(f"{where}: @{key} is {' '.join(words)[:40]!r}; write a whole number")


def _check_dimensions(parts: list[str], values: list[Array], header: Header, where: str) -> None:
    wanted, says = (values[0].shape[1], "the first series has") if values else (None, "")
    if header.dimensions is not None:
        wanted, says = header.dimensions, "@dimensions says"
    elif header.univariate:
        wanted, says = 1, "@univariate says"
    if wanted is not None and len(parts) != wanted:
        raise DataError(
            f"{where}: has {counted(len(parts), 'dimension')} where {says} {wanted}; is the line whole, and does it end "
            "in ':' and its class or target?"
        )


def _check_length(length: int, first: int, header: Header, where: str) -> None:
    if not header.equal_length:
        return
    wanted = header.series_length or first
    if length != wanted:
        says = "@seriesLength says" if header.series_length else "the first series has"
        raise DataError(
            f"{where}: has {counted(length, 'step')} where {says} {wanted}; "
            "is the line whole? If lengths differ, write @equalLength false"
        )


def _untimed(parts: list[str], source: str, row: int, line: int) -> Array:
    columns: list[Array] = []
    for channel, part in enumerate(parts):
        try:
            columns.append(fields_to_numbers(part.split(","), empty_is_missing=False))
        except ValueError as error:
            raise number_error(source, row, line, channel, error, len(parts)) from error
        if len(columns[-1]) != len(columns[0]):
            raise DataError(
                f"{place(source, row, line)}, dimension {channel + 1}: has {counted(len(columns[-1]), 'step')} where "
                f"dimension 1 has {len(columns[0])}; write ? where a value is missing"
            )
    return np.stack(columns, axis=1).astype(np.float32)  # (time, channels)


def _timed(parts: list[str], source: str, row: int, line: int, spacing: Spacing) -> Array:
    """The values of "(time,value),(time,value):..." in order of time; every dimension must have the same times."""
    where = place(source, row, line)
    columns: list[Array] = []
    stamps: list[str] = []
    for channel, part in enumerate(parts):
        pairs = PAIR.findall(part)
        if not pairs or PAIR.sub("", part).strip(", "):
            raise DataError(
                f"{where}, dimension {channel + 1}: is not (time,value),(time,value),...; correct it, "
                "or write @timestamps false if the values have none"
            )
        channel_stamps = [stamp for stamp, _ in pairs]
        stamps = stamps or channel_stamps
        if channel_stamps != stamps:
            raise DataError(
                f"{where}, dimension {channel + 1}: has other times than dimension 1; "
                "give all dimensions the same times, with ? where a value is missing"
            )
        try:
            columns.append(fields_to_numbers([value for _, value in pairs], empty_is_missing=False))
        except ValueError as error:
            raise number_error(source, row, line, channel, error, len(parts)) from error
    try:
        times = text_times(stamps)
    except ValueError as error:
        raise DataError(f"{where}: its times are neither all numbers nor all dates and times ({error})") from error
    order = np.argsort(times, kind="stable")
    steps = np.diff(times[order])
    repeated = np.flatnonzero(steps == 0)
    if len(repeated):
        raise DataError(f"{where}: time {stamps[int(order[repeated[0]])]!r} is there twice; remove one")
    spacing.unsorted += bool((np.diff(order) < 0).any())
    if uneven(steps):
        spacing.irregular += 1
        spacing.steps += [float(steps.min()), float(steps.max())]
    return np.stack(columns, axis=1)[order].astype(np.float32)


def _notes(spacing: Spacing) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if spacing.unsorted:
        notes = (f"values of {counted(spacing.unsorted, 'series', 'series')} sorted by time",)
    if spacing.irregular:
        notes += spacing_note(spacing.irregular, min(spacing.steps), max(spacing.steps))
    return notes
