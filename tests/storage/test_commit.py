"""The commit protocol: crashes, full disks, readers and writers at the same time."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from storage_samples import good_tensors, leftovers, save

from adapterhub_lite.errors import AdapterNotFoundError, StorageError
from adapterhub_lite.storage import commit, store
from adapterhub_lite.storage.commit import check_writable_target, commit_directory
from adapterhub_lite.storage.disk import exchange
from adapterhub_lite.storage.history import KEEP, contents, list_versions
from adapterhub_lite.storage.layout import MANIFEST, TENSORS
from adapterhub_lite.storage.store import open_adapter, read_adapter, read_tensor_bytes
from adapterhub_lite.storage.versions import delete_adapter, rollback

posix = pytest.mark.skipif(os.name == "nt", reason="fork and signals of POSIX")


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Both ways to replace a directory."""
    if request.param == "two renames":
        monkeypatch.setattr(commit, "exchange", lambda one, other: False)
    else:
        for name in ("probe1", "probe2"):
            (tmp_path / name).mkdir()
        available = exchange(tmp_path / "probe1", tmp_path / "probe2")
        for name in ("probe1", "probe2"):
            (tmp_path / name).rmdir()
        if not available:
            pytest.skip("this file system cannot exchange")
    return str(request.param)


def version_at(target: Path) -> int | None:
    """The version that a reader finds, which must be whole; None where there is none."""
    try:
        stored, tensors = open_adapter(target)
    except AdapterNotFoundError:
        return None
    version = stored.config["r"]
    assert stored.manifest.training["seed"] == version
    assert tensors == good_tensors(version)
    return int(version)


def whole_versions(target: Path) -> set[int]:
    """The versions in use or kept, each of which must be whole."""
    versions = set()
    for version in list_versions(target):
        seed = version.manifest.training["seed"]
        assert isinstance(seed, int)
        versions.add(seed)
        if not version.current:
            for _, place, file in contents(target, version):
                assert hashlib.sha256(place.read_bytes()).hexdigest() == file.sha256
    return versions


def in_child(work: Callable[[], None]) -> int:
    """Start `work` in a child process and return its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    return child


def test_replaces_and_leaves_nothing(tmp_path: Path, way: str) -> None:
    target = tmp_path / "adapter"
    for version in (1, 2, 3):
        save(target, version)
        assert version_at(target) == version
        assert leftovers(target) == []


@posix
@pytest.mark.parametrize("kind", ["first save", "replacement", "rollback", "delete"])
def test_death_after_every_system_call(tmp_path: Path, way: str, kind: str) -> None:
    if way == "two renames" and kind != "replacement":
        pytest.skip("nothing is replaced, or as in a replacement")
    first = kind == "first save"
    after = {"rollback": 0, "delete": None}.get(kind, 2)
    died = 0
    seen = set()
    target = tmp_path / "adapter"
    act = {"rollback": lambda: rollback(target), "delete": lambda: delete_adapter(target)}.get(
        kind, lambda: save(target, 2)
    )
    step = 1 if kind in ("first save", "replacement") else 3
    for moment in range(1, 2000, step):
        if not first:
            save(target, 0)
            save(target, 1)

        def doomed(moment: int = moment, target: Path = target) -> None:
            calls = 0

            def count(frame: FrameType, event: str, arg: Any) -> None:
                # Calls into posix and io are the system calls; the exchange goes through ctypes, which shows no call.
                nonlocal calls
                of_os = event == "c_return" and getattr(arg, "__module__", None) in ("posix", "io", "_io", "fcntl")
                of_file = event == "c_return" and isinstance(getattr(arg, "__self__", None), io.IOBase)
                if of_os or of_file or (event == "return" and frame.f_code.co_name == "exchange"):
                    calls += 1
                    if calls == moment:
                        os._exit(9)  # no cleanup, as after kill -9

            sys.setprofile(count)
            act()

        child = in_child(doomed)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9)
        version = version_at(target)
        assert version in (None if first else 1, after), moment
        seen.add(version)
        # Whatever was there before is in use or kept, and whole.
        assert first or 1 in whole_versions(target), moment
        if status == 0:
            assert version == after
            break
        died += 1
        if moment % 2:  # the other half goes on with what the dead left lying about
            save(target, 3)
            assert version_at(target) == 3
            assert leftovers(target) == []
            assert first or whole_versions(target) >= {1, 3}
        for entry in list(tmp_path.iterdir()):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    else:
        pytest.fail("the child never finished")
    assert died > 60 // step
    assert len(seen) == 2


@posix
def test_killed_at_random_moments(tmp_path: Path, way: str) -> None:
    target = tmp_path / "adapter"
    rng = random.Random(5)
    save(target, 0)

    def forever() -> None:
        dice = random.Random(os.getpid())
        for version in range(1, 10_000):
            save(target, version % 200)
            if dice.random() < 0.2:
                rollback(target)
            if dice.random() < 0.1:
                delete_adapter(target)

    missing = 0
    for _ in range(100):  # 200 with both ways
        child = in_child(forever)
        time.sleep(rng.uniform(0.005, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        missing += version_at(target) is None  # deleted, and not saved again yet
        assert whole_versions(target)
        assert len(list_versions(target)) <= KEEP + 2  # one more when killed before the oldest is deleted, and this one
    assert missing < 50
    save(target, 201)
    assert version_at(target) == 201
    assert leftovers(target) == []


@pytest.mark.parametrize("first", [True, False], ids=["first save", "replacement"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failure_at_every_step(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch, first: bool, code: int
) -> None:
    target = tmp_path / "adapter"

    def reset() -> None:
        save(target, 1)
        if first:
            shutil.rmtree(target)

    reset()
    calls = 0
    failing = 0

    def failing_now(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(code, os.strerror(code))
            return real(*args, **options)

        return call

    failures = 0
    for failing in range(1, 200):
        calls = 0
        said = ""
        with monkeypatch.context() as patch:
            for module, name in [
                (os, "fsync"),
                (os, "mkdir"),
                (os, "rename"),
                (os, "link"),
                (io, "open"),
                (commit, "exchange"),
            ]:
                patch.setattr(module, name, failing_now(getattr(module, name)))
            try:
                save(target, 2)
            except StorageError as error:
                said = str(error)
        if calls < failing:
            break
        if not said:  # nothing that matters: the lock library's own, or the old one's removal
            assert version_at(target) == 2
            reset()
            assert leftovers(target) == []
            continue
        assert leftovers(target) == []
        failures += 1
        assert version_at(target) == (None if first else 1)
        assert str(target) in said
        assert ("MB free" in said) == (code == errno.ENOSPC)
    assert failures >= 12
    assert version_at(target) == 2


@posix
def test_limit_on_file_sizes(tmp_path: Path) -> None:
    import resource

    target = tmp_path / "adapter"
    save(target, 1)

    largest = max(path.stat().st_size for path in target.iterdir())

    def limited() -> None:
        # Every write comes to its end after so many bytes, as on a disk that is full or a quota that is used up.
        for limit in range(0, largest, 61):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            with pytest.raises(StorageError, match=rf"{target}: File too large"):
                save(target, 2)
            assert version_at(target) == 1
            assert leftovers(target) == []

    assert os.waitstatus_to_exitcode(os.waitpid(in_child(limited), 0)[1]) == 0
    assert version_at(target) == 1


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), StorageError("ours")])
def test_what_the_writer_raises_comes_through(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "adapter"
    save(target, 1)

    def write(folder: Path) -> None:
        (folder / MANIFEST).write_text("half")
        raise error

    with pytest.raises(type(error)) as caught:
        commit_directory(target, write, last=MANIFEST)
    assert caught.value is error
    assert version_at(target) == 1
    assert leftovers(target) == []


def test_interrupted_between_two_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "adapter"
    save(target, 1)
    monkeypatch.setattr(commit, "exchange", lambda one, other: False)
    real = os.rename

    def rename(one: Path, other: Path) -> None:
        real(one, other)
        if str(other).endswith(".backup"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            save(target, 2)
    assert version_at(target) == 1
    assert leftovers(target) == []


def test_backup_is_put_back_or_retired(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    save(target, 1)
    target.rename(tmp_path / ".adapter.backup")
    assert version_at(target) == 1  # the reader put it back
    target.rename(tmp_path / ".adapter.backup")
    save(target, 2)
    target.rename(tmp_path / ".adapter.backup")
    save(target, 3)
    assert version_at(target) == 3
    assert leftovers(target) == []


def test_last_is_flushed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    def write(folder: Path) -> None:
        (folder / "inner").mkdir()
        for name in ("z", "a", "inner/b", "inner/a"):
            (folder / name).write_text(name)

    target = tmp_path / "new" / "target"
    commit_directory(target, write, last="a")
    inner = target / "inner"
    inodes = [p.stat().st_ino for p in (target / "z", inner / "a", inner / "b", inner, target / "a", target)]
    assert set(inodes) <= set(flushed)
    assert flushed[-3:] == [(target / "a").stat().st_ino, target.stat().st_ino, target.parent.stat().st_ino]
    with pytest.raises(StorageError, match="left out manifest"):
        commit_directory(tmp_path / "other", write, last="manifest")


@posix
def test_old_one_stays_readable_for_who_has_it_open(tmp_path: Path, way: str) -> None:
    target = tmp_path / "adapter"
    save(target, 1)
    with (target / TENSORS).open("rb") as file:
        save(target, 2)
        assert file.read() == good_tensors(1)


@posix
def test_readers_and_two_writers(tmp_path: Path, way: str) -> None:
    target = tmp_path / "adapter"
    save(target, 0)

    def writer(start: int) -> None:
        for version in range(start, start + 40):
            save(target, version)

    children = [in_child(lambda start=start: writer(start)) for start in (1, 101)]
    seen = []
    statuses: list[int] = []
    while children:
        seen.append(version_at(target))
        for child in list(children):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                statuses.append(os.waitstatus_to_exitcode(status))
                children.remove(child)
    assert statuses == [0, 0]
    assert None not in seen
    assert len(set(seen)) > 5
    assert version_at(target) in (40, 140)
    assert leftovers(target) == []


def test_writers_in_threads_take_turns(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    inside = 0
    most = 0

    def write(folder: Path) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        (folder / "x").write_text("x")
        inside -= 1

    threads = [threading.Thread(target=commit_directory, args=(target, write)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert leftovers(target) == []


def test_lock_held_for_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "LOCK_TIMEOUT", 0.1)
    target = tmp_path / "adapter"

    def write(folder: Path) -> None:
        with pytest.raises(StorageError, match=r"held .*\.adapter\.locks/adapter\.lock"):
            save(target, 1)
        (folder / "x").write_text("x")

    commit_directory(target, write)


def test_sweep_spares_what_is_not_its_own(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    spared = [".adapter.staging-notes", ".adapter2.staging-0123456789abcdef", "adapter.staging-0123456789abcdef"]
    for name in (*spared, ".adapter.staging-0123456789abcdef"):
        (tmp_path / name).mkdir()
    save(target)
    assert leftovers(target) == sorted(spared)


def refusals(tmp_path: Path) -> list[tuple[Path, str]]:
    """Targets that cannot be saved to, with what is said about each."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "thesis.tex").write_text("x")
    (tmp_path / "shared").mkdir()
    save(tmp_path / "shared")
    (tmp_path / "shared" / "thesis.tex").write_text("x")
    return [
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below", "File exists|Not a directory|is a file"),
        (tmp_path / "stranger", "not ours to replace"),
        (tmp_path / "shared", "thesis.tex"),
        (tmp_path / ("x" * 250), "File name too long"),
        (tmp_path / "nul\0", "NUL"),
        (Path("/proc/adapter"), "cannot save|No such file|Permission"),
        (Path("/proc"), "mount point"),
        (Path("/"), "root"),
    ]


@posix
def test_unwritable_targets_are_refused_early_and_late(tmp_path: Path) -> None:
    cases = refusals(tmp_path)
    for target, message in cases:
        before = sorted(tmp_path.rglob("*"))
        if str(target).startswith("/proc") and not Path("/proc/self").exists():
            continue
        with pytest.raises(StorageError, match=message):
            check_writable_target(target)
        assert sorted(tmp_path.rglob("*")) == before
        with pytest.raises(StorageError, match=message):
            save(target)
    assert (tmp_path / "stranger" / "thesis.tex").exists()
    assert (tmp_path / "shared" / "thesis.tex").exists()
    assert read_adapter(tmp_path / "shared")


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="permission"):
        check_writable_target(tmp_path / "closed" / "adapter")
    with pytest.raises(StorageError, match="ermission"):
        save(tmp_path / "closed" / "adapter")


def test_no_room_is_noticed_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="MB free"):
        check_writable_target(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_writable_targets_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "adapter", 1)
    (tmp_path / "adapter" / ".DS_Store").write_text("x")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / MANIFEST).write_text("{")
    before = sorted(tmp_path.rglob("*"))
    for name in ("empty", "adapter", "damaged", "new", "several/new/parents"):
        check_writable_target(tmp_path / name)
        assert sorted(tmp_path.rglob("*")) == before
    for name in ("empty", "adapter", "damaged", "new", "several/new/parents"):
        save(tmp_path / name, 2)
        assert version_at(tmp_path / name) == 2


def test_tensor_bytes_are_hashed_again(tmp_path: Path) -> None:
    save(tmp_path / "adapter", 1)
    stored = read_adapter(tmp_path / "adapter")
    data = bytearray(good_tensors(1))
    data[-1] ^= 1
    stored.tensors.write_bytes(data)
    with pytest.raises(store.AdapterCorruptError, match="changed since"):
        read_tensor_bytes(stored)


COUNT = """
import sys
from pathlib import Path
from adapterhub_lite.storage.commit import acquire, lock_beside, release
counter = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    lock = acquire(lock_beside(counter), 60)
    counter.write_text(str(int(counter.read_text()) + 1))
    release(lock)
"""


def test_a_lock_that_is_deleted_when_it_is_released_still_keeps_others_out(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(counter), "100"]
    for process in [subprocess.Popen(command) for _ in range(6)]:
        assert process.wait(timeout=120) == 0
    assert counter.read_text() == "600"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_locks_of_an_adapter_and_its_run_are_in_one_folder_and_gone_when_none_is_held(tmp_path: Path) -> None:
    run = commit.acquire(commit.lock_beside(tmp_path / "a.run", ".busy"), 0)
    save(tmp_path / "a", 1)
    save(tmp_path / "a.run", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.locks", "a", "a.run"]
    commit.release(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.run"]
