"""LoRA's learning rates, patterns, biases and targets, against PEFT's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch.nn import functional

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lora.scales import alpha_at, rank_at, scale_at
from adapterhub_lora.updates import FILE_PREFIX
from adapterhub_text.tiny import texts
from tests.training.conftest import contents, equal
from tests.training.test_resume import Killed, killed_after

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def data_of(model: str) -> Any:
    return texts() if model == "encoder" else completions()


def train(
    model: str, settings: dict[str, Any], folder: Path | None = None, *, resume: bool = False, **options: Any
) -> Any:
    config = TrainConfig(**{"steps": 4, "batch_size": 8, "learning_rate": 5e-3, **options})
    return Engine(progress=Silent()).train(
        tiny_base(model), data_of(model), strategy="lora", settings=settings, config=config, run_folder=folder,
        resume=resume,
    )  # fmt: skip


def paths_of(view: Any) -> list[str]:
    return [path for path, module in view.model.named_modules() if hasattr(module, "lora_A")]


def slots_of(model: Any, head: Any = None) -> dict[str, torch.nn.Parameter]:
    """What trains in PEFT's model, by the name it has in a file."""
    slots = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    slots = {name.removesuffix(".weight") if "magnitude" in name else name: p for name, p in slots.items()}
    return slots | ({f"head.{name}": p for name, p in head.named_parameters()} if head is not None else {})


def test_lora_plus_has_pefts_groups_and_steps(put: Any) -> None:
    """DoRA's magnitudes and the biases are of the fast group, as there."""
    rate, ratio = 2e-3, 8.0
    base = tiny_base("decoder")
    bare = copy.deepcopy(base.model)
    mounted = put(base, completions(), "lora", {"rank": 4, "dora": True, "lora_plus_ratio": ratio})
    attachment = mounted.attachment
    start = {name: tensor.detach().clone() for name, tensor in attachment.tensors.items()}
    report = mounted.fit(
        steps=3, batch_size=16, learning_rate=rate, weight_decay=0.0, schedule="constant", warmup=0.0, clip=1e9
    )

    theirs = get_peft_model(bare, LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=list(base.map.linears)))
    slots = slots_of(theirs)
    with torch.no_grad():
        for name, parameter in slots.items():
            parameter.copy_(start[name])
    optimizer = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=ratio, loraplus_weight_decay=0.0
    )
    names = {parameter: name for name, parameter in slots.items()}
    fast = {names[p] for group in optimizer.param_groups if group["lr"] == rate * ratio for p in group["params"]}
    factors = attachment.strategy.groups(attachment.config, attachment.parameters)
    assert {name for name, own in factors.items() if own.learning_rate == ratio} == fast
    assert any("magnitude" in name for name in fast)
    assert any("lora_B" in name for name in fast)
    batch = mounted.batch(list(range(16)))
    for expected in report.losses:
        logits = theirs(**{key: value for key, value in batch.items() if key != "targets"}).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), batch["targets"][:, 1:].flatten(), ignore_index=-100)
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, tensor in attachment.tensors.items():
        torch.testing.assert_close(tensor, slots[name], rtol=1e-3, atol=1e-5)


def test_without_lora_plus_all_learn_alike(put: Any) -> None:
    mounted = put(tiny_base("encoder"), texts(), "lora", {"rank": 4})
    assert mounted.attachment.strategy.groups(mounted.attachment.config, mounted.attachment.parameters) == {}


PATTERNS = [
    ("encoder", {"rank_pattern": {"query": 2, r"layer\.1\..*": 7}, "alpha_pattern": {"query": 3.5}}),
    ("decoder", {"rank_pattern": {"q_proj": 2, "model.layers.1.mlp.up_proj": 9}, "rslora": True}),
    ("decoder", {"rank_pattern": {"(k|v)_proj": 1}, "alpha_pattern": {"layers.0.mlp.down_proj": 40}, "dora": True}),
]


@pytest.mark.parametrize(("model", "settings"), PATTERNS, ids=str)
def test_patterns_are_read_as_peft_reads_them(put: Any, model: str, settings: dict[str, Any]) -> None:
    base = tiny_base(model)
    bare = copy.deepcopy(base.model)
    mounted = put(base, data_of(model), "lora", {"rank": 4, **settings})
    names = {"rslora": "use_rslora", "dora": "use_dora"}
    options = {names.get(key, key): value for key, value in settings.items()}
    theirs = get_peft_model(bare, LoraConfig(r=4, lora_alpha=8, target_modules=list(base.map.linears), **options))
    layers = {p.removeprefix("base_model.model."): m for p, m in theirs.named_modules() if hasattr(m, "lora_A")}
    config = mounted.attachment.config
    for path in paths_of(mounted.attachment.view):
        reference = layers[path]
        assert rank_at(config, path) == reference.r["default"]
        assert alpha_at(config, path) == reference.lora_alpha["default"]
        assert scale_at(config, path) == pytest.approx(reference.scaling["default"])
        assert base.model.get_submodule(path).scaling == pytest.approx(reference.scaling)
    shapes = {name: tuple(p.shape) for name, p in slots_of(theirs).items()}
    assert {name: tuple(p.shape) for name, p in mounted.attachment.parameters.items()} == shapes


def output(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        first: torch.Tensor = model(**inputs)[0]
    return first


BIASES = [
    ("encoder", {"bias": "all"}),
    ("encoder", {"bias": "lora_only", "targets": "query,value"}),
    ("conv1d", {"bias": "all", "targets": "c_attn", "lora_plus_ratio": 4}),
    ("conv1d", {"bias": "lora_only", "dora": True}),
]


@pytest.mark.parametrize(("model", "settings"), [*BIASES, *PATTERNS], ids=str)
def test_killed_resumed_saved_loaded_merged_and_opened_by_peft(
    model: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, options = {"rank": 4, **settings}, {"checkpoint_every": 2}
    whole = train(model, settings, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            train(model, settings, tmp_path / "cut", **options)
    resumed = train(model, settings, tmp_path / "cut", resume=True, **options)
    assert equal(dict(resumed.attachment.tensors), dict(whole.attachment.tensors))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")

    base, bare, attachment = whole.base, tiny_base(model).model, whole.attachment
    trained = {name for name in attachment.parameters if name.endswith(".bias")}
    assert bool(trained) == ("bias" in settings)
    inputs = {k: v for k, v in attachment.task.collate(
        attachment.task.encode(data_of(model), base).examples[:4], base
    ).items() if k != "targets"}  # fmt: skip
    adapted = output(base.model, inputs)
    scale = float(adapted.abs().max())
    assert float((adapted - output(bare, inputs)).abs().max()) > 1e-3 * scale, "the adapter has an effect to compare"
    whole.save(tmp_path / "saved")
    strategy, saved = attachment.strategy, {n: p.detach().clone() for n, p in attachment.parameters.items()}
    whole.detach()
    assert torch.equal(output(base.model, inputs), output(bare, inputs)), "the base is what it was"
    Engine(progress=Silent()).load_adapter(tmp_path / "saved", base=base)
    assert torch.equal(output(base.model, inputs), adapted)
    theirs = PeftModel.from_pretrained(tiny_base(model).model, tmp_path / "saved").eval()
    torch.testing.assert_close(output(theirs, inputs), adapted, rtol=0, atol=1e-5 * scale)

    merged, parameters = tiny_base(model).model, dict(bare.named_parameters())
    for name, update in strategy.updates(attachment.config, saved).items():
        transposed = name.endswith(".weight") and type(bare.get_submodule(name[:-7])).__name__ == "Conv1D"
        merged.get_parameter(name).data.copy_(update(parameters[name].data.clone(), transposed))
    torch.testing.assert_close(output(merged.eval(), inputs), adapted, rtol=0, atol=1e-5 * scale)
    again = Engine(progress=Silent()).load_adapter(tmp_path / "saved", base=tiny_base(model))
    with torch.no_grad():
        again.attachment.strategy.merge(again.attachment.view, again.attachment.config, again.attachment.parameters)
    again.attachment.view.settle()
    torch.testing.assert_close(output(again.base.model, inputs), adapted, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_that_train_are_pefts(put: Any, bias: str) -> None:
    base = tiny_base("encoder")
    bare = copy.deepcopy(base.model)
    mounted = put(base, texts(), "lora", {"rank": 4, "bias": bias, "targets": "query,dense"})
    theirs = get_peft_model(bare, LoraConfig(r=4, bias=bias, target_modules=["query", "dense"]))
    expected = {name for name in slots_of(theirs) if name.endswith(".bias")}
    assert {name for name in mounted.attachment.parameters if name.endswith(".bias")} == expected
    before = {name: p.detach().clone() for name, p in base.model.named_parameters() if name.endswith(".bias")}
    mounted.fit(steps=2, batch_size=8, learning_rate=1e-2)
    moved = {n for n, p in base.model.named_parameters() if n in before and not torch.equal(p.detach(), before[n])}
    assert {f"{FILE_PREFIX}{name}" for name in moved} == expected
    mounted.attachment.view.unmount()
    assert all(torch.equal(p, before[n]) for n, p in base.model.named_parameters() if n in before)
    mounted.attachment.view.mount()


def test_a_base_in_half_precision_computes_in_fp32_with_biases(tmp_path: Path) -> None:
    base = tiny_base("encoder", dtype=torch.bfloat16)
    config = TrainConfig(steps=2, batch_size=8, learning_rate=1e-2)
    adapter = Engine(progress=Silent()).train(
        base, texts(), strategy="lora", settings={"rank": 4, "bias": "all"}, config=config
    )
    assert {p.dtype for p in adapter.attachment.parameters.values()} == {torch.float32}
    said = adapter.predict(texts().inputs[:4])
    adapter.save(tmp_path / "saved")
    adapter.detach()
    assert {p.dtype for p in base.model.parameters()} == {torch.bfloat16}
    assert Engine(progress=Silent()).load_adapter(tmp_path / "saved", base=base).predict(texts().inputs[:4]) == said


@pytest.mark.parametrize(
    "expression", [r".*layers\.0\..*(q|up)_proj", r".*\.1\.mlp\..*_proj", "model.layers.1.self_attn.k_proj"]
)
def test_targets_by_expression_are_pefts(put: Any, expression: str) -> None:
    base = tiny_base("decoder")
    theirs = get_peft_model(copy.deepcopy(base.model), LoraConfig(r=4, target_modules=expression))
    mounted = put(base, completions(), "lora", {"targets": f"re:{expression}"})
    assert mounted.attachment.parameters.keys() == slots_of(theirs).keys()


@pytest.mark.parametrize("targets", ["all-linear", "attention", "q_proj,down_proj", "re:.*_proj"])
def test_targets_in_the_last_layers_are_pefts(put: Any, targets: str) -> None:
    base = tiny_base("decoder")
    everything = put(base, completions(), "lora", {"targets": targets}).attachment
    names = sorted({path.rpartition(".")[2] for path in paths_of(everything.view)})
    everything.view.unmount()
    theirs = get_peft_model(
        copy.deepcopy(base.model),
        LoraConfig(r=4, target_modules=names, layers_to_transform=[1], layers_pattern="layers"),
    )
    mounted = put(base, completions(), "lora", {"targets": targets, "top_layers": 1})
    assert mounted.attachment.parameters.keys() == slots_of(theirs).keys()


@pytest.mark.parametrize(("settings", "quantization", "error", "message"), [
    ({"targets": "re:(q"}, "none", ConfigError, r"targets=re:\(q is no regular expression: missing"),
    ({"targets": "re:nothing"}, "none", ConfigError, "targets=re:nothing fits no weight matrix; there are: down_proj"),
    ({"top_layers": 3}, "none", ConfigError, "top_layers=3, but this model has 2 layers"),
    ({"targets": "lm_head", "top_layers": 1}, "none", ConfigError, "targets=lm_head has nothing in the last 1 layers"),
    ({"rank_pattern": {"query": 3}}, "none", ConfigError, "rank_pattern has 'query', which fits none of the 14 targets"),
    ({"alpha_pattern": {"(": 3}}, "none", ConfigError, r"alpha_pattern has '\(', which is no regular expression"),
    ({"rank_pattern": {"q_proj": 0}}, "none", ConfigError, r"rank_pattern\.q_proj=0: input should be greater than or equal to 1"),
    ({"lora_plus_ratio": 0}, "none", ConfigError, "lora_plus_ratio=0: input should be greater than 0"),
    ({"bias": "all"}, "none", ConfigError, "bias=all, but there is none in this model; use bias=none"),
    ({"bias": "lora_only"}, "nf4", NotSupportedError, r"with bias=lora_only needs an unquantized base, .* or another bias"),
], ids=str)  # fmt: skip
def test_options_that_fit_nothing_are_refused(
    settings: dict[str, Any], quantization: str, error: type[Exception], message: str, bits: Any
) -> None:
    base = tiny_base("decoder", quantization=quantization)
    before = bits(base.model)
    with pytest.raises(error, match=message):
        Engine(progress=Silent()).train(
            base, completions(), strategy="lora", settings=settings, config=TrainConfig(steps=1, batch_size=4)
        )
    assert bits(base.model) == before
