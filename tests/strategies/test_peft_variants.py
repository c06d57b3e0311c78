"""PEFT's variants of LoRA that add to the loss or keep something, against PEFT's own models in a plain loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora.monteclora import BufferedMontecloraSampler
from plain_loop import in_peft, logged, outputs, run, targets

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_peft import adapterhub_strategies
from tests.training.conftest import equal
from tests.training.test_resume import Killed, killed_after

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning", "ignore:Found missing adapter keys"
)

KASA = {"kasa_config": {"beta": 0.01, "gamma": 0.02}}
MONTECLORA = {
    "monteclora_config": {"num_samples": 3, "sample_scaler": 0.05, "kl_loss_weight": 1e-3, "use_entropy": True}
}
VELORA = {"velora_config": {"num_groups": 8, "init_type": "batch_average_once"}}
BDLORA = {"use_bdlora": {"target_modules_bd_a": ["o_proj"], "nblocks": 2, "match_strict": False}}
SMALL = {"r": 4, "seed": 3}
VARIANTS = {"kasa": KASA, "monteclora": MONTECLORA, "velora": VELORA, "bdlora": BDLORA}


def same_parameters(adapter: Any, model: Any) -> None:
    trained = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    assert adapter.attachment.parameters.keys() == trained.keys()
    for name, parameter in adapter.attachment.parameters.items():
        torch.testing.assert_close(parameter, trained[name], rtol=1e-3, atol=2e-5)


def test_kasa_trains_as_in_peft_with_its_two_regularizers(tmp_path: Path) -> None:
    adapter = run("peft:lora", {**SMALL, **KASA}, tmp_path / "run")
    config = LoraConfig(r=4, **KASA, target_modules=targets(adapter), task_type="CAUSAL_LM")
    model, losses = in_peft(config, 3, more=lambda tuner: tuner._get_kasa_loss())
    lines = logged(tmp_path / "run")
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-4)
    assert all(line["penalty/kasa"] > 0.1 for line in lines)
    same_parameters(adapter, model)


def test_monteclora_trains_as_in_peft_on_the_samples_it_drew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, drawn = BufferedMontecloraSampler.get, []

    def noted(self: Any) -> Any:
        drawn.append(original(self))
        return drawn[-1]

    monkeypatch.setattr(BufferedMontecloraSampler, "get", noted)
    one = {"batch_size": 1}  # computed at once, so that there is one sample a step and layer
    adapter = run("peft:lora", {**SMALL, **MONTECLORA}, tmp_path / "run", **one)
    monkeypatch.setattr(BufferedMontecloraSampler, "get", lambda self: drawn.pop(0))
    config = LoraConfig(
        r=4, monteclora_config={**MONTECLORA["monteclora_config"], "buffer_size": 1}, target_modules=targets(adapter),
        task_type="CAUSAL_LM",
    )  # fmt: skip
    model, losses = in_peft(config, 3, more=lambda tuner: tuner._get_monteclora_loss(), **one)
    assert not drawn
    lines = logged(tmp_path / "run")
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-4)
    assert all(abs(line["penalty/monteclora"]) > 1e-3 for line in lines)
    same_parameters(adapter, model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_goes_on_as_if_it_had_never_been_stopped(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, options = {**SMALL, **VARIANTS[variant]}, {"checkpoint_every": 2, "steps": 6}
    whole = run("peft:lora", settings, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            run("peft:lora", settings, tmp_path / "cut", **options)
    again = run("peft:lora", settings, tmp_path / "cut", resume=True, **options)
    assert equal(dict(again.attachment.tensors), dict(whole.attachment.tensors))
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")

    expected = outputs(whole.base.model)
    whole.save(tmp_path / "saved")
    whole.detach()
    assert torch.equal(outputs(whole.base.model), outputs(tiny_base("decoder").model))
    loaded = Engine(progress=Silent()).load_adapter(tmp_path / "saved", base=whole.base)
    loaded.use()
    assert torch.equal(outputs(loaded.base.model), expected)
    loaded.detach()
    opened = PeftModel.from_pretrained(tiny_base("decoder").model, tmp_path / "saved").eval()
    torch.testing.assert_close(outputs(opened), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", [*VARIANTS, "pvera"])
def test_a_layer_that_is_computed_again_is_the_same(variant: str, tmp_path: Path) -> None:
    strategy, own = ("peft:lora", VARIANTS[variant]) if variant in VARIANTS else ("peft:pvera", {"generator_seed": 5})
    for again in (False, True):
        run(strategy, {**SMALL, **own}, tmp_path / f"{again}", steps=3, activation_checkpointing=again)
    lines = [[line["grad_norm"] for line in logged(tmp_path / f"{again}")] for again in (False, True)]
    assert lines[0] == pytest.approx(lines[1], rel=1e-5)


def test_sampled_updates_go_on_as_if_they_had_never_been_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, options = {**SMALL, "generator_seed": 5}, {"checkpoint_every": 2, "steps": 6}
    whole = run("peft:pvera", settings, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            run("peft:pvera", settings, tmp_path / "cut", **options)
    again = run("peft:pvera", settings, tmp_path / "cut", resume=True, **options)
    assert equal(dict(again.attachment.tensors), dict(whole.attachment.tensors))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_that_peft_does_not_have_for_four_bits_is_refused(engine: Any, variant: str) -> None:
    base = tiny_base("decoder", quantization="nf4")
    before = outputs(base.model)
    with pytest.raises(
        NotSupportedError, match=r"peft:lora.*(does not support|has no (kasa|monteclora|velora|use_bd))"
    ):
        engine.train(base, completions(), strategy="peft:lora", settings={**SMALL, **VARIANTS[variant]})
    assert torch.equal(outputs(base.model), before)


def test_variants_that_do_not_begin_at_the_base_say_so() -> None:
    spec = next(spec for spec in adapterhub_strategies() if spec.name == "peft:lora")
    assert spec.traits_of(spec.config()).identity_at_init
    moved = [{"init_lora_weights": False}, {"kasa_config": {}}, {"monteclora_config": {}}]
    assert not any(spec.traits_of(spec.config.model_validate(options)).identity_at_init for options in moved)
