"""Names a user may give, how options and sizes are written. Imports nothing heavy, so that names are checked at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from adapterhub_lite.errors import ConfigError

QUANTIZATIONS = ("none", "nf4", "fp4", "int8")
DTYPE_NAMES = ("auto", "float32", "bfloat16", "float16")
POOLINGS = ("cls", "mean", "last", "max", "mean_sqrt_len", "weightedmean")


@dataclass(frozen=True)
class Flag:
    """How the command line writes a field of a model; stands in the field's `Annotated` where name and default do not say."""

    name: str | None = None
    """The option, such as "--lr"; by default made from the name of the field."""
    metavar: str | None = None
    """What stands for the value in the help, such as "FILE"."""
    unset: str | None = None
    """What happens where the option is not given, in words; by default the default of the field."""


def check_choice(kind: str, name: str, choices: Sequence[str]) -> None:
    """Refuse a name that is not among the choices.

    Raises:
        ConfigError: naming the closest choice and all of them.
    """
    if name not in choices:
        raise ConfigError(
            f"there is no {kind} '{name}'{did_you_mean(str(name), choices)}; choose one of: {', '.join(choices)}"
        )


def listed_names(given: Iterable[str]) -> list[str]:
    """The names in texts that hold one each, or several with commas."""
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def refuse_truth_for_number(options: Any, value: Any, field: str) -> Any:
    """Refuse true and false where an option of a model is a number, as which pydantic takes them.

    Raises:
        ValueError: it is.
    """
    if isinstance(value, bool):
        annotation = options.model_fields[field].annotation
        kinds = {annotation, *get_args(annotation)}
        if kinds & {int, float} and bool not in kinds:
            raise ValueError("it is a number, not yes or no")
    return value


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """The closest of the known names in brackets, with a space before; nothing where none is close."""
    close = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def human_size(size: float) -> str:
    """A number of bytes as a person reads it: 2.8 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def scores_shown(record: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """The scores that an adapter records, by name: each with its interval of 95 % behind it, and without the number of rows.

    An interval of no width, as the bootstrap has it of rows that are all right, says nothing of new rows and is left out.
    """
    shown = []
    for name, score in record.items():
        of_interval = name.endswith(("_low", "_high")) and name.rpartition("_")[0] in record
        if score is not None and name != "n" and not of_interval:
            low, high = record.get(f"{name}_low"), record.get(f"{name}_high")
            interval = f" ({low:.4f} to {high:.4f})" if low is not None and high is not None and low < high else ""
            shown.append((name, f"{score:.4f}{interval}"))
    return shown


def short(value: Any) -> str:
    """A value in at most 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a value of a plug-in's own type may fail at this too
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time, or None. Of many names a list is quicker than a generator."""
    seen: dict[str, None] = {}
    for name in names:
        if name in seen:
            return name
        seen[name] = None  # which is no call, as `add` of a set would be
    return None


def one_line(error: BaseException) -> str:
    """An exception as type and message on one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
