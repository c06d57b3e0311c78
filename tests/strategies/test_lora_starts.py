"""Starts of LoRA from weights and from data, against PEFT's own on the same base and batches; saved, killed and resumed."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import EvaConfig, LoraConfig, LoraGAConfig, PeftModel, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.loraga import preprocess_loraga
from torch.nn import functional

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.prepare import RunBatches, prepare
from adapterhub_lite.training.protocols import Protocols
from adapterhub_text.tiny import texts
from tests.training.conftest import contents, equal
from tests.training.test_resume import Killed, killed_after

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),  # of PEFT, as those below
    pytest.mark.filterwarnings("ignore:Using Rank-Stabilized LoRA with rank_pattern:UserWarning"),
    pytest.mark.filterwarnings("ignore:lora with eva initialization used with low_cpu_mem_usage:UserWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]
INITS = ["pissa", "olora", "corda", "lora_ga", "eva"]
CHANGED = ["pissa", "olora", "corda", "lora_ga"]


def data_of(model: str) -> Any:
    return texts() if model == "encoder" else completions()


class Started:
    """A strategy on a tiny base that was prepared for a run, and the batches of that run."""

    def __init__(self, put: Any, model: str, settings: dict[str, Any], **options: Any):
        self.base = tiny_base(model)
        self.bare = copy.deepcopy(self.base.model)
        mounted = put(self.base, data_of(model), "lora", settings)
        self.attachment = mounted.attachment
        config = TrainConfig(**{"steps": 3, "batch_size": 8, **options})
        prepare(self.attachment, Protocols(self.attachment, 0), mounted.encoded, config)
        size = config.micro_batch_size or config.batch_size
        self.batches = list(RunBatches(self.attachment, mounted.encoded, config, size))

    @property
    def layers(self) -> dict[str, Any]:
        return {p: m for p, m in self.base.model.named_modules() if hasattr(m, "lora_A")}

    @contextmanager
    def runs(self, model: Any) -> Iterator[None]:
        """Let the task run another model, exactly as it runs the base."""
        own, self.base.model = self.base.model, model
        try:
            yield
        finally:
            self.base.model = own

    def inputs(self, number: int) -> dict[str, torch.Tensor]:
        return {key: value for key, value in self.batches[number].inputs.items() if key != "targets"}


def same_start(started: Started, theirs: Any) -> None:
    """Factors, scales and what is left of the base are PEFT's, to 1e-5 of the largest number."""
    layers = {p.removeprefix("base_model.model."): m for p, m in theirs.named_modules() if hasattr(m, "lora_A")}
    assert started.layers.keys() == layers.keys()
    for path, ours in started.layers.items():
        reference = layers[path]
        assert ours.scaling["default"] == pytest.approx(reference.scaling["default"])
        for name in ("lora_A", "lora_B"):
            one, other = (getattr(layer, name)["default"].weight.detach() for layer in (ours, reference))
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * max(1.0, float(other.abs().max())))
        rest = reference.get_base_layer().weight.detach()
        torch.testing.assert_close(ours.get_base_layer().weight.detach(), rest, rtol=0, atol=1e-5)


def peft_config(started: Started, init: Any, **options: Any) -> LoraConfig:
    paths = list(started.attachment.view.map.linears)
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": paths, "init_lora_weights": init, **options})


@pytest.mark.parametrize("init", ["pissa", "olora"])
@pytest.mark.parametrize(("model", "settings", "same"), [
    ("encoder", {"rank": 4}, {}),
    ("decoder", {"rank": 4, "rslora": True, "rank_pattern": {"q_proj": 6}}, {"use_rslora": True, "rank_pattern": {"q_proj": 6}}),
])  # fmt: skip
def test_starts_from_weights_are_pefts(put: Any, init: str, model: str, settings: Any, same: Any) -> None:
    started = Started(put, model, {**settings, "init": init})
    same_start(started, get_peft_model(copy.deepcopy(started.bare), peft_config(started, init, **same)))


@pytest.mark.parametrize(("model", "rho"), [("encoder", 2.0), ("encoder", 1.0), ("decoder", 2.5)])
def test_eva_is_pefts(put: Any, model: str, rho: float) -> None:
    started = Started(put, model, {"rank": 4, "init": "eva", "eva_rho": rho})
    theirs = get_peft_model(copy.deepcopy(started.bare), peft_config(started, "eva", eva_config=EvaConfig(rho=rho)))
    names = {"targets": "labels"} if model == "decoder" else {"targets": None}
    batches = [
        {names.get(key, key): value for key, value in batch.inputs.items() if names.get(key, key)}
        for batch in started.batches
    ]
    initialize_lora_eva_weights(theirs, batches, show_progress_bar=False)
    same_start(started, theirs)
    config = started.attachment.config
    own = {path.removeprefix("^"): rank for path, rank in config.rank_pattern.items()}
    assert own == theirs.peft_config["default"].rank_pattern
    alphas = {path.removeprefix("^"): alpha for path, alpha in config.alpha_pattern.items()}
    assert alphas == pytest.approx(theirs.peft_config["default"].alpha_pattern)
    ranks = [len(layer.lora_A["default"].weight) for layer in started.layers.values()]
    assert sum(ranks) == 4 * len(started.attachment.view.map.linears)
    assert bool(own) == (rho > 1), "ranks move"


@pytest.mark.parametrize("method", ["ipm", "kpm"])
@pytest.mark.parametrize("model", ["encoder", "decoder", "conv1d"])
def test_corda_is_pefts(put: Any, method: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # PEFT takes a decorator like the standard library's from a package that it does not ask for.
    monkeypatch.setitem(sys.modules, "attr", SimpleNamespace(dataclass=dataclasses.dataclass))
    from peft.tuners.lora.corda import preprocess_corda

    # One text after the other here too: an inverse makes much of the last bit of its inputs.
    settings = {"rank": 4, "init": "corda", "corda_method": method, "start_batches": 16}
    started = Started(put, model, settings, batch_size=1, steps=20)
    config = peft_config(started, "corda", corda_config=CordaConfig(corda_method=method))
    theirs = copy.deepcopy(started.bare)
    if model == "conv1d":  # as PEFT asks for it, which names it alike
        config.fan_in_fan_out = True

    def run() -> None:
        for batch in started.batches[:16]:
            started.attachment.task.features(started.base, batch.inputs)

    with started.runs(theirs):
        preprocess_corda(theirs, config, run_model=run)
    same_start(started, get_peft_model(theirs, config))


@pytest.mark.parametrize("direction", ["ArBr", "A2rBr", "ArB2r", "random"])
@pytest.mark.parametrize("scale", ["stable", "weight_svd", "gd_scale", "unit"])
def test_lora_ga_is_pefts(put: Any, direction: str, scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original, permuted = torch.svd_lowrank, torch.randperm

    def seeded(function: Callable[..., Any]) -> Callable[..., Any]:
        def draw(*arguments: Any, **options: Any) -> Any:
            torch.manual_seed(5)
            return function(*arguments, **options)

        return draw

    monkeypatch.setattr(torch, "svd_lowrank", seeded(original))  # so that both draw the same projections
    settings = {"rank": 4, "init": "lora_ga", "lora_ga_direction": direction, "lora_ga_scale": scale}
    with monkeypatch.context() as patch:
        patch.setattr("adapterhub_lora.lora_ga.torch.randperm", seeded(permuted))
        started = Started(put, "encoder", {**settings, "lora_ga_gamma": 4})
    monkeypatch.setattr(torch, "randperm", seeded(permuted))
    config = peft_config(
        started, "lora_ga", lora_ga_config=LoraGAConfig(direction=direction, scale=scale, stable_gamma=4)
    )
    theirs = copy.deepcopy(started.bare)
    base, head, task = started.base, started.attachment.head, started.attachment.task

    def train_step() -> None:
        for batch in started.batches:
            logits, targets = task.logits(base, head, batch.inputs)
            functional.cross_entropy(logits, targets).backward()

    with started.runs(theirs):
        preprocess_loraga(theirs, config, train_step)
    same_start(started, get_peft_model(theirs, config))


def train(folder: Path | None, model: str, settings: dict[str, Any], *, resume: bool = False, **options: Any) -> Any:
    config = TrainConfig(**{"steps": 5, "batch_size": 8, "learning_rate": 5e-3, "checkpoint_every": 2, **options})
    return Engine(progress=Silent()).train(
        tiny_base(model), data_of(model), strategy="lora", settings=settings, config=config, run_folder=folder,
        resume=resume,
    )  # fmt: skip


def output(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        first: torch.Tensor = model(**inputs)[0]
    return first


@pytest.mark.parametrize(("model", "settings"), [
    *[("decoder", {"init": init, "rslora": init == "corda", "alpha_pattern": {"up_proj": 5}}) for init in INITS],
    ("decoder", {"init": "lora_ga", "dora": True, "rank_pattern": {"q_proj": 2}}),
    ("encoder", {"init": "eva", "bias": "lora_only"}),
    ("encoder", {"init": "corda", "bias": "all"}),
    ("conv1d", {"init": "olora"}),
    ("conv1d", {"init": "lora_ga"}),
    ("conv1d", {"init": "eva"}),
], ids=str)  # fmt: skip
def test_killed_resumed_saved_loaded_and_opened_by_peft(
    model: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"rank": 4, **settings}
    whole = train(tmp_path / "whole", model, settings)
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            train(tmp_path / "cut", model, settings)
    resumed = train(tmp_path / "cut", model, settings, resume=True)
    assert equal(dict(resumed.attachment.tensors), dict(whole.attachment.tensors))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")

    base, bare = whole.base, tiny_base(model).model
    task = whole.attachment.task
    batch = task.collate(task.encode(data_of(model), base).examples[:4], base)
    inputs = {key: value for key, value in batch.items() if key != "targets"}
    adapted = output(base.model, inputs)
    resumed.use()
    assert torch.equal(output(resumed.base.model, inputs), adapted), "the base below it is the same too"
    whole.save(tmp_path / "saved")
    whole.detach()
    assert torch.equal(output(base.model, inputs), output(bare, inputs)), "the base is what it was"
    Engine(progress=Silent()).load_adapter(tmp_path / "saved", base=base)
    scale = float(adapted.abs().max())
    assert float((adapted - output(bare, inputs)).abs().max()) > 1e-3 * scale, "the adapter has an effect to compare"
    torch.testing.assert_close(output(base.model, inputs), adapted, rtol=0, atol=1e-5 * scale)
    theirs = PeftModel.from_pretrained(tiny_base(model).model, tmp_path / "saved").eval()
    torch.testing.assert_close(output(theirs, inputs), adapted, rtol=0, atol=1e-5 * scale)
    config = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert config["r"] == (4 if settings["init"] == "eva" else 8)
    assert config["init_lora_weights"] is True


@pytest.mark.parametrize("init", CHANGED)
def test_the_start_alone_changes_nothing(put: Any, init: str) -> None:
    started = Started(put, "decoder", {"rank": 4, "init": init})
    bare = output(started.bare, started.inputs(0))
    close = {"rtol": 0, "atol": 1e-4 * float(bare.abs().max())}
    torch.testing.assert_close(output(started.base.model, started.inputs(0)), bare, **close)
    layer = next(iter(started.layers.values()))
    assert float(layer.lora_B["default"].weight.detach().abs().max()) > 0


@pytest.mark.parametrize(("init", "tolerance"), [("corda", 1e-3), ("lora_ga", 1e-4)])
def test_pieces_of_a_batch_give_the_same_start(put: Any, init: str, tolerance: float) -> None:
    """Up to the sign of a direction, and to the rounding of the inputs, of which corda's inverse makes much."""
    whole = Started(put, "encoder", {"rank": 4, "init": init, "start_batches": 2}).layers
    pieces = Started(put, "encoder", {"rank": 4, "init": init, "start_batches": 4}, micro_batch_size=4).layers
    for path, layer in whole.items():
        for half in ("lora_A", "lora_B"):
            one, other = (getattr(own, half)["default"].weight.detach().abs() for own in (layer, pieces[path]))
            torch.testing.assert_close(one, other, rtol=0, atol=tolerance * float(one.max()))


@pytest.mark.parametrize(("settings", "quantization", "error", "message"), [
    *[({"init": init}, "nf4", NotSupportedError, f"with init={init} needs an unquantized base") for init in CHANGED],
    ({"init": "olora", "rank": 65}, "none", ConfigError, "takes 65 directions at rank=65, and .* has 64"),
    ({"init": "corda", "rank": 4, "rank_pattern": {"query": 99}}, "none", ConfigError, "takes 99 directions at rank=99"),
    ({"init": "lora_ga", "rank": 33}, "none", ConfigError, "takes 66 directions at rank=33, and .* has 64"),
    ({"init": "eva", "rank": 17}, "none", ConfigError, "eva_rho = 34 directions .* at most 32 in 64 features"),
    ({"init": "eva", "rank": 8}, "none", ConfigError, "needs 32 tokens in a batch .* raise the batch size"),
    ({"init": "eva", "targets": "word_embeddings"}, "none", NotSupportedError, "is an embedding; use init=default"),
], ids=str)  # fmt: skip
def test_what_no_start_can_be_made_of_is_refused(
    settings: dict[str, Any], quantization: str, error: type[Exception], message: str, tmp_path: Path, bits: Any
) -> None:
    base = tiny_base("encoder", quantization=quantization)
    before = bits(base.model)
    config = TrainConfig(steps=2, batch_size=1)
    with pytest.raises(error, match=message):
        Engine(progress=Silent()).train(base, texts(), strategy="lora", settings=settings, config=config)
    assert bits(base.model) == before
    assert base.active is None


def test_a_weight_that_is_used_twice_is_refused() -> None:
    with pytest.raises(NotSupportedError, match=r"weight of 'lm_head', which is also 'model.embed_tokens.weight'"):
        train(None, "decoder", {"rank": 4, "init": "pissa", "targets": "lm_head"})


def test_eva_on_a_quantized_base(tmp_path: Path) -> None:
    base = tiny_base("decoder", quantization="nf4")
    config = TrainConfig(steps=2, batch_size=8)
    adapter = Engine(progress=Silent()).train(
        base, completions(), strategy="lora", settings={"rank": 4, "init": "eva"}, config=config
    )
    ranks = [len(p) for name, p in adapter.attachment.parameters.items() if "lora_A" in name]
    assert len(set(ranks)) > 1
