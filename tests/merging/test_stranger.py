"""A strategy that the core has never heard of reads and writes PEFT's files, writes GGUF, combines and merges."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adapterhub_lite.api import (
    Combination,
    Field,
    ModelView,
    NotSupportedError,
    Part,
    Recipe,
    StrategyConfig,
    StrategySpec,
    Traits,
    hookimpl,
    refuse_settings,
)
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.merging.combine import combine_adapters
from adapterhub_lite.merging.export import export_gguf, export_peft
from adapterhub_lite.merging.from_peft import import_peft
from adapterhub_lite.merging.merge import merge_adapter
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent


class ScaleConfig(StrategyConfig):
    """Options of the stranger's strategy."""

    layer: int = Field(default=0, ge=0, description="The layer whose output projection is scaled.")


class Scale:
    """A trained factor for every output of one weight matrix."""

    def attach(self, view: ModelView, config: ScaleConfig) -> Mapping[str, nn.Parameter]:
        path = _path(config)
        factors = nn.Parameter(torch.ones(view.weight(path).shape[0]))
        view.after(path, lambda hidden: hidden * factors)
        return {"factors": factors}

    def merge(self, view: ModelView, config: ScaleConfig, tensors: Mapping[str, Tensor]) -> None:
        view.weight(_path(config)).mul_(tensors["factors"][:, None])

    def updates(
        self, config: ScaleConfig, tensors: Mapping[str, Tensor]
    ) -> Mapping[str, Callable[[Tensor, bool], Tensor]]:
        return {f"{_path(config)}.weight": lambda weight, transposed: weight * tensors["factors"][:, None]}

    def from_peft(
        self, view: ModelView, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]] | None:
        if config["peft_type"] != "SCALE":
            return None
        refuse_settings(config, frozenset({"layer"}), {})
        layer, prefix = config["layer"], "base_model.model."
        return {"layer": layer}, {"factors": tensors[f"{prefix}{_path(ScaleConfig(layer=layer))}.scale"]}

    def to_peft(
        self, view: ModelView, config: ScaleConfig, tensors: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]] | None:
        if not view.generates:
            return None
        name = f"base_model.model.{_path(config)}.scale"
        return {"peft_type": "SCALE", "layer": config.layer}, {name: tensors["factors"]}

    def write_gguf(self, path: Path, config: ScaleConfig, tensors: Mapping[str, Tensor], model_config: Any) -> int:
        if model_config.model_type != "llama":
            raise NotSupportedError("only Llamas are scaled")
        path.write_bytes(b"GGUF" + tensors["factors"].numpy().tobytes())
        return 1

    def combine(self, parts: Sequence[Part], recipe: Recipe) -> Combination:
        if recipe.method != "product":
            raise ConfigError(f"scale: there is no method '{recipe.method}', only product")
        factors = torch.stack([part.tensors["factors"] ** part.weight for part in parts]).prod(dim=0)
        return Combination(parts[0].config.model_dump(), {"factors": factors}, None, 0.0)


def _path(config: ScaleConfig) -> str:
    return f"model.layers.{config.layer}.mlp.down_proj"


@pytest.fixture(scope="module")
def stranger() -> Engine:
    """An engine with the stranger's plug-in."""
    module = ModuleType("a_stranger")

    @hookimpl
    def adapterhub_strategies() -> list[StrategySpec]:
        spec = StrategySpec(
            "scale", "Scaled outputs.", ScaleConfig, Scale, Traits(mergeable=True, identity_at_init=True)
        )
        return [spec]

    module.adapterhub_strategies = adapterhub_strategies  # type: ignore[attr-defined]
    plugins = Plugins()
    plugins.register(module)
    return Engine(plugins, Silent())


@pytest.fixture
def theirs(load: Any, references: Any, tmp_path: Path) -> Path:
    """What the stranger's own tool saved, in PEFT's layout; the paths are those of the model without its head."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    config = {"peft_type": "SCALE", "task_type": "CAUSAL_LM", "layer": 1}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    size = load(references("tiny-llama")).map.hidden_size
    factors = 1 + torch.rand(size, generator=torch.Generator().manual_seed(0))
    save_file({"base_model.model.layers.1.mlp.down_proj.scale": factors}, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def ours(stranger: Engine, theirs: Path, load: Any, references: Any, tmp_path: Path) -> Path:
    made = import_peft(stranger, theirs, tmp_path / "ours", base=load(references("tiny-llama")))
    assert (made.strategy, made.task, made.tensors) == ("scale", "causal-lm", 1)
    return tmp_path / "ours"


def factors_of(path: Path) -> Tensor:
    return load_file(path / "adapter_model.safetensors")["factors"]


def test_peft_there_and_back(
    stranger: Engine, theirs: Path, ours: Path, load: Any, references: Any, tmp_path: Path
) -> None:
    base = load(references("tiny-llama"))
    (before,) = load_file(theirs / "adapter_model.safetensors").values()
    assert torch.equal(factors_of(ours), before)
    export_peft(ours, tmp_path / "back", stranger, base=base)
    config = json.loads((tmp_path / "back" / "adapter_config.json").read_text())
    assert config == {
        "peft_type": "SCALE", "layer": 1, "task_type": "CAUSAL_LM", "base_model_name_or_path": f"./{Path(base.reference).name}",
        "revision": None,
    }  # fmt: skip
    (name, after), = load_file(tmp_path / "back" / "adapter_model.safetensors").items()  # fmt: skip
    assert name == "base_model.model.model.layers.1.mlp.down_proj.scale"
    assert torch.equal(before, after)


def test_a_setting_it_does_not_know_is_refused_by_name(
    stranger: Engine, theirs: Path, load: Any, references: Any, tmp_path: Path
) -> None:
    file = theirs / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "shift": True}))
    with pytest.raises(NotSupportedError, match=r"theirs: shift=True cannot be represented"):
        import_peft(stranger, theirs, tmp_path / "ours", base=load(references("tiny-llama")))


def test_without_the_stranger_nobody_reads_it(
    engine: Engine, theirs: Path, load: Any, references: Any, tmp_path: Path
) -> None:
    with pytest.raises(NotSupportedError, match="'scale' is provided by no installed strategy"):
        import_peft(engine, theirs, tmp_path / "ours", base=load(references("tiny-llama")))


def test_our_own_methods_are_still_ours(stranger: Engine, adapt: Any, references: Any, tmp_path: Path) -> None:
    export_peft(adapt("tiny-llama", "causal-lm", rank=2), tmp_path / "peft", stranger)
    # PEFT's folder names the base and not its place.
    made = import_peft(stranger, tmp_path / "peft", tmp_path / "back", base=references("tiny-llama"))
    assert made.strategy == "lora"


def test_gguf(stranger: Engine, ours: Path, tmp_path: Path) -> None:
    assert export_gguf(ours, tmp_path / "scale.gguf", stranger) == 1
    assert (tmp_path / "scale.gguf").read_bytes() == b"GGUF" + factors_of(ours).numpy().tobytes()


def test_merge(stranger: Engine, ours: Path, tmp_path: Path) -> None:
    merged = merge_adapter(stranger, ours, tmp_path / "merged", device="cpu")
    assert merged.sharded
    assert merged.report.passed
    assert merged.report.agreement == 1.0


def test_combine(stranger: Engine, ours: Path, adapt: Any, load: Any, references: Any, tmp_path: Path) -> None:
    base = load(references("tiny-llama"))
    made = combine_adapters(stranger, [ours, ours], tmp_path / "two", weights=[1.0, 0.5], method="product", base=base)
    assert made.rank is None
    torch.testing.assert_close(factors_of(tmp_path / "two"), factors_of(ours) ** 1.5)
    with pytest.raises(ConfigError, match="no method 'ties', only product"):
        combine_adapters(stranger, [ours, ours], tmp_path / "no", method="ties", base=base)
    with pytest.raises(NotSupportedError, match=r"strategy 'lora'; only scale combines with .*ours"):
        combine_adapters(stranger, [ours, adapt("tiny-llama", "causal-lm", rank=2)], tmp_path / "no")
    with pytest.raises(NotSupportedError, match=r"'linear_probe'; only lora and scale combine$"):
        combine_adapters(stranger, [adapt("tiny-llama", "causal-lm", "linear_probe")], tmp_path / "no")
    assert not (tmp_path / "no").exists()
