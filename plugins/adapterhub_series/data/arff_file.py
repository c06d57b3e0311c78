"""The .arff files of the UCR and UEA archives.

One channel: an attribute a time step, and the class. Several: one relational attribute, whose value is a quoted text with a
line (written as backslash n) a channel, and the class. Format: https://waikato.github.io/weka-wiki/formats_and_processing/arff/
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from adapterhub_lite.api import DataError, Table, counted, did_you_mean, place, shortened
from adapterhub_series.data.collected import Array, Collected, numbered_channels
from adapterhub_series.data.numbers import fields_to_numbers
from adapterhub_series.data.text_lines import number_error, numbered_lines
from adapterhub_series.data.wide import shortened_at_end

NAME = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s{]+"
ATTRIBUTE = re.compile(rf"@attribute\s+(?P<name>{NAME})\s*(?P<kind>.*)", re.IGNORECASE)
FIELD = re.compile(r"\s*('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^,'\"]*)\s*(,|$)")
NUMERIC = ("numeric", "real", "integer")


@dataclass(frozen=True)
class Attribute:
    """A column of the file."""

    name: str
    kind: str
    """"numeric", "nominal", "relational", or another type, as written in the file."""
    values: tuple[str, ...] = ()
    """Of a nominal attribute."""
    steps: int = 0
    """Attributes inside a relational one."""


def read_arff(path: Path, source: str, sha256: str, name: str | None, answer: str, required: bool) -> Collected:
    """Read an .arff file whose attribute `name` is the label or target; by default the last one.

    Raises DataError with row, line, dimension and step.
    """
    lines = numbered_lines(path, source)
    attributes = _header(lines, source)
    if not attributes:
        raise DataError(f"{source}: has no attributes before @data; is the file whole?")
    position = _answer(attributes, name, answer, required, source)
    inputs = [index for index in range(len(attributes)) if index != position]
    relational = [index for index in inputs if attributes[index].kind == "relational"]
    if relational and len(inputs) > 1:
        raise DataError(
            f"{source}: has attributes beside the relational one; give one relational attribute and a class"
        )
    unusable = next(
        (attributes[index] for index in inputs if attributes[index].kind not in ("numeric", "relational")), None
    )
    if unusable is not None or not inputs:
        what = (
            f"attribute {unusable.name!r} is {unusable.kind}"
            if unusable is not None
            else "has no attribute but its class"
        )
        raise DataError(f"{source}: {what}; a series is numeric attributes, a step each, or one relational attribute")
    numbers = array("q")
    values: list[Array] = []
    answers: list[str | None] = []
    for line, text in lines:
        if text.startswith("%"):
            continue
        row = len(values)
        fields = _fields(text, source, row, line)
        if len(fields) != len(attributes):
            raise DataError(
                f"{place(source, row, line)}: has {counted(len(fields), 'value')} where the header has "
                f"{counted(len(attributes), 'attribute')}; is the line whole?"
            )
        if position is not None:
            answers.append(_checked_answer(fields[position], attributes[position], source, row, line))
        if relational:
            values.append(_bag(fields[relational[0]], attributes[relational[0]], source, row, line))
            if values[-1].shape[1] != values[0].shape[1]:
                raise DataError(
                    f"{place(source, row, line)}: has {counted(values[-1].shape[1], 'dimension')} where the first "
                    f"series has {values[0].shape[1]}; is the line whole?"
                )
        else:
            try:
                steps = fields_to_numbers([fields[index] for index in inputs], empty_is_missing=False)
            except ValueError as error:
                raise number_error(source, row, line, 0, error, 1) from error
            values.append(steps[:, None].astype(np.float32))
        numbers.append(line)
    if not values:
        raise DataError(f"{source}: has no series below @data; add some")
    series: list[Array] = []
    shorter = 0
    for whole in values:  # lengths differ where the file has several
        shortened_series, notes = shortened_at_end(whole[None])
        series += shortened_series
        shorter += bool(notes)
    columns: dict[str, pa.Array] = {"series": pa.array(range(1, len(values) + 1))}
    if position is not None:
        columns[attributes[position].name] = pa.array(answers, pa.utf8())
    used = {} if position is None else {answer: attributes[position].name}
    declared = attributes[position].values or None if position is not None else None
    table = Table(source, pa.table(columns), sha256, numbers)
    said = (f"{counted(shorter, 'series', 'series')} cut short where only missing values follow",) if shorter else ()
    return Collected(series, numbered_channels(series[0].shape[1]), table, used, declared, said, number="series")


def _header(lines: Iterator[tuple[int, str]], source: str) -> list[Attribute]:
    attributes: list[Attribute] = []
    outer: Attribute | None = None
    inner = 0
    for number, line in lines:
        lower = line.lower()
        if line.startswith("%") or lower.startswith("@relation"):
            continue
        if lower.startswith("@data"):
            if outer is not None:
                raise DataError(
                    f"{place(source, line=number)}: relational attribute {outer.name!r} has no @end; add it"
                )
            return attributes
        if lower.startswith("@end"):
            if outer is not None:
                attributes.append(Attribute(outer.name, "relational", steps=inner))
            outer = None
            continue
        match = ATTRIBUTE.fullmatch(line)
        if match is None:
            raise DataError(
                f"{place(source, line=number)}: is not @attribute NAME TYPE; is this an .arff file, and whole?"
            )
        attribute = _attribute(match, source, number)
        if outer is not None:
            inner += 1
            if attribute.kind != "numeric":
                raise DataError(f"{place(source, line=number)}: a step is of type {attribute.kind}, not numeric")
        elif attribute.kind == "relational":
            outer, inner = attribute, 0
        else:
            attributes.append(attribute)
    raise DataError(f"{source}: has no line @data; is the file whole?")


def _attribute(match: re.Match[str], source: str, number: int) -> Attribute:
    name, kind = _unquoted(match["name"]), match["kind"].strip()
    if kind.startswith("{"):
        if not kind.endswith("}"):
            raise DataError(f"{place(source, line=number)}: the classes of {name!r} do not end in '}}'; close them")
        return Attribute(name, "nominal", tuple(_fields(kind[1:-1], source, None, number)))
    word = kind.split()[0].lower() if kind else "of no type"
    return Attribute(name, "numeric" if word in NUMERIC else word)


def _answer(attributes: list[Attribute], name: str | None, answer: str, required: bool, source: str) -> int | None:
    """The position of the class or target; None where there is none and none is needed."""
    names = [attribute.name for attribute in attributes]
    if name is not None:
        if name not in names:
            raise DataError(
                f"{source}: has no attribute {name!r} (for {answer!r}){did_you_mean(name, names)}; it has {shortened(names)}"
            )
        return names.index(name)
    last = attributes[-1]
    if answer == "label" and last.kind in ("nominal", "string"):
        return len(attributes) - 1
    if last.kind == "numeric" and len(attributes) > 1 and (
        attributes[0].kind == "relational" or last.name.strip().lower() in ("target", "class", "label", "y")
    ):  # fmt: skip
        return len(attributes) - 1
    if required:
        raise DataError(
            f"{source}: the last attribute, {last.name!r}, is {last.kind}, which says no {answer}; "
            f"name another with --column {answer}=NAME (columns={{{answer!r}: NAME}} in Python)"
        )
    return len(attributes) - 1 if last.kind == "nominal" else None


def _checked_answer(text: str, attribute: Attribute, source: str, row: int, line: int) -> str | None:
    if text in ("?", ""):
        return None
    if attribute.values and text not in attribute.values:
        raise DataError(
            f"{place(source, row, line, attribute.name)}: {text[:60]!r} is not declared in its @attribute line"
            f"{did_you_mean(text, attribute.values)}; declared: {shortened(attribute.values)}"
        )
    return text


def _fields(text: str, source: str, row: int | None, line: int) -> list[str]:
    if text.startswith("{"):
        raise DataError(f"{place(source, row, line)}: is a sparse row ({{...}}), which is not read; write all values")
    fields: list[str] = []
    position = 0
    while True:
        match = FIELD.match(text, position)
        if match is None:
            raise DataError(
                f"{place(source, row, line)}: a quote is never closed, or stands inside a value; is it whole?"
            )
        fields.append(_unquoted(match[1].strip()))
        position = match.end()
        if not match[2]:
            return fields


def _unquoted(text: str) -> str:
    """A value without its quotes; backslash n stays as it is, since it separates channels."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return re.sub(r"\\(['\"\\%])", r"\1", text[1:-1])
    return text


def _bag(text: str, attribute: Attribute, source: str, row: int, line: int) -> Array:
    """The channels of a relational value as (time, channels)."""
    parts = text.split("\\n")
    columns: list[Array] = []
    for channel, part in enumerate(parts):
        try:
            columns.append(fields_to_numbers(part.split(","), empty_is_missing=False))
        except ValueError as error:
            raise number_error(source, row, line, channel, error, len(parts)) from error
        if len(columns[-1]) != len(columns[0]) or len(columns[-1]) > attribute.steps:
            wanted = min(len(columns[0]), attribute.steps)
            raise DataError(
                f"{place(source, row, line)}, dimension {channel + 1}: has {counted(len(columns[-1]), 'step')}, not "
                f"{wanted}; give all dimensions the same steps (? where a value is missing)"
            )
    return np.stack(columns, axis=1).astype(np.float32)
