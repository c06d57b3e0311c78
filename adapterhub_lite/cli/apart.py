"""Loading each plug-in in a process of its own, to find the one that hangs or takes the whole program down."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

from adapterhub_lite.plugins.find import Found, Record
from adapterhub_lite.plugins.manager import Plugins

CODE = """
import json, sys
from dataclasses import asdict
from adapterhub_lite.plugins.find import find
from adapterhub_lite.plugins.manager import Plugins
found = next(each for each in find()[0] if each.name == sys.argv[1])
record = asdict(Plugins(enabled=False, strict=False).admit(found))
sys.__stdout__.write("\\n" + json.dumps(record))
"""


class Apart(Plugins):
    """The records of plug-ins that were each loaded in another process. Nothing of them is in this one.

    Args:
        seconds: What one of them may take, the start of its process (a quarter of a second) included.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        super().__init__(strict=False)

    def admit(self, found: Found, module: ModuleType | None = None) -> Record:
        """Load one and note what became of it."""
        self.records.append(_try(found, self._seconds))
        return self.records[-1]


def _try(found: Found, seconds: float) -> Record:
    failed = Record(found.name, found.dist, found.version, "failed", "import")
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE, found.name],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return replace(
            failed, error=f"not ready within {seconds:g} s; leave it out with ADAPTERHUB_DISABLE={found.name}"
        )
    try:
        record = json.loads(done.stdout.rpartition("\n")[2])
        return Record(**{**record, "strategies": tuple(record["strategies"])})
    except ValueError:
        return replace(failed, error=f"it ended the process it was loaded in (exit status {done.returncode})")
