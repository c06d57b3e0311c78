"""Running one command in a process of its own: what it printed, how long it took, how much memory it had at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def measured(command: Sequence[str], cache: Path) -> dict[str, Any]:
    """Run a Python command whose last output is one JSON object.

    Args:
        command: What follows `python`.
        cache: Where it keeps what it prepares; give an empty folder to count the preparation.

    Returns:
        That object, with `wall_s` (seconds, imports included) and `peak_gb` (resident memory).

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    environment = {**os.environ, "ADAPTERHUB_CACHE": str(cache), "OMP_WAIT_POLICY": "PASSIVE"}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        # The errors are few lines; the output is one object: neither fills a pipe while the other is read.
        assert process.stdout is not None
        assert process.stderr is not None
        told = process.stderr.read()
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"python {' '.join(command)} exited with {process.returncode}:\n{told[-2000:]}")
    result: dict[str, Any] = json.loads(output)
    return {**result, "wall_s": time.monotonic() - started, "peak_gb": usage.ru_maxrss / 1e6}
