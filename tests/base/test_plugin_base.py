"""A base whose class transformers does not know, from files: what a plug-in has to say for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from adapterhub_lite.api import ModelMap, hookimpl, introspect
from adapterhub_lite.base.describe import example_inputs
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import BaseNotFoundError, NotSupportedError, PluginError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent

WIDTH = 64


class WaveConfig(PretrainedConfig):
    model_type = "adapterhub_test_wave"
    hide_inputs = True


class WaveModel(PreTrainedModel):
    """Two linear blocks on a signal, which it hides unless its configuration says otherwise."""

    config_class = WaveConfig
    main_input_name = "signal"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(2))
        self.post_init()

    def forward(self, signal: Tensor) -> BaseModelOutput:
        hidden = signal * 0 if self.config.hide_inputs else signal  # (batch, steps, WIDTH)
        for block in self.blocks:
            hidden = block(hidden)
        return BaseModelOutput(last_hidden_state=hidden)


def configure(config: Mapping[str, Any]) -> PretrainedConfig | None:
    if config.get("model_type") != WaveConfig.model_type:
        return None
    AutoModel.register(WaveConfig, WaveModel, exist_ok=True)
    return WaveConfig.from_dict({**config, "hide_inputs": False})


def describe(model: nn.Module) -> ModelMap | None:
    return introspect(model, "series", example={"signal": (1, 3, WIDTH)}) if isinstance(model, WaveModel) else None


def engine_with(**hooks: Any) -> Engine:
    plugin = ModuleType("waves")
    for name, hook in hooks.items():
        setattr(plugin, f"adapterhub_{name}", hookimpl(hook))
    plugins = Plugins()
    plugins.register(plugin)
    return Engine(plugins, Silent())


@pytest.fixture
def folder(tmp_path: Path) -> str:
    torch.manual_seed(0)
    WaveModel(WaveConfig()).save_pretrained(tmp_path)
    return str(tmp_path)


def test_its_class_and_configuration_are_those_of_the_plugin(folder: str) -> None:
    engine = engine_with(base_config=configure, describe_model=describe)
    base = engine.load_base(folder, device="cpu", dtype="float32")
    assert type(base.model) is WaveModel
    assert base.processor is None
    assert (base.map.hidden_size, base.map.layers, base.map.linears) == (
        WIDTH,
        ("blocks.0", "blocks.1"),
        ("blocks.0.0", "blocks.1.0"),
    )
    assert {name: tuple(value.shape) for name, value in example_inputs(base.model, base.map.example).items()} == {
        "signal": (1, 3, WIDTH)
    }
    signal = torch.ones(1, 3, WIDTH)
    assert not torch.equal(base.model(signal).last_hidden_state, base.model(0 * signal).last_hidden_state)
    saved = WaveModel.from_pretrained(folder)
    assert all(torch.equal(one, other) for one, other in zip(base.model.parameters(), saved.parameters(), strict=True))
    assert engine.load_base(f"scratch:1:{folder}", device="cpu").fingerprint.weights != base.fingerprint.weights


def test_quantized_and_as_kept(folder: str) -> None:
    pytest.importorskip("bitsandbytes")
    engine = engine_with(base_config=configure, describe_model=describe)
    fingerprints = [
        engine.load_base(folder, quantization="nf4", dtype="float32", device="cpu").fingerprint for _ in range(2)
    ]
    assert fingerprints[0] == fingerprints[1]
    assert fingerprints[0].layers == 2


def test_without_the_plugin(folder: str) -> None:
    with pytest.raises(BaseNotFoundError, match="adapterhub_test_wave"):
        engine_with().load_base(folder, device="cpu")
    with pytest.raises(NotSupportedError, match=r"WaveModel takes 'signal', .* the hook adapterhub_describe_model"):
        engine_with(base_config=configure).load_base(folder, device="cpu")


def test_a_model_without_an_example() -> None:
    with pytest.raises(NotSupportedError, match="WaveModel takes 'signal', and its ModelMap gives no example"):
        example_inputs(WaveModel(WaveConfig()))


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (lambda config: {**config}, r"plug-in 'waves' .* gave \{.*\.\.\. in adapterhub_base_config, not a PretrainedConfig"),
        (lambda config: 1 / 0, r"plug-in 'waves' .* failed in adapterhub_base_config: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_plugin_that_fails_at_it_is_named(folder: str, hook: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        engine_with(base_config=hook).load_base(folder, device="cpu")
