"""Loading each plug-in in a process of its own, to find the one that hangs or takes the whole program down."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

from adapterhub_lite.plugins.find import Plugin, Record
from adapterhub_lite.plugins.manager import Plugins

CODE = """
import json, sys
from dataclasses import asdict
from adapterhub_lite.plugins.find import find
from adapterhub_lite.plugins.manager import Plugins
plugin = next(plugin for plugin in find()[0] if plugin.name == sys.argv[1])
record = asdict(Plugins(enabled=False, strict=False).admit(plugin))
sys.__stdout__.write("\\n" + json.dumps(record))
"""


class OwnProcesses(Plugins):
    """The records of plug-ins, each of which was loaded in a process of its own. Nothing of them is in this one.

    Args:
        seconds: What one of them may take, the start of its process (a quarter of a second) included.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        super().__init__(strict=False)

    def admit(self, plugin: Plugin, module: ModuleType | None = None) -> Record:
        """Load one plug-in and record what became of it."""
        self.records.append(self._load(plugin))
        return self.records[-1]

    def _load(self, plugin: Plugin) -> Record:
        failed = Record(plugin.name, plugin.dist, plugin.version, "failed", "import")
        try:
            done = subprocess.run(
                [sys.executable, "-c", CODE, plugin.name],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=self._seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            hint = f"leave it out with ADAPTERHUB_DISABLE={plugin.name}"
            return replace(failed, error=f"not ready within {self._seconds:g} s; {hint}")
        try:
            record = json.loads(done.stdout.rpartition("\n")[2])
            return Record(**{**record, "strategies": tuple(record["strategies"])})
        except ValueError:
            return replace(failed, error=f"it ended the process it was loaded in (exit status {done.returncode})")
