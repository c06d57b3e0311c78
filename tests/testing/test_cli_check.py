"""`adapterhub-lite plugins check`, run as a user runs it, on plug-ins that behave and on some that do not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
PLUGIN = """
import os, signal, time
from adapterhub_lite.api import Field
from adapterhub_lite.api import StrategyConfig
from adapterhub_lite.api import StrategySpec
from adapterhub_lite.api import Traits
from adapterhub_lite.api import hookimpl

class Config(StrategyConfig):
    size: int = Field(default=1, description="Changes nothing.")

def load():
    print("noise on standard output", flush=True)
    {load}

@hookimpl
def adapterhub_strategies():
    return [StrategySpec(name="strange", summary="From a test.", config=Config, load=load, traits=Traits({traits}))]
"""
# Adapts nothing but images, so that the whole kit on it takes a moment.
WELL = """
    import torch
    class Bias:
        def attach(self, view, config):
            bias = torch.nn.Parameter(torch.zeros(view.map.hidden_size))
            view.after(view.map.layers[-1], lambda hidden: hidden + bias.to(hidden.dtype))
            return {"bias": bias}
    return Bias()
"""


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., None]:
    """Make a distribution `strange-dist` with a plug-in of which `load` does what is given."""

    def install(load: str, traits: str = "", module: str | None = None) -> None:
        info = tmp_path / "strange_dist-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-dist\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[adapterhub_lite]\nodd_plugin = strange_plugin\n")
        body = PLUGIN.replace("{load}", load.strip()).replace("{traits}", traits)
        (tmp_path / "strange_plugin.py").write_text(module if module is not None else body)

    return install


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
        command = [sys.executable, "-m", "adapterhub_lite", "plugins", "check", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)

    return run


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error that is not progress."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_a_good_one(install: Callable[..., None], run: Run) -> None:
    install(WELL, 'identity_at_init=True, modalities=frozenset({"image"})')
    done = run("strange", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)  # whatever the plug-in prints is not among it
    (strategy,) = report["strategies"]
    assert report["ok"] is True
    assert (strategy["strategy"], strategy["plugin"], strategy["dist"]) == ("strange", "odd_plugin", "strange-dist")
    assert strategy["counts"]["passed"] > 10
    assert strategy["counts"]["failed"] == 0
    assert {"check_base_unchanged[vision]"} <= {
        result["id"] for result in strategy["results"] if result["status"] == "passed"
    }


def test_a_bad_one_by_the_name_of_its_plugin(install: Callable[..., None], run: Run) -> None:
    install(WELL.replace("zeros", "randn"), 'identity_at_init=True, modalities=frozenset({"image"})')
    done = run("odd_plugin", "--only", "check_identity_at_init")
    assert done.returncode == 1
    assert re.search(r"check_identity_at_init +│ vision +│ failed", done.stdout), done.stdout
    assert "1 failed" in done.stdout
    done = run(
        "odd_plugin",
        "--only",
        "check_identity_at_init",
        "--expect-failure",
        "check_identity_at_init[vision]=it starts anywhere",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it starts anywhere" in done.stdout


def test_a_hang(install: Callable[..., None], run: Run) -> None:
    install("time.sleep(1000)")
    line = error_line(run("strange", "--timeout", "1.5"))
    assert "strategy 'strange' of plug-in 'odd_plugin' (strange-dist 1.2)" in line
    assert "did not end within 1.5 s" in line


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV in check_no_global_patches[decoder]"),
        ("os._exit(0)", "ended with exit code 0 in check_no_global_patches[decoder]"),
    ],
)
def test_a_crash(install: Callable[..., None], run: Run, load: str, said: str) -> None:
    install(load)
    done = run("strange", "--json")
    line = error_line(done)
    assert "strategy 'strange' of plug-in 'odd_plugin' (strange-dist 1.2)" in line
    assert said in line
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert said in report["error"]


def test_system_exit_is_a_failed_check(install: Callable[..., None], run: Run) -> None:
    install("raise SystemExit(0)", 'modalities=frozenset({"image"})')
    done = run("strange", "--only", "check_names")
    assert done.returncode == 1
    assert "SystemExit" in done.stdout + done.stderr


def test_what_fails_alike_is_said_once_with_the_module_s_path(
    install: Callable[..., None], run: Run, tmp_path: Path
) -> None:
    install("raise SystemExit(0)")
    done = run("strange", "--only", "check_names", "--only", "check_detach_exact")
    assert done.returncode == 1
    assert done.stdout.count("SystemExit") == 1
    for check in ("check_names", "check_detach_exact"):
        (line,) = [line for line in done.stdout.splitlines() if check in line]
        assert "encoder" in line
        assert "decoder, conv1d" in line
    assert "10 failed" in done.stdout
    assert str(tmp_path / "strange_plugin.py") in done.stdout.replace("\n", "")


def test_an_unknown_name(run: Run) -> None:
    line = error_line(run("prefx"))
    assert "there is no plug-in, strategy or task 'prefx' (did you mean 'prefix'?)" in line
    assert "lora" in line


def test_a_plugin_that_failed(install: Callable[..., None], run: Run) -> None:
    install("", module="import does_not_exist")
    line = error_line(run("odd_plugin"))
    assert "plug-in 'odd_plugin' (strange-dist 1.2) is failed at stage 'import'" in line
    assert "does_not_exist" in line


def test_a_plugin_without_strategies(install: Callable[..., None], run: Run) -> None:
    install("", module="import adapterhub_lite.api")
    assert "offers no strategy, task or observer to check" in error_line(run("odd_plugin"))


def test_a_time_limit_that_is_none(run: Run) -> None:
    done = run("lora", "--timeout", "0")
    assert done.returncode == 2
    assert "--timeout 0" in done.stderr


def test_the_parent_imports_no_torch(install: Callable[..., None], tmp_path: Path) -> None:
    install("time.sleep(1000)")
    code = (
        "import sys; sys.argv = ['adapterhub-lite', 'plugins', 'check', 'strange', '--timeout', '0.3']\n"
        "from adapterhub_lite.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip().splitlines()[-1] == "1 False"


def test_a_check_that_does_not_exist(run: Run) -> None:
    done = run("lora", "--only", "check_nothing")
    assert done.returncode == 2
    assert "error: there is no check 'check_nothing'; there are: check_no_global_patches" in done.stderr


TASK = """
from pathlib import Path
from adapterhub_lite.api import DataError, TaskSpec, hookimpl

def read(source, request):
    {read}

@hookimpl
def adapterhub_tasks():
    return [TaskSpec(name="odd-task", summary="Odd.", modality="text", read=read, load="odd:Task", roles=("text",))]
"""


def test_a_task_of_a_plugin(install: Callable[..., None], run: Run) -> None:
    install("", module=TASK.replace("{read}", "return open(source)"))
    done = run("odd-task", "--json")
    assert done.returncode == 1
    (task,) = json.loads(done.stdout)["tasks"]
    assert (task["task"], task["plugin"]) == ("odd-task", "odd_plugin")
    failed = {result["name"]: result["message"] for result in task["results"] if result["status"] == "failed"}
    assert failed.keys() == {"check_task_has_a_problem", "check_task_refuses_what_is_no_data"}
    assert "raised FileNotFoundError" in failed["check_task_refuses_what_is_no_data"]
    assert "adapterhub_tiny_models" in failed["check_task_has_a_problem"]


def test_our_own_task_passes(run: Run) -> None:
    done = run("text-regression", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["tasks"][0]["counts"]["passed"] == 10


OBSERVER = """
import os
from adapterhub_lite.api import hookimpl

@hookimpl
def adapterhub_step_end(run, step, metrics):
    {step}

@hookimpl
def adapterhub_train_end(run, error):
    {end}
"""


@pytest.mark.parametrize(
    ("step", "end", "failed"),
    [
        ("run.log('half', metrics['loss'] / 2)", "pass", set()),
        ("raise ValueError('no disk')", "pass", {"check_observer_sees_a_run"}),
        ("os.environ['ODD'] = '1'", "pass", {"check_observer_changes_nothing"}),
        ("pass", "assert error is None", {"check_observer_sees_a_failure"}),
        (
            "import torch; torch.set_num_threads(torch.get_num_threads() + 1)",
            "pass",
            {"check_observer_changes_nothing"},
        ),
    ],
)
def test_an_observer(install: Callable[..., None], run: Run, step: str, end: str, failed: set[str]) -> None:
    install("", module=OBSERVER.replace("{step}", step).replace("{end}", end))
    done = run("odd_plugin", "--json")
    assert done.returncode == int(bool(failed)), done.stdout + done.stderr
    (observer,) = json.loads(done.stdout)["observers"]
    assert observer["module"].endswith("strange_plugin.py")
    assert {result["name"] for result in observer["results"] if result["status"] == "failed"} == failed
