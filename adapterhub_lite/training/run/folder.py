"""An open run folder: its log, its checkpoints, and finding the one to resume from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from adapterhub_lite.errors import AdapterCorruptError, ConfigError
from adapterhub_lite.storage import commit_directory
from adapterhub_lite.storage.disk import storage_error
from adapterhub_lite.storage.plain import read_plain
from adapterhub_lite.storage.strict_json import parse_json
from adapterhub_lite.training.run.checkpoint import MAX_STATE_BYTES, Checkpoint, part, read_checkpoint, write_checkpoint
from adapterhub_lite.training.run.layout import (
    CHECKPOINTS,
    EVENTS,
    LOG,
    RUN,
    check_run_folder,
    checkpoint_paths,
    now,
    step_of,
)


class RunFolder:
    """An open run folder; one process at a time may have it.

    Args:
        path: Where it is or will be.
        identity: What is trained on what and how, as JSON; a run is resumed only if all of it is the same.
        facts: What else is worth recording, as JSON.
        run_file: The run as YAML, if there is one.
        resume: Go on with the run that is there.
        say: Told of everything that is not as usual.
        main: False in a process that only reads; the main one has made the folder before.

    Raises:
        ConfigError: another process has it, or it holds a run that did not end and `resume` is not set.
        StorageError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        *,
        facts: Mapping[str, Any] | None = None,
        run_file: str | None = None,
        resume: bool = False,
        say: Callable[[str], None] = lambda line: None,
        main: bool = True,
    ):
        self.path = Path(path)
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._say = say
        self._lock: FileLock | None = None
        self._resume = resume
        if main:
            self._prepare(facts or {}, run_file)

    def _prepare(self, facts: Mapping[str, Any], run_file: str | None) -> None:
        resume = self._resume
        check_run_folder(self.path, resume=resume)
        self._lock = self._take_lock()
        if resume and not checkpoint_paths(self.path):
            self._say(f"there is no checkpoint in {self.path} to resume from: beginning at the first step")
            resume = False
        if not resume:
            record = {"identity": self.identity, **facts}

            def write(folder: Path) -> None:
                (folder / CHECKPOINTS).mkdir()
                (folder / LOG).touch()
                if run_file is not None:
                    (folder / "run.yaml").write_text(run_file, encoding="utf-8")
                (folder / RUN).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

            commit_directory(self.path, write, last=RUN)
        self._resume = resume
        self.event("resumed" if resume else "started")
        if resume:
            self._compare_versions(facts)

    def _compare_versions(self, facts: Mapping[str, Any]) -> None:
        """Say which libraries are other ones than when the run was started: its numbers may then differ a little."""
        recorded = parse_json(read_plain(self.path / RUN, MAX_STATE_BYTES), str(self.path / RUN))
        before = recorded.get("versions") if isinstance(recorded, dict) else None
        for name, version in facts.get("versions", {}).items():
            if isinstance(before, dict) and before.get(name, version) != version:
                self.tell(
                    f"warning: this run was started with {name} {before[name] or '(not installed)'} and goes on with "
                    f"{version or '(not installed)'}; its numbers may differ from those of an uninterrupted run"
                )

    def newest(self) -> tuple[Checkpoint, dict[str, Tensor] | None] | None:
        """The newest checkpoint that is whole, with the tensors of the best adapter it knows of; None to begin anew.

        One that is damaged is set aside with a warning, and so is one whose best checkpoint is.

        Raises:
            ConfigError: the run is another one; says what differs.
        """
        if not self._resume:
            return None
        for path in reversed(checkpoint_paths(self.path)):
            try:
                found, tensors = self.at(step_of(path))
            except AdapterCorruptError as error:
                aside = _free_name(path.with_name(f"damaged-{path.name}"))
                path.rename(aside)
                self.tell(f"warning: checkpoint {path.name} is skipped ({error}); it is kept as {aside.name}")
                continue
            (self.path / LOG).write_bytes(found.log)
            self.tell(f"resuming after step {found.state['step']} from {path}")
            return found, tensors
        (self.path / LOG).write_bytes(b"")
        self.tell(f"warning: no checkpoint in {self.path} is whole: beginning again at the first step")
        return None

    def at(self, step: int) -> tuple[Checkpoint, dict[str, Tensor] | None]:
        """The checkpoint of a step, with the tensors of the best adapter it knows of.

        Raises:
            AdapterCorruptError: one of the two is damaged.
            ConfigError: the run is another one; says what differs.
        """
        found = read_checkpoint(self._checkpoint(step))
        self._refuse_another(found.identity)
        best = found.state["best_step"]
        if best is None:
            return found, None
        held = found if best == step else read_checkpoint(self._checkpoint(best))
        return found, {**part(held.tensors, "adapter"), **part(held.tensors, "average")}

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        self._append(LOG, json.dumps(record, allow_nan=False))

    def tell(self, line: str) -> None:
        """Say something and write it down."""
        self._say(line)
        self.event(line)

    def event(self, line: str) -> None:
        """Write down when something happened."""
        self._append(EVENTS, f"{now()} {line}")

    def commit(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor], keep: int) -> None:
        """Commit a checkpoint and delete those no longer needed: all but the newest `keep` and the best they know of."""
        path = self._checkpoint(int(state["step"]))
        log = (self.path / LOG).read_bytes()
        write_checkpoint(path, identity=self.identity, state=state, tensors=tensors, log=log)
        paths = checkpoint_paths(self.path)
        newest = paths[-keep:]
        kept = {*newest, *(self._checkpoint(best) for best in map(_best_step, newest) if best is not None)}
        for old in paths:
            if old not in kept:
                shutil.rmtree(old, ignore_errors=True)
                old.with_name(f".{old.name}.lock").unlink(missing_ok=True)

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.release()

    def _checkpoint(self, step: int) -> Path:
        return self.path / CHECKPOINTS / f"step-{step:08}"

    def _append(self, name: str, line: str) -> None:
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise storage_error(error, self.path / name) from error

    def _take_lock(self) -> FileLock:
        path = self.path.with_name(f".{self.path.name}.busy")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0)
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"another process is training into {self.path}; wait for it or choose another --out"
            ) from None
        except OSError as error:
            raise storage_error(error, self.path) from error
        return lock

    def _refuse_another(self, identity: Mapping[str, Any]) -> None:
        differing = _differences(identity, self.identity)
        if differing:
            raise ConfigError(
                f"{self.path} cannot be resumed, because this is another run: {'; '.join(differing[:5])}; "
                "give what it was started with, or choose another --out"
            )


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two values of JSON, each by its dotted name."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(key for key in before if key not in now)]
        found = [_differences(before.get(key), now.get(key), f"{name}.{key}" if name else key) for key in keys]
        return [each for part in found for each in part]
    if before == now and type(before) is type(now):
        return []
    return [f"{name} was {_short(before)} and is now {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _best_step(path: Path) -> int | None:
    try:
        state = json.loads((path / "state.json").read_bytes())["state"]
        return None if state["best_step"] is None else int(state["best_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # damaged since; found out, and said, when it is resumed from


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
