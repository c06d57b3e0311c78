"""`adapterhub-lite plugins new`: what it writes passes as it is, and what it refuses leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapterhub_lite import scaffold
from adapterhub_lite.cli import main

LONGEST = "a_name_that_is_as_long_as_any_name_may_b"


@pytest.fixture
def new(tmp_path, monkeypatch, capsys):
    """Call `adapterhub-lite plugins new` in an empty folder; gives exit code and what was said."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["adapterhub-lite", "plugins", "new", *arguments])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        return code, *capsys.readouterr()

    return call


KINDS = {"strategy": "my_gain", "task": "text-grading", "observer": "lowest_loss"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_the_kit_and_the_linter(kind, new, tmp_path):
    name = KINDS[kind]
    plugin = name.replace("-", "_")
    code, out, _ = new(name) if kind == "strategy" else new(name, "--kind", kind)
    assert code == 0
    written = tmp_path / f"adapterhub-lite-{name.replace('_', '-')}"
    files = sorted(str(path.relative_to(written)) for path in written.rglob("*") if path.is_file())
    assert files == [
        "README.md",
        "pyproject.toml",
        f"src/adapterhub_lite_{plugin}/__init__.py",
        *([f"src/adapterhub_lite_{plugin}/{kind}.py"] if kind != "observer" else []),
        f"tests/test_{plugin}.py",
    ]
    assert all(file in out for file in files)
    assert [path.name for path in tmp_path.iterdir()] == [written.name], "no temporary folder stays"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", *sys.path])}
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["pytest", "-p", "no:cacheprovider"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, "."], cwd=written, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "failed" not in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_name_passes_the_linter_too(kind, new, tmp_path):
    assert len(LONGEST) == scaffold.LONGEST
    name = LONGEST.replace("_", "-") if kind == "task" else LONGEST
    code, _, _ = new(name, "--kind", kind, "--out", "elsewhere")
    assert code == 0
    for command in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, "--no-cache", tmp_path / "elsewhere"], check=True)


def test_a_kind_that_is_none_is_refused(new, tmp_path):
    code, _, err = new("gain", "--kind", "tasks")
    assert code == 2
    assert "there is no kind of plug-in 'tasks' (did you mean 'task'?)" in err
    assert not list(tmp_path.iterdir())


def test_words_of_a_task_are_joined_by_hyphens(new):
    code, _, err = new("text_grading", "--kind", "task")
    assert code == 2
    assert "did you mean 'text-grading'?" in err


@pytest.mark.parametrize(
    "name", ["My-Gain", "2nd", "a b", "../up", "a__b", "gain_", "", "x" * 41, "peft:mine", "größe"]
)
def test_bad_names_are_refused(name, new, tmp_path):
    code, _, err = new("--", name)
    assert code == 2
    assert "cannot be the name of a strategy" in err
    assert not list(tmp_path.iterdir())


def test_a_better_name_is_proposed(new):
    assert "did you mean 'my_gain'?" in new("My-Gain")[2]


def test_taken_names_are_refused(new, tmp_path):
    code, _, err = new("lora")
    assert code == 2
    assert "plug-in 'lora' (adapterhub-lite" in err
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_plugin_that_failed_is_taken_too(new, tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "acme-1.2.dist-info").mkdir(parents=True)
    (site / "acme-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.2\n")
    (site / "acme-1.2.dist-info" / "entry_points.txt").write_text("[adapterhub_lite]\nbroken = no_such_module\n")
    monkeypatch.syspath_prepend(site)
    code, _, err = new("broken")
    assert code == 2
    assert "plug-in 'broken' already, of acme 1.2 (failed)" in err


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_is_left_alone(kind, new, tmp_path):
    target = tmp_path / "mine"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("precious")
    else:
        target.symlink_to(tmp_path / "nowhere")
    code, _, err = new("gain", "--out", "mine")
    assert code == 1
    assert "is there already" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert kind != "file" or target.read_text() == "precious"


def test_a_missing_folder_above_is_said(new, tmp_path):
    code, _, err = new("gain", "--out", "no/such/place")
    assert code == 1
    assert "does not exist" in err
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_stays_when_the_disk_is_full(new, tmp_path, monkeypatch):
    write = Path.write_text

    def full(self, *arguments, **options):
        if self.name == "strategy.py":
            raise OSError(28, "No space left on device")
        return write(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    code, _, err = new("gain")
    assert code == 1
    assert "No space left on device" in err
    assert not list(tmp_path.iterdir())
