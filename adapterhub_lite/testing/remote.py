"""Running the kit in a subprocess with a time limit, so that a strategy that hangs or crashes takes nobody along.

No torch here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from adapterhub_lite.errors import ConfigError, PluginError
from adapterhub_lite.plugins.spec import ProvidedStrategy
from adapterhub_lite.testing.results import CheckResult


@dataclass
class RemoteRun:
    """What has come from the subprocess so far."""

    total: int = 0
    running: str | None = None
    """The check that has begun and not ended."""
    results: list[CheckResult] = field(default_factory=list)
    done: bool = False
    refused: str | None = None
    """Why the options cannot be used."""

    def take(self, line: str) -> None:
        """Read one line of `adapterhub_lite.testing.child`; anything else is passed over."""
        with suppress(ValueError, TypeError, AttributeError):
            message = json.loads(line)
            self.total = message.get("checks", self.total)
            self.running = message.get("running", self.running)
            self.done = message.get("done", self.done)
            self.refused = message.get("refused", self.refused)
            if "result" in message:
                self.results.append(CheckResult(**message["result"]))
                self.running = None


class CheckProcessError(PluginError):
    """The subprocess hung or died; `results` are those that came before."""

    def __init__(self, message: str, results: list[CheckResult]):
        super().__init__(message)
        self.results = results


def check_in_subprocess(
    provided: ProvidedStrategy,
    *,
    timeout: float = 300.0,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
    report: Callable[[RemoteRun], None] = lambda run: None,
) -> list[CheckResult]:
    """Run the kit on an installed strategy.

    Args:
        provided: The strategy with its plug-in and distribution.
        timeout: Seconds after which the subprocess and all it started are killed.
        expected_failures, checks: As in `check_strategy`.
        report: Called, in another thread, whenever there is something new.

    Raises:
        ConfigError: a check that does not exist.
        CheckProcessError: it hung, or ended without finishing; names the plug-in, its distribution and the check.
    """
    command = [sys.executable, "-m", "adapterhub_lite.testing.child", f"{provided.dist}:{provided.spec.name}"]
    command.append(json.dumps({"expected_failures": dict(expected_failures or {}), "checks": checks or None}))
    run = RemoteRun()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        reader = threading.Thread(target=_read, args=(process.stdout, run, report), daemon=True)
        reader.start()
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CheckProcessError(
                f"{_who(provided)}: the kit did not end within {timeout:g} s and was stopped{_where(run)}", run.results
            ) from None
        finally:
            _kill(process)  # it, and whatever it left running
        reader.join(timeout=5)
        if run.refused is not None:
            raise ConfigError(run.refused)
        if not run.done:
            raise CheckProcessError(
                f"{_who(provided)}: the process of the kit {_ending(code)}{_where(run)}{_last_line(errors)}",
                run.results,
            )
    return run.results


def _read(pipe: IO[str] | None, run: RemoteRun, report: Callable[[RemoteRun], None]) -> None:
    for line in pipe or ():
        run.take(line)
        report(run)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _who(provided: ProvidedStrategy) -> str:
    return f"strategy '{provided.spec.name}' of plug-in '{provided.plugin}' ({provided.dist} {provided.version})"


def _where(run: RemoteRun) -> str:
    return f" in {run.running}" if run.running else " before the first check" if not run.results else ""


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _last_line(errors: IO[Any]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return f"; its last words: {lines[-1].strip()[:300]}" if lines else ""
