"""The folder of a run, beside the adapter: what was trained, the log, and the checkpoints.

run.json         configuration, base, data, versions, machine and git commit
run.yaml         the same run for `train --config`, if the command line started it
metrics.jsonl    a line a step and a line an evaluation; the same bytes for the same run, however often interrupted
events.log       what happened when: starts, resumes, halved batches, damaged checkpoints
loss.png         the loss curve, if matplotlib is there
report.html      what was learnt, how good it is and where it fails; report.json the numbers of it
finished.json    the adapter was saved, and nothing here is needed any more
checkpoints/step-00000040/   see `adapterhub_lite.training.run.checkpoint`
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import ConfigError, StorageError
from adapterhub_lite.storage.disk import storage_error, sync_file

RUN, LOG, EVENTS, FINISHED, CHECKPOINTS = "run.json", "metrics.jsonl", "events.log", "finished.json", "checkpoints"
PICTURE = "loss.png"
REPORT = ("report.html", "report.json")
"""Which a comparison leaves alone in the folder, for it is no run to resume."""


def run_folder_of(adapter: Path) -> Path:
    """The run folder of an adapter: `OUT.run` beside `OUT`."""
    return adapter.with_name(f"{adapter.name}.run")


def check_run_folder(path: Path, *, resume: bool) -> None:
    """Refuse to begin anew where that would delete the checkpoints of a run that did not end. Needs no model.

    Raises:
        ConfigError: there are some; or there is nothing to resume, because the run came to its end.
        StorageError: something else than a run folder is in the way.
    """
    if not path.exists():
        return
    others = [file.name for file in path.iterdir() if file.name not in REPORT] if path.is_dir() else [path.name]
    if not (path / RUN).is_file() and others:
        raise StorageError(f"{path} is in the way of the run folder, and is none; move it or choose another --out")
    if resume and (path / FINISHED).is_file():
        raise ConfigError(f"{path} holds a run that is finished, its adapter saved; leave out --resume to train anew")
    checkpoints = checkpoint_paths(path)
    if checkpoints and not resume and not (path / FINISHED).is_file():
        raise ConfigError(
            f"{path} holds a run that was interrupted after step {step_of(checkpoints[-1])}; go on with --resume, "
            "or delete that folder to begin anew"
        )


def checkpoint_paths(path: Path) -> list[Path]:
    """The folders of all checkpoints, oldest first."""
    return sorted((path / CHECKPOINTS).glob("step-*"))


def finish_run(path: Path, facts: Mapping[str, Any], *, keep: bool) -> None:
    """Record that the adapter is saved; the checkpoints have served their purpose and go, unless they were asked for.

    Raises:
        StorageError: it cannot be written; the adapter is saved all the same.
    """
    try:
        mark = path / FINISHED
        mark.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        sync_file(mark)
        if not keep:
            shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
        with (path / EVENTS).open("a", encoding="utf-8") as file:
            file.write(f"{now()} finished\n")
    except OSError as error:
        raise storage_error(error, path) from error


def now() -> str:
    """The time as it is written into events.log."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def step_of(path: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(path.name.rpartition("-")[2])
