"""Tables of series: which columns play which role, and whether a row is a series or a step of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from adapterhub_lite.api import DataError, Table, counted, did_you_mean, find_column, guess_column, shortened
from adapterhub_series.data.collected import Collected, Reading
from adapterhub_series.data.long import read_long
from adapterhub_series.data.names import split_names
from adapterhub_series.data.numbers import looks_numeric
from adapterhub_series.data.wide import families, list_columns, read_lists, read_numbered
from adapterhub_series.data.windows import Windows

# In the order tried: the names people give these columns.
LABEL_NAMES = ("label", "class", "category", "activity", "labels", "class_label", "target", "state", "fault", "y")
TARGET_NAMES = ("target", "rul", "remaining_useful_life", "y", "ttf", "time_to_failure", "label", "output")
SERIES_NAMES = (
    *("series", "series_id", "id", "unit", "unit_number", "unit_id", "unit_nr", "engine", "engine_id", "machine"),
    *("machine_id", "machineid", "device", "device_id", "sensor_id", "recording", "recording_id", "trial", "trial_id"),
    *("session", "session_id", "case", "case_id", "instance", "sample", "sample_id", "measurement_id", "battery_id"),
)
GROUP_NAMES = ("group", "group_id", "patient", "patient_id", "subject", "subject_id", "person", "user", "user_id")
TIME_NAMES = (
    *("time", "timestamp", "time_stamp", "datetime", "date_time", "date", "cycle", "cycles", "time_in_cycles"),
    *("time_cycles", "step", "time_step", "timestep", "tick", "seconds", "hour", "t", "ts", "time_index"),
)
ROLES = ("series", "time", "channels", "group")


def read_series_table(table: Table, given: Mapping[str, str], how: Reading) -> Collected:
    """Read whole series from a table, wide or long; DataError where a role has no column."""
    channels = split_names(given["channels"]) if "channels" in given else None
    used = {role: find_column(table, name, role) for role, name in given.items() if role != "channels"}
    _guess_answer(table, used, how.answer, channels or (), how.required)
    rest = [name for name in table.columns if name not in used.values()]
    lists = list_columns(table, channels if channels and set(channels) <= set(table.columns) else rest)
    if "time" not in used and lists and (channels is None or set(channels) <= set(lists)):
        values = channels or tuple(lists)
        return _said(read_lists(table, _about_rows(table, used, values), values), "series", table, values)
    numbered = families(table, rest)
    if _is_long(table, used, channels, numbered, how.windows):
        for name in channels or ():
            find_column(table, name, "channels")
        _guess_ids(table, used, channels or ())
        if "series" not in used and how.windows is None:
            raise DataError(
                f"{table.source}: a row is one time step, and no column says which series it belongs to; name one with "
                f"--column series=NAME (columns={{'series': NAME}} in Python): {shortened(rest)}; or, if all rows are one "
                "series, cut it into windows with --window LENGTH"
            )
        values = channels or _numeric_rest(table, used)
        return _said(read_long(table, used, values, how.answer, how), "step", table, values)
    if channels is not None:
        unknown = next((name for name in channels if name not in numbered), None)
        if unknown is not None:
            offered = (*table.columns, *numbered)
            raise DataError(
                f"{table.source}: has no column {unknown!r} (for 'channels'), nor columns numbered after it"
                f"{did_you_mean(unknown, offered)}; it has {shortened(table.columns)}"
            )
        numbered = {name: numbered[name] for name in channels}
    if not numbered:
        raise DataError(
            f"{table.source}: cannot tell where the series are; give a row a time step and name the id of its series "
            "with --column series=NAME, or a row a series with its values in columns t0, t1, t2, ... or in a column of lists;"
            f" it has {shortened(table.columns)}"
        )
    values = tuple(name for columns in numbered.values() for name in columns)
    return _said(read_numbered(table, _about_rows(table, used, values), numbered), "series", table, values)


def _said(collected: Collected, row: str, table: Table, values: Sequence[str]) -> Collected:
    """Put notes on how the table was understood in front of the others, since most of that is guessed."""
    notes = [f"read as a table with a row a {row}"]
    if row == "step":
        order = f"in order of {collected.used['time']!r}" if "time" in collected.used else "in the order of the file"
        if "series" in collected.used:
            order = f"rows with the same {collected.used['series']!r} are one series, {order}"
        notes[0] += f": {order}"
    unused = [name for name in table.columns if name not in values and name not in collected.used.values()]
    if unused:
        notes.append(f"{counted(len(unused), 'column')} not used: {shortened(unused)}")
    return replace(collected, notes=(*notes, *collected.notes))


def _guess_answer(table: Table, used: dict[str, str], answer: str, channels: Sequence[str], required: bool) -> None:
    if answer in used:
        return
    names = LABEL_NAMES if answer == "label" else TARGET_NAMES
    name = guess_column(table, names, (*used.values(), *channels))
    if name is not None:
        used[answer] = name
    elif required:
        raise DataError(
            f"{table.source}: cannot tell which column is the {answer}; name one with --column {answer}=NAME "
            f"(columns={{{answer!r}: NAME}} in Python): {shortened(table.columns)}"
        )


def _is_long(
    table: Table,
    used: Mapping[str, str],
    channels: Sequence[str] | None,
    numbered: Mapping[str, Sequence[str]],
    windows: Windows | None,
) -> bool:
    """Whether a row is one step of a series."""
    if channels is not None and any(name in table.columns for name in channels):
        return True
    if "time" in used:
        return True
    if channels is not None:
        return False
    taken = tuple(used.values())
    series = used.get("series") or guess_column(table, SERIES_NAMES, taken)
    if series is not None and _repeats(table, series):
        return True
    time = guess_column(table, TIME_NAMES, taken)
    group = guess_column(table, GROUP_NAMES, taken)
    if numbered:
        return time is not None and (windows is not None or (group is not None and _repeats(table, group)))
    return time is not None or windows is not None or series is not None


def _guess_ids(table: Table, used: dict[str, str], channels: Sequence[str]) -> None:
    """Guess the columns of a long table for the series, the group and the time.

    Where no column is the id of the series, that of the group (a person, say) is used for it.
    """
    for role, names in (("series", SERIES_NAMES), ("group", GROUP_NAMES), ("time", TIME_NAMES)):
        name = guess_column(table, names, (*used.values(), *channels))
        if role not in used and name is not None:
            used[role] = name
    if "series" not in used and "group" in used:
        used["series"] = used.pop("group")


def _about_rows(table: Table, used: dict[str, str], values: Sequence[str]) -> dict[str, str]:
    """Guess the columns of a wide table, if it has them, for the id of each row and the group that the row belongs to."""
    for role, names in (("series", SERIES_NAMES), ("group", GROUP_NAMES)):
        name = guess_column(table, names, (*used.values(), *values))
        if role not in used and name is not None:
            used = {**used, role: name}
    return used


def _numeric_rest(table: Table, used: Mapping[str, str]) -> tuple[str, ...]:
    channels = tuple(name for name in table.columns if name not in used.values() and looks_numeric(table, name))
    if not channels:
        raise DataError(
            f"{table.source}: no column of numbers is left for the channels; name them with --column channels=NAME,NAME "
            f"(columns={{'channels': 'NAME,NAME'}} in Python): {shortened(table.columns)}"
        )
    return channels


def _repeats(table: Table, name: str) -> bool:
    try:
        return int(pc.count_distinct(table.arrow.column(name)).as_py()) < len(table)
    except pa.ArrowException:  # lists are no ids
        return False
