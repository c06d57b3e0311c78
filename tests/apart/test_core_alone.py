"""The core without `plugins/`: all of it can be imported, and it says what to install."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

ALL_MODULES = """
import importlib, pkgutil, sys
import adapterhub_lite
names = [module.name for module in pkgutil.walk_packages(adapterhub_lite.__path__, "adapterhub_lite.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
ours = sorted(name for name in sys.modules if name.startswith("adapterhub_") and not name.startswith("adapterhub_lite"))
print(len(names), ours)
"""
BASES = """
import adapterhub_lite as ah
print(ah.load_base("bases/encoder", device="cpu").map.modality)
for action in (lambda: ah.load_base("bases/series", device="cpu"), lambda: ah.load_adapter("adapters/series-regression-full")):
    try:
        action()
    except ah.AdapterHubError as error:
        print(f"{type(error).__name__}: {error}")
"""
MISSING = "the plug-ins that come with adapterhub-lite are not there; pip install adapterhub-lite"


@pytest.fixture(scope="module")
def core(environment: Callable[[Mapping[str, str]], Any]) -> Any:
    return environment({})


def test_every_module_can_be_imported(core: Any) -> None:
    done = core.run("-c", ALL_MODULES)
    assert done.returncode == 0, done.stderr
    count, _, ours = done.stdout.partition(" ")
    assert int(count) > 150
    assert ours.strip() == "[]"


def test_no_task_and_no_strategy_is_there(core: Any) -> None:
    done = core.run("-m", "adapterhub_lite", "tasks", "--json")
    assert json.loads(done.stdout) == {"tasks": []}
    assert "pip install adapterhub-lite" in core.run("-m", "adapterhub_lite", "tasks").stdout
    assert "pip install adapterhub-lite" in core.run("-m", "adapterhub_lite", "plugins", "list").stdout
    assert "pip install adapterhub-lite" in core.run("-m", "adapterhub_lite", "strategies").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (
            "train",
            "--base",
            "bases/series",
            "--task",
            "series-classification",
            "--data",
            "data/waves.npz",
            "--out",
            "out",
        ),
        ("evaluate", "adapters/series-classification-lora", "--data", "data/waves.npz"),
    ],
    ids=["train", "evaluate"],
)
def test_a_task_that_is_not_there(core: Any, arguments: tuple[str, ...]) -> None:
    done = core.run("-m", "adapterhub_lite", *arguments)
    assert done.returncode != 0
    assert "no task 'series-classification'" in done.stderr or "no strategy 'lora'" in done.stderr
    assert "pip install adapterhub-lite" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_base_that_a_plugin_describes(core: Any) -> None:
    done = core.run("-c", BASES)
    text, base, adapter = done.stdout.splitlines()
    assert text == "text"
    assert base.startswith("NotSupportedError: PatchTSTModel takes 'past_values', not one of input_ids, pixel_values; ")
    assert "the built-in ones come with `pip install adapterhub-lite`" in base
    assert adapter.startswith("StrategyNotFoundError: ")
    assert "pip install adapterhub-lite" in adapter


def test_disabled_it_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERHUB_DISABLE", "series")
    done = run("train", "--base", "x", "--task", "series-classification", "--data", "x.ts", "--out", "out")
    assert "there is no task 'series-classification'" in done.err
    assert "plug-ins that are there but disabled: series" in done.err
    assert MISSING not in done.err
