"""Finding plug-ins and importing them: entry points of our group, read directly.

pluggy's own loader stops at the first bad import and drops the second of two plug-ins of one name without a word.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from importlib import metadata
from types import ModuleType
from typing import Literal

from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.guard import Watch, remedy
from adapterhub_lite.plugins.surroundings import OUTPUT

GROUP = "adapterhub_lite"
PLUGIN_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
Stage = Literal["find", "import", "hooks", "strategies", "tasks"]


@dataclass(frozen=True)
class Plugin:
    """A plug-in as its distribution declares it, not yet imported."""

    name: str
    dist: str
    version: str
    entry: metadata.EntryPoint


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


def find() -> tuple[list[Plugin], list[Record]]:
    """Scan the installed distributions once for entry points of our group, sorted and free of repeats.

    Two distributions that use one entry-point name are both kept; the second is called `name@dist`.

    Returns:
        The plug-ins, and a record of every distribution whose entry points cannot be read.
    """
    declared: dict[tuple[str, str], Plugin] = {}
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
            # A distribution may be on sys.path twice; import would take the first, so the second is left out.
            declared.setdefault((entry.name, dist), Plugin(entry.name, dist, version, entry))
    plugins: dict[str, Plugin] = {}
    for _, plugin in sorted(declared.items()):
        if not PLUGIN_NAME.fullmatch(plugin.name):
            message = f"the name {plugin.name!r} of its entry point may hold letters, digits and _ . : - only"
            broken.append(Record(plugin.name, plugin.dist, plugin.version, "failed", "find", message))
            continue
        if plugin.name in plugins:
            plugin = replace(plugin, name=f"{plugin.name}@{plugin.dist}")
        plugins[plugin.name] = plugin
    return list(plugins.values()), broken


def load(plugin: Plugin, watch: Watch) -> ModuleType:
    """Import one plug-in's module, turning whatever it raises into a recorded failure."""
    try:
        title = f"plug-in '{plugin.name}' ({plugin.dist} {plugin.version}) to import"
        # What a plug-in prints as it starts must not end up in the JSON of a command.
        with watch.waiting_for(title, remedy(plugin.name)), OUTPUT.aside():
            module = plugin.entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit in a plug-in must not end the program
        raise PluginFailure("import", f"importing '{plugin.entry.value}' raised {one_line(error)}") from error
    if not isinstance(module, ModuleType):
        raise PluginFailure(
            "import", f"'{plugin.entry.value}' is not a module; point the entry point at the module itself"
        )
    return module
