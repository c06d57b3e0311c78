"""Names of folders and labels are shown as they are: as no markup, and on terminals that do not know their letters."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterhub_lite.cli import app
from adapterhub_lite.cli.train import _show
from adapterhub_lite.storage import read_adapter

ODD = ["[/bold]", "[red]a", "a:smile:b", "[link=x]y"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("verb", ["inspect", "verify", "history"])
def test_no_name_is_markup(verb: str, name: str, trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / name))
    options = ["--files-only"] if verb == "verify" else []
    done = CliRunner().invoke(app, [verb, str(folder), *options], env={"COLUMNS": "400"})
    assert done.exit_code == 0, done.exception
    assert verb == "history" or name in "".join(done.output.split())  # the title of a narrow table goes over lines


def test_history_says_when_in_eighty_columns(trained: Path) -> None:
    created = read_adapter(trained).manifest.created
    shown = CliRunner().invoke(app, ["history", str(trained)], env={"COLUMNS": "80"}).output
    assert created[:16].replace("T", " ") in shown


@pytest.mark.parametrize("name", ODD)
def test_a_trained_adapter_is_named_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "adapter": f"o/{name}",
        "size_bytes": 1,
        "trainable": 1,
        "base_parameters": 2,
        "seconds": 1,
        "metrics": {},
    }
    _show(report)
    shown = capsys.readouterr().out.replace("\n", " ")
    assert shown.startswith(f"o/{name}: ")
    assert f"predict o/{name} " in shown


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_labels_on_a_terminal_of_ascii(options: list[str], trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "f\u00fcr"))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "COLUMNS": "400"}
    command = [sys.executable, "-m", "adapterhub_lite", "inspect", str(folder), *options]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["path"] == str(folder) if options else "f\\xfcr" in done.stdout
    command[4] = str(folder) + "x"
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "f\\xfcrx" in done.stderr
    assert "Traceback" not in done.stderr


def test_versions_for_a_report_of_a_fault(run):
    said = run("--version").out
    assert said.startswith(
        f"adapterhub-lite {metadata.version('adapterhub-lite')}, torch {metadata.version('torch')}, "
    )
    assert f"Python {platform.python_version()}" in said
