"""A disk that is full in the middle of a run: nothing half-written, and the run goes on from where it was."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import StorageError, TrainingError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more than this to a file fails, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def train(folder: Path | None, resume: bool = False, **options: Any) -> Any:
    config = TrainConfig(**{"steps": 6, "batch_size": 4, "checkpoint_every": 1, **options})
    return Engine(progress=Silent()).train(
        tiny_base("encoder"),
        texts(),
        strategy="lora",
        settings={"rank": 8},
        config=config,
        run_folder=folder,
        resume=resume,
    )


@pytest.mark.parametrize("size", [0, 400, 1500, 5000, 60_000])
def test_a_run_that_could_not_write_is_resumed(size: int, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with files_of_at_most(size), pytest.raises(StorageError, match=r"cannot save to .*ulimit -f.*untouched"):
        train(tmp_path / "full")
    assert not list(tmp_path.rglob("*.safetensors.tmp*")) + list((tmp_path / "full").rglob(".step*.safetensors"))
    resumed = train(tmp_path / "full", resume=True)
    for name, tensor in whole.attachment.tensors.items():
        assert torch.equal(tensor, resumed.attachment.tensors[name])


def test_a_full_disk_after_some_steps_leaves_the_checkpoints_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapterhub_lite.training.run import checkpoint

    whole, write, calls = train(tmp_path / "whole"), checkpoint.safetensors.torch.save_file, []

    def limited(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        with files_of_at_most(2000 if len(calls) > 3 else resource.RLIM_INFINITY):
            write(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.safetensors.torch, "save_file", limited)
        with pytest.raises(StorageError, match=r"cannot save to .*step-00000004"):
            train(tmp_path / "full")
    kept = {path.name for path in (tmp_path / "full" / "checkpoints").iterdir() if path.is_dir()}
    assert kept == {"step-00000002", "step-00000003"}
    resumed = train(tmp_path / "full", resume=True)
    for name, tensor in whole.attachment.tensors.items():
        assert torch.equal(tensor, resumed.attachment.tensors[name])


@pytest.mark.parametrize("options", [{"weight_decay": 1e9}, {"learning_rate": 1e20}])
def test_a_run_that_ends_in_no_numbers_is_not_saved(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite.*(lower|--lr)"):
        train(None, checkpoint_every=None, steps=30, **options).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_only_reads_the_repository_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterhub_lite.training.run.identity import git_commit

    def git(*arguments: str) -> str:
        said = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(said, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    assert git_commit() is None, "there is no commit yet"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    (tmp_path / "untracked").write_text("2")
    os.utime(tmp_path / "a", (1, 1))  # the index is out of date
    index = (tmp_path / ".git" / "index").stat().st_mtime_ns
    assert git_commit() == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    with files_of_at_most(0):
        assert git_commit() == git("rev-parse", "HEAD") + "+changes"
    assert (tmp_path / ".git" / "index").stat().st_mtime_ns == index
    assert not (tmp_path / ".git" / "index.lock").exists()
