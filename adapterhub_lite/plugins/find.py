"""Finding plug-ins and importing them: entry points of our group, read directly.

pluggy's own loader stops at the first bad import and drops the second of two plug-ins of one name without a word.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Literal

from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.guard import Watch, remedy

GROUP = "adapterhub_lite"
PLUGIN_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
Stage = Literal["find", "import", "hooks", "strategies", "tasks"]


@dataclass(frozen=True)
class Found:
    """An entry point of our group, not yet imported."""

    name: str
    dist: str
    version: str
    entry: metadata.EntryPoint


@dataclass(frozen=True)
class Loaded:
    """A plug-in whose module has been imported."""

    found: Found
    module: ModuleType


@dataclass(frozen=True)
class Record:
    """What became of one plug-in; `adapterhub-lite plugins list` prints these."""

    name: str
    dist: str
    version: str
    state: Literal["loaded", "failed", "disabled"]
    stage: Stage | None = None
    error: str | None = None
    strategies: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


class PluginFailure(Exception):
    """Carries the stage at which a plug-in failed."""

    def __init__(self, stage: Stage, message: str):
        super().__init__(message)
        self.stage = stage


def find() -> tuple[list[Found], list[Record]]:
    """Scan the installed distributions once for entry points of our group, sorted and free of repeats.

    Two distributions that use one entry-point name are both kept; the second is called `name@dist`.

    Returns:
        What was found, and a record of every distribution whose entry points cannot be read.
    """
    seen: dict[tuple[str, str], Found] = {}
    broken: list[Record] = []
    for distribution in metadata.distributions():
        try:
            entries = distribution.entry_points.select(group=GROUP)
            if not entries:
                continue
            dist = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "unknown").lower()
            version = distribution.version or "0"
        except Exception as error:
            folder = str(getattr(distribution, "_path", "unknown"))
            message = f"its metadata in {folder} cannot be read: {one_line(error)}"
            dist = os.path.basename(folder).split("-")[0].replace("_", "-").lower()  # noqa: PTH119
            broken.append(Record(dist, dist, "0", "failed", "find", message))
            continue
        for entry in entries:
            # The first on sys.path is the one that import would give; a second copy of it is a shadow.
            seen.setdefault((entry.name, dist), Found(entry.name, dist, version, entry))
    result: list[Found] = []
    taken: set[str] = set()
    for key in sorted(seen):
        found = seen[key]
        if not PLUGIN_NAME.fullmatch(found.name):
            message = f"the name {found.name!r} of its entry point may hold letters, digits and _ . : - only"
            broken.append(Record(found.name, found.dist, found.version, "failed", "find", message))
            continue
        if found.name in taken:
            found = Found(f"{found.name}@{found.dist}", found.dist, found.version, found.entry)
        taken.add(found.name)
        result.append(found)
    return result, broken


def load(found: Found, watch: Watch) -> Loaded:
    """Import one plug-in's module, turning whatever it raises into a recorded failure."""
    try:
        title = f"plug-in '{found.name}' ({found.dist} {found.version}) to import"
        # What a plug-in prints as it starts must not end up in the JSON of a command.
        with watch.waiting_for(title, remedy(found.name)), redirect_stdout(sys.stderr):
            module = found.entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit in a plug-in must not end the program
        raise PluginFailure("import", f"importing '{found.entry.value}' raised {one_line(error)}") from error
    if not isinstance(module, ModuleType):
        raise PluginFailure(
            "import", f"'{found.entry.value}' is not a module; point the entry point at the module itself"
        )
    return Loaded(found, module)
