"""PEFT's methods that choose what to keep while they train, against PEFT's own models in a plain loop on the same batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from plain_loop import STEPS, in_peft, logged, outputs, run, targets

from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from tests.training.conftest import equal
from tests.training.test_resume import Killed, killed_after

ADALORA = {"init_r": 6, "target_r": 2, "tinit": 2, "tfinal": 3, "deltaT": 2, "seed": 3}

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning",
    "ignore:Adapter 'default'.*invalid shape",
    "ignore:The following rank_pattern keys",
)  # all of them PEFT's, of its own files as well


def left(values: dict[str, torch.Tensor]) -> list[int]:
    """Singular values of each layer that are not zero."""
    return [int((value != 0).sum()) for name, value in sorted(values.items()) if "lora_E" in name]


def test_ranks_of_adalora_fall_as_pefts_do_step_for_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterhub_peft.adaptive import AdaLora

    ours: list[list[int]] = []
    original = AdaLora.after_step

    def watched(self: Any, view: Any, config: Any, parameters: Any, step: int, total: int) -> None:
        original(self, view, config, parameters, step, total)
        ours.append(left(parameters))

    monkeypatch.setattr(AdaLora, "after_step", watched)
    adapter = run("peft:adalora", ADALORA, tmp_path / "run")
    own = {name: value for name, value in ADALORA.items() if name != "seed"}
    config = PEFT_TYPE_TO_CONFIG_MAPPING["ADALORA"](
        **own, total_step=STEPS, target_modules=targets(adapter), task_type="CAUSAL_LM"
    )
    theirs: list[list[int]] = []
    model, losses = in_peft(config, 3, lambda model, step: theirs.append(left(dict(model.named_parameters()))))
    assert ours == theirs
    layers = len(theirs[0])
    assert sum(theirs[0]) == 6 * layers
    assert sum(theirs[-1]) == 2 * layers
    assert len(set(theirs[-1])) > 1, "the layers have ranks of their own"
    lines = logged(tmp_path / "run")
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-4)
    assert all(line["penalty/orthogonality"] > 0 for line in lines)
    trained = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in adapter.attachment.parameters.items():
        torch.testing.assert_close(parameter, trained[name], rtol=1e-3, atol=1e-5)

    adapter.use()
    expected = outputs(adapter.base.model)
    torch.testing.assert_close(outputs(model), expected, rtol=1e-3, atol=1e-4)
    adapter.save(tmp_path / "saved")
    model.save_pretrained(tmp_path / "theirs")
    files = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("saved", "theirs")]
    assert files[0]["rank_pattern"] == files[1]["rank_pattern"]
    assert files[0]["total_step"] == files[1]["total_step"] == STEPS
    opened = PeftModel.from_pretrained(tiny_base("decoder").model, tmp_path / "saved").eval()
    torch.testing.assert_close(outputs(opened), expected, rtol=1e-4, atol=1e-5)

    loaded = Engine(progress=Silent()).load_adapter(tmp_path / "saved", base=tiny_base("decoder"))
    loaded.use()
    torch.testing.assert_close(outputs(loaded.base.model), expected, rtol=1e-4, atol=1e-5)
    shapes = {name: parameter.shape for name, parameter in loaded.attachment.parameters.items()}
    assert sum(shape[0] for name, shape in shapes.items() if name.endswith("lora_E")) == 2 * layers
    loaded.save(tmp_path / "again")
    saved = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("saved", "again")]
    assert saved[0] == saved[1]


@pytest.mark.parametrize("killed", [5, 10])
def test_adalora_goes_on_as_if_it_had_never_been_stopped(
    killed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while ranks fall, and after the last cut; averages, ranks and the file are the same to the bit."""
    options = {"checkpoint_every": 2}
    whole = run("peft:adalora", ADALORA, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, killed)
        with pytest.raises(Killed):
            run("peft:adalora", ADALORA, tmp_path / "cut", **options)
    again = run("peft:adalora", ADALORA, tmp_path / "cut", resume=True, **options)
    assert equal(dict(again.attachment.tensors), dict(whole.attachment.tensors))
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    for adapter, name in ((whole, "a"), (again, "b")):
        adapter.save(tmp_path / name)
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_r": 4, "target_r": 4}, "ranks fall from init_r=4 to target_r=4, which has to be lower"),
        ({"tinit": 6, "tfinal": 6}, "of 12 steps, tinit=6 and tfinal=6 leave none in which ranks fall"),
        ({"total_step": 4, "tinit": 4}, "PEFT refuses these options: .*Decrease `tfinal`/`tinit`"),
        ({"beta1": 1.0}, "beta1.*less than 1"),
        ({"deltaT": 0}, "deltaT.*greater than or equal to 1"),
        ({"rank_pattern": {"nowhere.lora_E": [True]}}, "cannot be attached"),
    ],
)
def test_a_schedule_of_adalora_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, NotSupportedError), match=f"(?s){message}"):
        run("peft:adalora", settings)


@pytest.mark.parametrize(
    "options", [{"average": True}, {"steps": 5}], ids=["an average", "in the middle of the schedule"]
)
def test_what_is_cut_from_a_file_of_adalora_adds_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    adapter = run("peft:adalora", {**ADALORA, "tfinal": 0, "deltaT": 3, "total_step": STEPS}, **options)
    adapter.use()
    expected = outputs(adapter.base.model)
    adapter.save(tmp_path / "saved")
    loaded = Engine(progress=Silent()).load_adapter(tmp_path / "saved", base=tiny_base("decoder"))
    loaded.use()
    torch.testing.assert_close(outputs(loaded.base.model), expected, rtol=1e-4, atol=1e-5)


def test_a_last_cut_whose_step_is_not_applied_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterhub_peft.adaptive import AdaLora

    penalty, calls = AdaLora.penalty, []

    def broken_once(self: Any, config: Any, parameters: Any) -> Any:
        calls.append(1)
        lost = float("nan") if len(calls) == STEPS - ADALORA["tfinal"] else 1.0
        return {"orthogonality": penalty(self, config, parameters)["orthogonality"] * lost}

    monkeypatch.setattr(AdaLora, "penalty", broken_once)
    ranks = left(dict(run("peft:adalora", {**ADALORA, "deltaT": 5}).attachment.parameters))
    assert sum(ranks) == ADALORA["target_r"] * len(ranks)


def test_a_run_of_one_step_leaves_the_ranks_of_adalora(tmp_path: Path) -> None:
    adapter = run("peft:adalora", {"init_r": 4, "target_r": 2}, steps=1)
    ranks = [len(tensor) for name, tensor in adapter.attachment.parameters.items() if name.endswith("lora_E")]
    assert set(ranks) == {4}
    adapter.save(tmp_path / "saved")


ADAMSS = {
    "r": 8, "num_subspaces": 3, "subspace_rank": 2, "use_asa": True, "asa_target_subspaces": 10, "init_warmup": 2,
    "final_warmup": 9, "mask_interval": 3, "seed": 3,
}  # fmt: skip


def training(parameters: dict[str, torch.nn.Parameter]) -> list[bool]:
    return [parameter.requires_grad for name, parameter in sorted(parameters.items()) if "adamss_" in name]


def test_subspaces_of_adamss_stop_as_pefts_do_step_for_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterhub_peft.adaptive import AdaMss

    ours: list[list[bool]] = []
    original = AdaMss.after_step

    def watched(self: Any, view: Any, config: Any, parameters: Any, step: int, total: int) -> None:
        original(self, view, config, parameters, step, total)
        ours.append(training(parameters))

    monkeypatch.setattr(AdaMss, "after_step", watched)
    adapter = run("peft:adamss", ADAMSS, tmp_path / "run")
    own = {name: value for name, value in ADAMSS.items() if name != "seed"}
    config = PEFT_TYPE_TO_CONFIG_MAPPING["ADAMSS"](**own, target_modules=targets(adapter), task_type="CAUSAL_LM")
    theirs: list[list[bool]] = []
    model, losses = in_peft(config, 3, lambda model, step: theirs.append(training(dict(model.named_parameters()))))
    assert ours == theirs
    assert all(theirs[0])
    assert 0 < sum(theirs[-1]) < len(theirs[-1]) / 2
    assert [line["loss"] for line in logged(tmp_path / "run")] == pytest.approx(losses, rel=1e-4)
    trained = {name.replace(".default", ""): p for name, p in model.named_parameters() if "adamss_" in name}
    for name, parameter in adapter.attachment.parameters.items():
        torch.testing.assert_close(parameter, trained[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("killed", [4, 7])
def test_adamss_goes_on_as_if_it_had_never_been_stopped(
    killed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"checkpoint_every": 2}
    whole = run("peft:adamss", ADAMSS, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, killed)
        with pytest.raises(Killed):
            run("peft:adamss", ADAMSS, tmp_path / "cut", **options)
    again = run("peft:adamss", ADAMSS, tmp_path / "cut", resume=True, **options)
    assert equal(dict(again.attachment.tensors), dict(whole.attachment.tensors))
    assert training(dict(again.attachment.parameters)) == training(dict(whole.attachment.parameters))
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_warmup": 7, "mask_interval": 13}, "from step init_warmup=7 to 9, and there are none"),
        ({"asa_target_subspaces": 1}, "asa_target_subspaces=1 has stopped every subspace at step"),
    ],
)
def test_a_schedule_of_adamss_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run("peft:adamss", {**ADAMSS, **settings})
