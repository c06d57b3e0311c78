"""One bad plug-in stops none of the others, and is named with its distribution and the stage at which it failed."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from adapterhub_lite.errors import StrategyNotFoundError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.shelf import strategy_shelf

GOOD = """
from adapterhub_lite.api import StrategyConfig
from adapterhub_lite.api import StrategySpec
from adapterhub_lite.api import hookimpl
class Config(StrategyConfig):
    pass
@hookimpl
def adapterhub_strategies():
    return [StrategySpec(name="{name}", summary="s", config=Config, load=lambda: None)]
"""
HEAD = "from adapterhub_lite.api import StrategyConfig, StrategySpec, hookimpl\n"
BAD = {
    "raises on import": ("raise RuntimeError('boom')", "import", "RuntimeError: boom"),
    "exits on import": ("raise SystemExit(3)", "import", "SystemExit: 3"),
    "broken syntax": ("def (", "import", "SyntaxError"),
    "missing dependency": ("import no_such_library", "import", "no_such_library"),
    "hook raises": (HEAD + "@hookimpl\ndef adapterhub_strategies():\n    raise ValueError('hm')", "strategies", "ValueError: hm"),
    "hook exits": (HEAD + "@hookimpl\ndef adapterhub_strategies():\n    raise SystemExit", "strategies", "SystemExit"),
    "returns None": (HEAD + "@hookimpl\ndef adapterhub_strategies():\n    return None", "strategies", "must return a list"),
    "returns strings": (HEAD + "@hookimpl\ndef adapterhub_strategies():\n    return ['x']", "strategies", "not a StrategySpec"),
    "late generator": (HEAD + "@hookimpl\ndef adapterhub_strategies():\n    yield 1 / 0", "strategies", "ZeroDivisionError"),
    "misspelt hook": (HEAD + "@hookimpl\ndef adapterhub_stratgies():\n    return []", "hooks", "no hook 'adapterhub_stratgies'"),
    "unmarked hook": ("def adapterhub_strategies():\n    return []", "hooks", "not marked with @hookimpl"),
    "wrong signature": (HEAD + "@hookimpl\ndef adapterhub_step_end(run, nonsense):\n    pass", "hooks", "nonsense"),
    "wrapper": (
        "import pluggy\n@pluggy.HookimplMarker('adapterhub_lite')(wrapper=True)\n"
        "def adapterhub_strategies():\n    return (yield)", "hooks", "may not be a wrapper",
    ),
    "other api": (
        HEAD + "class C(StrategyConfig):\n    pass\n@hookimpl\ndef adapterhub_strategies():\n"
        "    return [StrategySpec(name='x', summary='', config=C, load=print, api=99)]", "strategies", "api 99",
    ),
    "illegal name": (
        HEAD + "class C(StrategyConfig):\n    pass\n@hookimpl\ndef adapterhub_strategies():\n"
        "    return [StrategySpec(name='Bad Name', summary='', config=C, load=print)]", "strategies", "Bad Name",
    ),
    "config of no kind": (
        HEAD + "@hookimpl\ndef adapterhub_strategies():\n"
        "    return [StrategySpec(name='x', summary='', config=dict, load=print)]", "strategies", "StrategyConfig",
    ),
}  # fmt: skip


def install(folder: Path, dist: str, entry: str, source: str, module: str | None = None) -> None:
    """Put a distribution with one plug-in on a path, as an installed wheel looks."""
    module = module or f"{dist.replace('-', '_')}_{entry}"
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{dist.replace('-', '_')}-1.2.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
    entries = info / "entry_points.txt"
    before = entries.read_text() if entries.exists() else "[adapterhub_lite]\n"
    entries.write_text(before + f"{entry} = {module}\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_plugin_is_recorded_and_the_others_go_on(fault, folder):
    source, stage, words = BAD[fault]
    unique = "".join(c if c.isalnum() else "_" for c in fault)
    install(folder, "acme-adapters", "broken", source, module=f"broken_{unique}")
    install(folder, "good-adapters", "fine", GOOD.format(name="fine"), module=f"fine_{unique}")
    plugins = Plugins()
    records = {record.name: record for record in plugins.records}
    assert records["broken"].state == "failed"
    assert records["broken"].stage == stage
    assert records["broken"].dist == "acme-adapters"
    assert records["broken"].version == "1.2"
    assert words in records["broken"].error
    assert records["fine"].state == records["lora"].state == "loaded"
    assert {"fine", "lora", "prefix", "full", "linear_probe"} <= set(strategy_shelf(plugins).names())
    for caller in vars(plugins.manager.hook).values():
        assert "broken" not in {hook.plugin_name for hook in caller.get_hookimpls()}, "something of it stayed behind"


def test_an_interrupt_is_not_swallowed(folder):
    install(folder, "acme-adapters", "stopper", "raise KeyboardInterrupt", module="stopper_interrupt")
    with pytest.raises(KeyboardInterrupt):
        Plugins()


def test_two_providers_of_one_name_are_an_error_that_lists_both(folder):
    install(folder, "acme-adapters", "one", GOOD.format(name="twin"))
    install(folder, "other-adapters", "two", GOOD.format(name="twin"))
    strategies = strategy_shelf(Plugins())
    with pytest.raises(StrategyNotFoundError, match="acme-adapters:twin, other-adapters:twin"):
        strategies.resolve("twin")
    assert strategies.resolve("acme-adapters:twin").dist == "acme-adapters"
    assert strategies.resolve("twin", dist="other-adapters").dist == "other-adapters"


def test_two_distributions_may_use_one_entry_point_name(folder):
    install(folder, "acme-adapters", "same", GOOD.format(name="from_acme"))
    install(folder, "other-adapters", "same", GOOD.format(name="from_other"))
    assert {"from_acme", "from_other"} <= set(strategy_shelf(Plugins()).names())


def test_a_missing_strategy_says_which_distribution_to_install():
    with pytest.raises(
        StrategyNotFoundError, match=r"needs strategy 'gone' \(acme-adapters\).*pip install acme-adapters"
    ):
        strategy_shelf(Plugins()).resolve("gone", dist="acme-adapters")


def test_disabled_plugins_are_not_imported(folder, monkeypatch):
    install(folder, "acme-adapters", "loud", "raise RuntimeError('imported')", module="loud_disabled")
    monkeypatch.setenv("ADAPTERHUB_DISABLE", "loud")
    assert {r.name: r.state for r in Plugins().records}["loud"] == "disabled"
    monkeypatch.delenv("ADAPTERHUB_DISABLE")
    monkeypatch.setenv("ADAPTERHUB_PLUGINS", "lora,prefix")
    states = {r.name: r.state for r in Plugins().records}
    assert states == {**dict.fromkeys(states, "disabled"), "lora": "loaded", "prefix": "loaded"}


MODULES_AT_START = 600


def test_twenty_plugins_start_quickly_and_without_torch(tmp_path):
    for i in range(20):
        install(tmp_path, f"acme-{i}", f"plug{i}", GOOD.format(name=f"plug{i}"))
    code = textwrap.dedent("""
        import json, sys
        from adapterhub_lite.plugins.manager import Plugins
        records = Plugins().records
        heavy = sorted({"torch", "transformers", "peft", "numpy", "pyarrow"} & set(sys.modules))
        print(json.dumps([len(records), len(sys.modules), heavy]))
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], env=_with_path(tmp_path), capture_output=True, text=True, check=True
    )
    count, modules, heavy = json.loads(done.stdout)
    assert count >= 24
    assert heavy == []
    # What start-up costs is what it imports; counted, because a time depends on what else the machine does.
    assert modules < MODULES_AT_START


def _with_path(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(folder)}


def test_plugins_import_nothing_of_ours_but_the_api():
    import ast

    root = Path(__file__).parents[2] / "plugins"
    files = list(root.rglob("*.py"))
    assert files
    for file in files:
        own = file.relative_to(root).parts[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.startswith("adapterhub_"):
                    assert name == "adapterhub_lite.api" or name.split(".")[0] == own, f"{file}: imports {name}"
