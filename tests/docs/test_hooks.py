"""docs/hooks.md is what the specifications say, and its examples run."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
from torch import nn
from transformers import PretrainedConfig

import adapterhub_causal_lm
from adapterhub_lite import api
from adapterhub_lite.api import ModelMap, Run, StrategyConfig, hookimpl
from adapterhub_lite.first_use import homes_of
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.tasks.catalog import Catalog, read_data
from docs.make_hooks import example, hooks, reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "hooks.md"


class MyConfig(StrategyConfig):
    pass


class MyEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.width, self.blocks = 4, nn.ModuleList([nn.Linear(4, 4)])


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == reference(), "run: python -m docs.make_hooks > docs/hooks.md"


def test_it_is_made_by_the_command_it_names():
    command = [sys.executable, "-m", "docs.make_hooks"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == reference()


def handed_on():
    """Everything that plug-ins may import."""
    names = (*homes_of(api.__name__), *vars(api))
    return {name: getattr(api, name) for name in names if not name.startswith("_")}


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook.__name__)
def test_examples_run(hook, tmp_path):
    done = []

    def registered(name, kind, exist_ok):
        done.append((name, kind))

    names = {
        **handed_on(), "sys": sys, "MyConfig": MyConfig,
        "AutoModel": types.SimpleNamespace(from_pretrained=lambda path: nn.Linear(2, 2), register=registered), "fetch": str,
        "AutoConfig": types.SimpleNamespace(register=registered), "MyEncoderConfig": PretrainedConfig,
        "MyEncoderModel": MyEncoder, "build_tiny": print, "tiny_rankings": print, "my_plugin": types,
        "read_rankings": print, "notify": done.append, "upload": lambda path, name: done.append(name),
    }  # fmt: skip
    module = types.ModuleType("from_the_document")
    vars(module).update(names)
    exec(compile(example(hook), hook.__name__, "exec"), vars(module))
    plugins = Plugins(enabled=False)
    plugins.register(module)
    run = Run("s", "t", "b", 3, {}, stop=done.append)
    call = getattr(module, hook.__name__)
    if hook.__name__ == "adapterhub_strategies":
        assert [provided.spec.name for provided in plugins.strategies] == ["mine"]
    elif hook.__name__ == "adapterhub_tasks":
        assert [provided.spec.name for provided in plugins.tasks] == ["text-ranking"]
    elif hook.__name__ == "adapterhub_load_base":
        ask = {"quantization": "none", "dtype": "float32", "device": "cpu", "revision": None}
        wanted = (nn.Module, "a torch module")
        assert isinstance(plugins.first_result(hook.__name__, {"ref": "vault:x", **ask}, *wanted), nn.Linear)
        assert plugins.first_result(hook.__name__, {"ref": "other", **ask}, *wanted) is None
    elif hook.__name__ == "adapterhub_base_config":
        wanted = (PretrainedConfig, "a PretrainedConfig")
        config = {"model_type": "my-encoder", "hide_inputs": True}
        assert plugins.first_result(hook.__name__, {"config": config}, *wanted).hide_inputs is False
        assert plugins.first_result(hook.__name__, {"config": {"model_type": "bert"}}, *wanted) is None
        assert done == [("my-encoder", PretrainedConfig), (PretrainedConfig, MyEncoder)]
    elif hook.__name__ == "adapterhub_readers":
        (tmp_path / "a.notes").write_text("card lost")
        plugins.register(adapterhub_causal_lm)
        data = read_data(Catalog(plugins), tmp_path / "a.notes", "causal-lm")
        assert [item.text for item in data.inputs] == ["card lost"]
    elif hook.__name__ == "adapterhub_tiny_models":
        assert [(plugin, model.name) for plugin, model in plugins.gathered(hook.__name__, api.TinyModel)] == [
            (module.__name__, "ranker")
        ]
    elif hook.__name__ == "adapterhub_describe_model":
        wanted = (ModelMap, "a ModelMap")
        assert isinstance(plugins.first_result(hook.__name__, {"model": MyEncoder()}, *wanted), ModelMap)
        assert plugins.first_result(hook.__name__, {"model": nn.Linear(2, 2)}, *wanted) is None
    elif hook.__name__ == "adapterhub_train_start":
        call(run)
    elif hook.__name__ == "adapterhub_step_end":
        call(run, 1, {"loss": 0.5})
        assert not done
        call(run, 1, {"loss": 0.05})
        assert done == ["the loss is low enough"]
    elif hook.__name__ == "adapterhub_train_end":
        call(run, ValueError("no"), {})
        assert done == ["failed: no"]
    else:
        call(Path("p"), {"strategy": {"name": "mine"}})
        assert done == ["mine"]
    assert getattr(call, f"{hookimpl.project_name}_impl"), "every example marks its function"
