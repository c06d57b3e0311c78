"""What a strategy reaches is said before training, and what no gradient meets is an error that names it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from listening import Listening
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from adapterhub_lite.base.loading import adopt
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.reach import JUDGED_AFTER, Met

TEXTS = [{"text": "the card is lost where is it"}, {"text": "my money is pending please help"}]


@pytest.mark.parametrize(
    ("strategy", "settings", "line"),
    [
        ("lora", {}, "lora reached 21 of 21 weight matrices of the layers ({all} of the base's weights)"),
        (
            "lora",
            {"targets": "q_proj,k_proj"},
            "lora reached 6 of 21 weight matrices of the layers ({some} of the base's weights); left: 3 mlp.down_proj, "
            "3 mlp.gate_proj, 3 mlp.up_proj, 3 self_attn.o_proj, and 1 more kinds",
        ),
        ("full", {"top_layers": 1}, "full reached 7 of 21 weight matrices of the layers ({third} of the base's weights); "
         "left: 2 mlp.down_proj, 2 mlp.gate_proj, 2 mlp.up_proj, 2 self_attn.o_proj, and 3 more kinds"),
        ("prefix", {}, None),
    ],
)  # fmt: skip
def test_reach_is_said_and_kept(base: Any, strategy: str, settings: dict[str, Any], line: str | None) -> None:
    progress = Listening()
    engine, loaded = Engine(progress=progress), base("tiny-llama")
    matrix, wide = 32 * 32, 32 * 48  # q and o; k and v are half; gate, up, down
    layer = 3 * matrix + 3 * wide
    shares = {"all": 3 * layer, "some": 3 * matrix * 1.5, "third": layer}
    adapter = engine.train(
        loaded, engine.load_data(TEXTS, "causal-lm"), strategy=strategy, settings=settings,
        config=TrainConfig(steps=1, batch_size=2),
    )  # fmt: skip
    adapter.detach()
    said = [text for text in progress.lines if " reached " in text]
    expected = line and line.format(**{name: f"{part / loaded.parameters:.1%}" for name, part in shares.items()})
    assert said == ([expected] if expected else [])
    assert adapter.training.get("reach") == (expected and expected.partition(" ")[2])


def test_what_a_model_passes_by_is_refused(base: Any, engine: Engine) -> None:
    """Jamba's dt_proj is not called: its weight is given to a kernel."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING["jamba"](
        hidden_size=32, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=120, num_experts=4, num_experts_per_tok=2, attn_layer_period=2, attn_layer_offset=1,
        expert_layer_period=2, expert_layer_offset=1, pad_token_id=0,
    )  # fmt: skip
    loaded = adopt(AutoModelForCausalLM.from_config(config), base("tiny-llama").tokenizer)
    data = engine.load_data(TEXTS, "causal-lm")
    config = TrainConfig(steps=9, batch_size=2)
    with pytest.raises(TrainingError, match=r"no gradient reached '.*dt_proj.lora_A.weight' in 5 steps, nor 1 other"):
        engine.train(loaded, data, strategy="lora", settings={"targets": "dt_proj,q_proj"}, config=config)
    with pytest.raises(TrainingError, match="nothing that lora trains has a part in the loss"):
        engine.train(loaded, data, strategy="lora", settings={"targets": "dt_proj"}, config=config)


def met(names: list[str], **strategy: Any) -> tuple[Met, dict[str, nn.Parameter]]:
    tensors = {name: nn.Parameter(torch.ones(2)) for name in names}
    attachment: Any = SimpleNamespace(
        parameters=tensors, view=SimpleNamespace(copied=set()), strategy=SimpleNamespace(**strategy),
        provided=SimpleNamespace(spec=SimpleNamespace(name="lora")),
    )  # fmt: skip
    return Met(attachment), tensors


def test_an_expert_that_no_token_chose_is_no_fault() -> None:
    judged, tensors = met(["layers.0.experts.0.w1", "layers.0.experts.1.w1"])
    tensors["layers.0.experts.1.w1"].grad = torch.tensor([0.0, 1.0])
    judged.look(tensors)
    judged.judge(JUDGED_AFTER, ended=True)


def test_none_and_zero_are_no_gradient_and_one_is_enough() -> None:
    judged, tensors = met(["a", "b", "tokens.input"])
    tensors["a"].grad = torch.zeros(2)
    for step in range(1, JUDGED_AFTER):
        judged.look(tensors)
        judged.judge(step, ended=False)
    tensors["b"].grad = torch.ones(2)
    judged.look(tensors)
    with pytest.raises(TrainingError, match="no gradient reached 'a' in 5 steps:"):
        judged.judge(JUDGED_AFTER, ended=False)


def test_a_schedule_has_the_whole_run() -> None:
    judged, tensors = met(["a"], after_step=print)
    judged.look(tensors)
    judged.judge(JUDGED_AFTER, ended=False)
    with pytest.raises(TrainingError, match="in 20 steps"):
        judged.judge(20, ended=True)
