"""Every fault a plug-in can have, in every hook: the others keep working, and the plug-in and its distribution are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from torch import nn

from adapterhub_lite.api import ModelMap, Run
from adapterhub_lite.errors import PluginError, StrategyNotFoundError
from adapterhub_lite.plugins import guard
from adapterhub_lite.plugins.manager import OBSERVERS, Plugins
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.shelf import strategy_shelf

HEAD = """
import sys, time
from adapterhub_lite.api import ModelMap
from adapterhub_lite.api import StrategyConfig
from adapterhub_lite.api import StrategySpec
from adapterhub_lite.api import hookimpl
class Config(StrategyConfig):
    pass
def spec(name, **more):
    return StrategySpec(name=name, summary="s", config=Config, load=print, **more)
"""
ARGUMENTS = {
    "adapterhub_strategies": "",
    "adapterhub_load_base": "ref, quantization",
    "adapterhub_describe_model": "model",
    "adapterhub_train_start": "run",
    "adapterhub_step_end": "run, step, metrics",
    "adapterhub_train_end": "run, error",
    "adapterhub_adapter_saved": "path, manifest",
}
HOOKS = list(ARGUMENTS)
FIRST_RESULT = ("adapterhub_load_base", "adapterhub_describe_model")
# What the body of the hook is, for the faults that lie in it.
BODIES = {
    "raises": "raise RuntimeError('boom')",
    "SystemExit": "sys.exit(3)",
    "hangs": "time.sleep(0.4)",
    "wrong return type": "return 'nonsense'",
}
MUTATIONS = {
    "adapterhub_strategies": "specs = [spec('bad')]; import threading; threading.Timer(0, specs.clear).start(); return specs",
    "adapterhub_load_base": "ref += 'x'; quantization = None",  # text cannot be changed
    "adapterhub_describe_model": "model.add_module('extra', __import__('torch').nn.Linear(2, 2))",
    "adapterhub_train_start": "run.config['lr'] = 9; run.strategy = 'other'; run.stop = None",
    "adapterhub_step_end": "run.total_steps = 0; metrics.clear()",
    "adapterhub_train_end": "error.args = ('lost',); error.cause = 1; raise error",
    "adapterhub_adapter_saved": "manifest['strategy']['name'] = 'other'; manifest.clear()",
}
LOADING = ("broken import", "broken dependency", "wrong signature", "misspelt hook", "unknown api version")
FAULTS = [*BODIES, "taken name", *LOADING, "mutates its arguments"]

GOOD = (
    HEAD
    + """
import copy
SEEN = []
@hookimpl
def adapterhub_strategies():
    return [spec("good")]
@hookimpl
def adapterhub_load_base(ref, quantization):
    from torch import nn
    return nn.Linear(2, 2) if ref == "good:base" else None
@hookimpl
def adapterhub_describe_model(model):
    return ModelMap("text", 2, (), (), (), None, "mean", False)
@hookimpl
def adapterhub_train_start(run):
    SEEN.append(("train_start", run.strategy, run.total_steps, dict(run.config)))
@hookimpl
def adapterhub_step_end(run, step, metrics):
    SEEN.append(("step_end", run.strategy, run.total_steps, dict(run.config), step, dict(metrics)))
@hookimpl
def adapterhub_train_end(run, error):
    SEEN.append(("train_end", repr(error)))
@hookimpl
def adapterhub_adapter_saved(path, manifest):
    SEEN.append(("adapter_saved", str(path), copy.deepcopy(manifest)))
"""
)


def bad_source(fault: str, hook: str) -> str:
    """The source of a plug-in with one fault in one hook."""
    arguments, body = ARGUMENTS[hook], BODIES.get(fault, "return None")
    name, before, after = hook, "", ""
    if fault == "broken import":
        before = "from adapterhub_lite.api import no_such_thing\n"
    elif fault == "broken dependency":
        before = "import a_library_that_is_not_installed\n"
    elif fault == "wrong signature":
        arguments = f"{arguments}, nonsense".removeprefix(", ")
    elif fault == "misspelt hook":
        name = hook[:-1]
    elif fault == "taken name":
        after = "@hookimpl\ndef adapterhub_strategies():\n    return [spec('good')]\n"
    elif fault == "unknown api version":
        after = "@hookimpl\ndef adapterhub_strategies():\n    return [spec('bad', api=99)]\n"
    elif fault == "mutates its arguments":
        body = MUTATIONS[hook]
    if hook == "adapterhub_strategies":
        if fault in ("taken name", "unknown api version"):
            return HEAD + after
        if fault == "hangs":
            body += "; return [spec('bad')]"
    return f"{HEAD}{before}@hookimpl\ndef {name}({arguments}):\n    {body}\n{after}"


def install(folder: Path, dist: str, entry: str, module: str, source: str) -> None:
    """Put a distribution with one plug-in on a path, as an installed wheel looks."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{dist.replace('-', '_')}-1.2.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[adapterhub_lite]\n{entry} = {module}\n")


@dataclass
class Seen:
    """What came of using every hook of the installed plug-ins once."""

    plugins: Plugins
    said: list[str] = field(default_factory=list)
    """Errors, warnings and log lines."""
    base: nn.Module | None = None
    map: ModelMap | None = None
    stopped: list[str] = field(default_factory=list)


def use_every_hook(caplog: pytest.LogCaptureFixture) -> Seen:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = Seen(Plugins())
        for hook, arguments, wanted in (
            ("adapterhub_load_base", {"ref": "good:base", "quantization": "none"}, (nn.Module, "a torch module")),
            ("adapterhub_describe_model", {"model": nn.Linear(2, 2)}, (ModelMap, "a ModelMap")),
        ):
            try:
                answer = seen.plugins.first_result(hook, arguments, *wanted)
            except PluginError as error:
                seen.said.append(str(error))
            else:
                setattr(seen, "base" if hook == "adapterhub_load_base" else "map", answer)
        run = Run("good", "t", "b", 2, {"lr": 1, "deep": {"a": 1}}, stop=seen.stopped.append)
        failure = ValueError("the real reason")
        observers = Observers(seen.plugins)
        observers.notify("adapterhub_train_start", {"run": run})
        for step in (1, 2):
            observers.notify("adapterhub_step_end", {"run": run, "step": step, "metrics": {"loss": 1.0}})
        observers.notify("adapterhub_train_end", {"run": run, "error": failure})
        saved = {"path": Path("p"), "manifest": {"strategy": {"name": "good"}}}
        observers.notify("adapterhub_adapter_saved", saved)
    assert run == Run("good", "t", "b", 2, {"lr": 1, "deep": {"a": 1}}, stop=run.stop)
    assert (failure.args, vars(failure), failure.__traceback__) == (("the real reason",), {}, None)
    assert saved["manifest"] == {"strategy": {"name": "good"}}
    seen.said += [str(warning.message) for warning in caught]
    seen.said += [record.getMessage() for record in caplog.records if record.name == "adapterhub_lite"]
    seen.said += [f"plug-in '{r.name}' ({r.dist}): {r.error}" for r in seen.plugins.records if r.state == "failed"]
    return seen


@pytest.mark.parametrize("first", ["good", "bad"])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("fault", FAULTS)
def test_matrix(fault, hook, first, tmp_path, monkeypatch, caplog):
    monkeypatch.syspath_prepend(tmp_path)
    if fault == "hangs":
        monkeypatch.setenv("ADAPTERHUB_DISABLE", "peft")  # slower to load than the patience of this test
        monkeypatch.setattr(guard, "PATIENCE", 0.15)
    unique = f"{fault}_{hook}_{first}".replace(" ", "_")
    # Plug-ins are loaded in the order of their names, and called in the opposite order.
    good = "z_good" if first == "good" else "a_good"
    install(tmp_path, "bad-adapters", "bad", f"bad_{unique}", bad_source(fault, hook))
    install(tmp_path, "good-adapters", good, f"good_{unique}", GOOD)
    seen = use_every_hook(caplog)
    if fault == "hangs":  # on a machine that does other things as well, others may be as slow
        seen.said = [line for line in seen.said if "bad-adapters" in line]
    records = {record.name: record for record in seen.plugins.records}

    # The others keep working.
    assert records[good].state == "loaded"
    assert {"lora", "prefix", "linear_probe", "full"} <= set(strategy_shelf(seen.plugins).names())
    assert strategy_shelf(seen.plugins).resolve("good-adapters:good").spec.name == "good"
    config = {"lr": 1, "deep": {"a": 1}}
    seen_by_good = sys.modules[f"good_{unique}"].SEEN
    assert seen_by_good == [
        ("train_start", "good", 2, config),
        ("step_end", "good", 2, config, 1, {"loss": 1.0}),
        ("step_end", "good", 2, config, 2, {"loss": 1.0}),
        ("train_end", "ValueError('the real reason')"),
        ("adapter_saved", "p", {"strategy": {"name": "good"}}),
    ]

    # It is loaded unless the fault can be seen then.
    fails = fault in LOADING or (
        hook == "adapterhub_strategies" and fault in ("raises", "SystemExit", "wrong return type")
    )
    assert records["bad"].state == ("failed" if fails else "loaded")

    # What is wrong is said, once, with the plug-in and its distribution.
    harmless = (
        (fault == "wrong return type" and hook in OBSERVERS)  # what an observer returns is not looked at
        # What can be changed is a copy; raising the error anew is the one thing here that shows.
        or (fault == "mutates its arguments" and hook not in ("adapterhub_describe_model", "adapterhub_train_end"))
    )
    not_asked = hook in FIRST_RESULT and first == "good" and not fails
    if fault == "taken name":
        assert not seen.said
        with pytest.raises(StrategyNotFoundError, match="bad-adapters:good, good-adapters:good"):
            strategy_shelf(seen.plugins).resolve("good")
    elif harmless or not_asked:
        assert not seen.said
    else:
        # One that hangs is named at each call; the import of it may be as slow.
        if fault == "hangs":
            seen.said = [line for line in seen.said if "to import" not in line]
        assert len(seen.said) == (2 if (fault, hook) == ("hangs", "adapterhub_step_end") else 1), seen.said
        assert "bad" in seen.said[0].split("bad-adapters")[0]
        assert "bad-adapters" in seen.said[0]

    # Bases are loaded and models described, unless the bad plug-in was asked first and gave no usable answer.
    spoilt = hook if first == "bad" and hook in FIRST_RESULT and seen.said and not fails and fault != "hangs" else None
    assert isinstance(seen.base, nn.Linear) == (spoilt != "adapterhub_load_base")
    assert isinstance(seen.map, ModelMap) == (spoilt != "adapterhub_describe_model")


def test_an_observer_cannot_reach_another_through_the_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    body = "    run.mine = getattr(run, 'mine', 0) + 1; run.config['n'] = run.mine; run.stop(run.mine)"
    arguments = ("adapterhub_train_start(run)", "adapterhub_step_end(run)")
    source = HEAD + "\n".join(f"@hookimpl\ndef {hook}:\n{body}" for hook in arguments)
    for name in ("one", "two"):
        install(tmp_path, f"{name}-adapters", name, f"reach_{name}", source)
    stopped: list[str] = []
    run = Run("s", "t", "b", 2, {}, stop=stopped.append)
    observers = Observers(Plugins())
    observers.notify("adapterhub_train_start", {"run": run})
    observers.notify("adapterhub_step_end", {"run": run, "step": 1, "metrics": {}})
    assert stopped == ["1", "1", "2", "2"], "a run of its own for each, kept from hook to hook; reasons are text"
    assert run.config == {}


def test_the_random_state_is_put_back(tmp_path, monkeypatch):
    import random

    import numpy
    import torch

    monkeypatch.syspath_prepend(tmp_path)
    source = HEAD + (
        "@hookimpl\ndef adapterhub_train_start():\n    import random, numpy, torch\n"
        "    random.seed(9); numpy.random.seed(9); torch.manual_seed(9); torch.set_grad_enabled(False)\n"
    )
    install(tmp_path, "dice-adapters", "dice", "dice_plugin", source)

    def draws() -> tuple[float, float, float]:
        return random.random(), float(numpy.random.rand()), float(torch.rand(1))

    observers = Observers(Plugins())
    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    expected = draws()
    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    with pytest.warns(RuntimeWarning, match="in adapterhub_train_start changed torch's gradient mode; it was put back"):
        observers.notify("adapterhub_train_start", {"run": Run("s", "t", "b", 2, {}, stop=print)})
    assert draws() == expected
    assert torch.is_grad_enabled()


def test_an_interrupt_names_the_plugin_that_was_waited_for(tmp_path, monkeypatch, capsys):
    from adapterhub_lite.cli import main

    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "slow-adapters", "slow", "slow_interrupted", "raise KeyboardInterrupt")
    monkeypatch.setattr(sys, "argv", ["adapterhub-lite", "plugins", "list"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    said = capsys.readouterr().err
    assert "plug-in 'slow' (slow-adapters 1.2)" in said
    assert "ADAPTERHUB_DISABLE=slow" in said


def test_timeout_finds_the_plugin_that_hangs_and_the_one_that_ends_the_process(tmp_path):
    install(tmp_path, "slow-adapters", "slow", "slow_import", "while True: pass")
    install(tmp_path, "gone-adapters", "gone", "gone_import", "import os; os._exit(7)")
    install(tmp_path, "loud-adapters", "loud", "loud_import", "print('{hello')\n" + HEAD)
    listed = _cli(tmp_path, "plugins", "list", "--json", "--timeout", "3")
    records = {r["name"]: r for r in json.loads(listed.stdout)["plugins"]}
    assert "not ready within 3 s" in records["slow"]["error"]
    assert records["slow"]["dist"] == "slow-adapters"
    assert "ADAPTERHUB_DISABLE=slow" in records["slow"]["error"]
    assert "exit status 7" in records["gone"]["error"]
    assert records["loud"]["state"] == records["lora"]["state"] == "loaded"
    left_out = _cli(tmp_path, "plugins", "list", "--json", ADAPTERHUB_DISABLE="slow,gone-adapters")
    states = {r["name"]: r["state"] for r in json.loads(left_out.stdout)["plugins"]}
    assert (states["slow"], states["gone"], states["loud"]) == ("disabled", "disabled", "loaded")


def test_no_plugins_and_strict(tmp_path):
    install(tmp_path, "broken-adapters", "broken", "broken_strict", "raise RuntimeError('no')")
    install(tmp_path, "good-adapters", "good", "good_strict", GOOD)
    plain = _cli(tmp_path, "strategies", "--json")
    assert "good" in {s["name"] for s in json.loads(plain.stdout)["strategies"]}
    ours = _cli(tmp_path, "--no-plugins", "strategies", "--json")
    names = {s["name"] for s in json.loads(ours.stdout)["strategies"]}
    assert "lora" in names
    assert "good" not in names
    for arguments, environment in ((["--strict"], {}), ([], {"ADAPTERHUB_STRICT": "1"})):
        failed = _cli(tmp_path, *arguments, "strategies", code=1, **environment)
        assert "plug-in 'broken' (broken-adapters 1.2) failed" in failed.stderr
        assert "Traceback" not in failed.stderr
    listed = _cli(tmp_path, "plugins", "list", "--strict", "--json", code=1)
    assert json.loads(listed.stdout)["plugins"], "the table is shown before the error"
    _cli(tmp_path, "--strict", "--no-plugins", "plugins", "list")


def test_a_name_in_the_lists_that_no_plugin_has_is_said(monkeypatch):
    monkeypatch.setenv("ADAPTERHUB_DISABLE", "lroa")
    assert Plugins().notes == ["ADAPTERHUB_DISABLE names 'lroa', which is not installed"]


def test_unreadable_metadata_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "torn-adapters", "torn", "torn_metadata", GOOD)
    (tmp_path / "torn_adapters-1.2.dist-info" / "entry_points.txt").write_bytes(b"[adapterhub_lite]\n\xff\xfe = x\n")
    install(tmp_path, "odd-adapters", "a,b", "odd_metadata", GOOD)
    records = {r.dist: r for r in Plugins().records}
    assert (records["torn-adapters"].state, records["torn-adapters"].stage) == ("failed", "find")
    assert (records["odd-adapters"].state, records["odd-adapters"].stage) == ("failed", "find")
    assert records["adapterhub-lite"].state == "loaded"


def test_a_plugin_registered_twice_does_not_take_the_first_one_down():
    import types

    from adapterhub_lite.api import hookimpl

    def adapterhub_train_start(run):
        pass

    plugins = Plugins(enabled=False)
    module = types.ModuleType("mine")
    module.adapterhub_train_start = hookimpl(adapterhub_train_start)
    plugins.register(module)
    with pytest.raises(PluginError, match="there already"):
        plugins.register(module)
    assert len(plugins.implementations("adapterhub_train_start")) == 1


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_hooks_that_would_not_run_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    body = "pass" if kind == "async def" else "yield"
    module = f"lazy_{kind.replace(' ', '_')}"
    source = f"{HEAD}@hookimpl\n{kind} adapterhub_train_start(run):\n    {body}\n"
    install(tmp_path, "lazy-adapters", "lazy", module, source)
    record = next(r for r in Plugins().records if r.name == "lazy")
    assert (record.state, record.stage) == ("failed", "hooks")


def test_listing_twenty_plugins_imports_little(tmp_path):
    for i in range(20):
        install(tmp_path, f"acme-{i}", f"plug{i}", f"plug_{i}", GOOD.replace('"good"', f'"plug{i}"'))
    listed = _cli(tmp_path, "plugins", "list", "--json", PYTHONPROFILEIMPORTTIME="1")
    assert len(json.loads(listed.stdout)["plugins"]) >= 24
    imported = [
        line.rpartition("|")[2].strip() for line in listed.stderr.splitlines() if line.startswith("import time:")
    ]
    assert not {"torch", "transformers", "peft", "numpy", "pyarrow", "pandas"} & set(imported)
    # What the command costs is what it imports; counted, because a time depends on what else the machine does.
    assert 200 < len(imported) < 900


def _cli(folder: Path, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "adapterhub_lite", *arguments],
        env={**os.environ, "PYTHONPATH": str(folder), **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done
