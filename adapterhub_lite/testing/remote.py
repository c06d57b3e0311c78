"""The kit in a process of its own with a time limit, so that a strategy that hangs or crashes takes nobody along.

The parent runs `python -m adapterhub_lite.testing.remote KIND DIST:NAME OPTIONS` and reads one JSON object a line from it:
`{"checks": N}`, then for every check `{"running": id}` and `{"result": {...}}`, and `{"done": true}` at the end, without
which the process did not get there. Where options name something that does not exist, `{"refused": why}` is all.
Nothing here imports torch before the child does.
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
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from adapterhub_lite.errors import AdapterHubError, ConfigError, PluginError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.shelf import strategy_shelf
from adapterhub_lite.testing.check import CheckResult
from adapterhub_lite.testing.targets import Target


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
        """Read one line from the child; anything that is not of the protocol is passed over."""
        with suppress(ValueError, TypeError, AttributeError):
            message = json.loads(line)
            self.total = message.get("checks", self.total)
            self.running = message.get("running", self.running)
            self.done = message.get("done", self.done)
            self.refused = message.get("refused", self.refused)
            if "result" in message:
                self.results.append(CheckResult(**message["result"]))
                self.running = None

    @property
    def place(self) -> str:
        """How far it has come, for the end of a message."""
        return f" in {self.running}" if self.running else "" if self.results else " before the first check"


class CheckProcessError(PluginError):
    """The subprocess hung or died; `results` are those that came before."""

    def __init__(self, message: str, results: list[CheckResult]):
        super().__init__(message)
        self.results = results


def check_in_subprocess(
    target: Target,
    *,
    timeout: float = 300.0,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
    report: Callable[[RemoteRun], None] = lambda run: None,
) -> list[CheckResult]:
    """Run the kit on something that is installed.

    Args:
        target: What it is.
        timeout: Seconds after which the subprocess and all it started are killed.
        expected_failures, checks: As in `check_strategy`.
        report: Called, in another thread, whenever there is something new.

    Raises:
        ConfigError: a check that does not exist.
        CheckProcessError: it hung, or ended without finishing; names the plug-in, its distribution and the check.
    """
    command = [sys.executable, "-m", "adapterhub_lite.testing.remote", target.kind, target.qualified]
    command.append(json.dumps({"expected_failures": dict(expected_failures or {}), "checks": checks or None}))
    name = target.title
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
                f"{name}: the kit did not end within {timeout:g} s and was stopped{run.place}", run.results
            ) from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # the child, and whatever it left running
            process.wait()
        reader.join(timeout=5)
        if run.refused is not None:
            raise ConfigError(run.refused)
        if not run.done:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            last = f"; its last words: {lines[-1].strip()[:300]}" if lines else ""
            raise CheckProcessError(f"{name}: the process of the kit {_ending(code)}{run.place}{last}", run.results)
    return run.results


def _read(pipe: IO[str] | None, run: RemoteRun, report: Callable[[RemoteRun], None]) -> None:
    for line in pipe or ():
        run.take(line)
        report(run)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def main(kind: str, qualified: str, options: str) -> None:
    """Be the child: run the kit on something, given as `dist:name`, and write the protocol to standard output.

    Args:
        kind: "strategy", "task" or "observer".
        qualified: Its name.
        options: `expected_failures` and `checks` of `check_strategy` as a JSON object.
    """
    # What plug-ins and libraries print must not get between the lines of the protocol.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=lines, flush=True)

    from adapterhub_lite.tasks.catalog import Catalog
    from adapterhub_lite.testing.observer_bench import bound_observer_checks
    from adapterhub_lite.testing.run import bound_checks
    from adapterhub_lite.testing.task_bench import bound_task_checks

    plugins, chosen = Plugins(), json.loads(options)
    try:
        if kind == "strategy":
            bound = list(bound_checks(strategy_shelf(plugins).resolve(qualified).spec, **chosen))
        elif kind == "task":
            task = Catalog(plugins).resolve(qualified)
            bound = list(bound_task_checks(task.spec, qualified=qualified, **chosen))
        else:
            module: Any = plugins.manager.get_plugin(qualified.rpartition(":")[2])
            bound = list(bound_observer_checks(module, **chosen))
    except AdapterHubError as error:
        write({"refused": str(error)})
        return
    write({"checks": len(bound)})
    for check in bound:
        write({"running": check.id})
        write({"result": asdict(check.result())})
    write({"done": True})


if __name__ == "__main__":
    main(*sys.argv[1:])
