"""An open run folder: write the log and checkpoints, and find the checkpoint to resume from."""

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
from adapterhub_lite.storage.commit import acquire, lock_beside, release
from adapterhub_lite.storage.disk import storage_error
from adapterhub_lite.storage.plain import read_plain
from adapterhub_lite.storage.strict_json import parse_json
from adapterhub_lite.training.run.checkpoint import MAX_STATE_BYTES, Checkpoint, read_checkpoint, write_checkpoint
from adapterhub_lite.training.run.identity import new_id
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
        facts: What else is recorded, as JSON.
        run_file: The run as YAML, if there is one.
        resume: Go on with the run that is there.
        say: Shows the user everything that is not as usual.
        main: Whether this is the main process, which makes the folder; the others only read it.

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
        self.id = new_id()
        """Names the run among all others; the same when it is resumed."""
        if main:
            self._prepare(facts or {}, run_file)

    def _prepare(self, facts: Mapping[str, Any], run_file: str | None) -> None:
        check_run_folder(self.path, resume=self._resume)
        self._lock = self._take_lock()
        if self._resume and not checkpoint_paths(self.path):
            self._say(f"there is no checkpoint in {self.path} to resume from: beginning at the first step")
            self._resume = False
        if not self._resume:
            record = {"id": self.id, "identity": self.identity, **facts}

            def write(folder: Path) -> None:
                (folder / CHECKPOINTS).mkdir()
                (folder / LOG).touch()
                if run_file is not None:
                    (folder / "run.yaml").write_text(run_file, encoding="utf-8")
                (folder / RUN).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

            commit_directory(self.path, write, last=RUN)
        self.event("resumed" if self._resume else "started")
        if self._resume:
            recorded = parse_json(read_plain(self.path / RUN, MAX_STATE_BYTES), str(self.path / RUN))
            self.id = str(recorded.get("id", self.id)) if isinstance(recorded, dict) else self.id
            self._compare_versions(recorded, facts)

    def _compare_versions(self, recorded: Any, facts: Mapping[str, Any]) -> None:
        """Warn of libraries whose versions changed since the run was started: the numbers may then differ a little."""
        before = recorded.get("versions") if isinstance(recorded, dict) else None
        for name, version in facts.get("versions", {}).items():
            if isinstance(before, dict) and before.get(name, version) != version:
                self.tell(
                    f"warning: this run was started with {name} {before[name] or '(not installed)'} and goes on with "
                    f"{version or '(not installed)'}; its numbers may differ from those of an uninterrupted run"
                )

    def newest(self) -> tuple[Checkpoint, Checkpoint | None] | None:
        """The newest undamaged checkpoint, and the one with the best adapter until then; None to begin anew.

        A checkpoint is renamed, with a warning, where it or the one with its best adapter is damaged.

        Raises:
            ConfigError: the run is another one; says what differs.
        """
        if not self._resume:
            return None
        for path in reversed(checkpoint_paths(self.path)):
            try:
                checkpoint, best = self.at(step_of(path))
            except AdapterCorruptError as error:
                aside = _free_name(path.with_name(f"damaged-{path.name}"))
                path.rename(aside)
                self.tell(f"warning: checkpoint {path.name} is skipped ({error}); it is kept as {aside.name}")
                continue
            (self.path / LOG).write_bytes(checkpoint.log)
            self.tell(f"resuming after step {checkpoint.state['step']} from {path}")
            return checkpoint, best
        (self.path / LOG).write_bytes(b"")
        self.tell(f"warning: no checkpoint in {self.path} is whole: beginning again at the first step")
        return None

    def at(self, step: int) -> tuple[Checkpoint, Checkpoint | None]:
        """The checkpoint of a step, and the one with the best adapter until then, if there is one.

        Raises:
            AdapterCorruptError: one of the two is damaged.
            ConfigError: the run is another one; says what differs.
        """
        checkpoint = read_checkpoint(self._checkpoint(step))
        changed = _differences(checkpoint.identity, self.identity)
        if changed:
            raise ConfigError(
                f"{self.path} cannot be resumed, because this is another run: {'; '.join(changed[:5])}; "
                "give what it was started with, or choose another --out"
            )
        best = checkpoint.state["best_step"]
        if best is None:
            return checkpoint, None
        return checkpoint, checkpoint if best == step else read_checkpoint(self._checkpoint(best))

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        self._append(LOG, json.dumps(record, allow_nan=False))

    def tell(self, line: str) -> None:
        """Say something and write it down."""
        self.event(line)
        self._say(line)

    def event(self, line: str) -> None:
        """Write down when something happened."""
        self._append(EVENTS, f"{now()} {line}")

    def commit(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor], keep: int) -> None:
        """Commit a checkpoint, and delete all but the newest `keep` and those with the best adapter of one of these."""
        path = self._checkpoint(int(state["step"]))
        log = (self.path / LOG).read_bytes()
        write_checkpoint(path, identity=self.identity, state=state, tensors=tensors, log=log)
        paths = checkpoint_paths(self.path)
        newest = paths[-keep:]
        kept = {*newest, *(self._checkpoint(best) for best in map(_best_step, newest) if best is not None)}
        for old in paths:
            if old not in kept:
                shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            release(self._lock)

    def _checkpoint(self, step: int) -> Path:
        return self.path / CHECKPOINTS / f"step-{step:08}"

    def _append(self, name: str, line: str) -> None:
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise storage_error(error, self.path / name) from error

    def _take_lock(self) -> FileLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = acquire(lock_beside(self.path, ".busy"), 0)
        except Timeout:
            raise ConfigError(
                f"another process is training into {self.path}; wait for it or choose another --out"
            ) from None
        except OSError as error:
            raise storage_error(error, self.path) from error
        return lock


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two values of JSON, by dotted names."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(key for key in before if key not in now)]
        parts = [_differences(before.get(key), now.get(key), f"{name}.{key}" if name else key) for key in keys]
        return [difference for part in parts for difference in part]
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
        return None  # damaged since it was written, which resuming from it will notice and say


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
