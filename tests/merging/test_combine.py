"""Adapters combined are what the arithmetic says, and PEFT's own combination is beside it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapterhub_lite.errors import BaseMismatchError, ConfigError, NotSupportedError
from adapterhub_lite.merging.combine import combine_adapters
from adapterhub_lite.scoring.decision import PLAIN, AbstentionRecord, DecisionRecord
from adapterhub_lite.storage import read_adapter, rewrite_task
from adapterhub_lora import LoraConfig
from adapterhub_lora.factors import factors_of

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in PEFT

KINDS = {"plain": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}
TASK = ("tiny-llama", "causal-lm")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "adapter_model.safetensors")


def updates(path: Path) -> dict[str, torch.Tensor]:
    """What the adapter adds to each weight."""
    config = json.loads((path / "adapterhub.json").read_text())["strategy"]["config"]
    plain = {name: tensor for name, tensor in tensors(path).items() if not name.startswith("head.")}
    return {path: factors.product() for path, factors in factors_of(LoraConfig(**config), plain).items()}


@pytest.mark.parametrize("method", ["linear", "cat"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_adapter_at_weight_one_is_itself(
    kind: str, method: str, engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path, logits_of: Any
) -> None:
    adapter = adapt(*TASK, rank=4, **KINDS[kind])
    base = load(references("tiny-llama"))
    combine_adapters(engine, [adapter], tmp_path / "same", weights=[1.0], method=method, base=base)
    before, after = tensors(adapter), tensors(tmp_path / "same")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = "adapter_config.json"
    assert json.loads((adapter / config).read_text()) == json.loads((tmp_path / "same" / config).read_text())
    assert torch.equal(logits_of(adapter, base), logits_of(tmp_path / "same", base))


def test_what_one_of_them_was_shown_is_not_said_of_all(
    engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    base, adapter = load(references("tiny-llama")), adapt(*TASK, rank=4)

    def learnt(path: Path) -> Any:
        preprocessing = json.loads((path / "adapterhub.json").read_text())["task"]["preprocessing"]
        return preprocessing.get("facts", {}).get("learnt")

    assert learnt(adapter)["digest"]
    combine_adapters(engine, [adapter], tmp_path / "same", weights=[1.0], base=base)
    assert learnt(tmp_path / "same") == learnt(adapter)
    combine_adapters(engine, [adapter, adapter], tmp_path / "both", weights=[0.5, 0.5], base=base)
    assert learnt(tmp_path / "both") is None


@pytest.mark.parametrize("kind", KINDS)
def test_peft_changes_a_single_adapter_at_weight_one(kind: str, adapt: Any, references: Any) -> None:
    """What PEFT's `add_weighted_adapter` does with the same; a combination of nothing should change nothing."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(references("tiny-llama"))
    wrapped = PeftModel.from_pretrained(model, adapt(*TASK, rank=4, **KINDS[kind])).eval()
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        before = wrapped(ids).logits
        wrapped.add_weighted_adapter(["default"], [1.0], "combined", combination_type="linear")
        wrapped.set_adapter("combined")
        after = wrapped(ids).logits
        with wrapped.disable_adapter():
            bare = wrapped(ids).logits
    changed = float((after - before).norm() / (before - bare).norm())
    print(f"PEFT, {kind}: {changed:.1%} of the adapter's effect on the logits is changed")
    if kind == "plain":
        assert changed < 1e-5
    else:
        assert changed > 0.05


@pytest.mark.parametrize("method", ["linear", "cat"])
def test_weighted_sum_is_exact_over_ranks_scales_and_targets(
    method: str, engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    first = adapt(*TASK, rank=4, rslora=True)
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 7.0}}
    second = adapt(*TASK, rank=3, alpha=5.0, targets="attention", seed=1, **patterns)
    base = load(references("tiny-llama"))
    made = combine_adapters(engine, [first, second], tmp_path / "sum", weights=[0.7, -0.3], method=method, base=base)
    one, two, total = updates(first), updates(second), updates(tmp_path / "sum")
    assert made.rank == 7
    assert made.lost == 0
    assert total.keys() == one.keys() > two.keys()
    layer, saved = "model.layers.0.self_attn.q_proj", tensors(second)
    a, b = (saved[f"base_model.model.{layer}.lora_{half}.weight"] for half in "AB")
    assert len(a) == 2
    torch.testing.assert_close(two[layer], 7.0 / 2 * b @ a)
    for path in total:
        expected = 0.7 * one[path] - 0.3 * two.get(path, torch.zeros(()))
        torch.testing.assert_close(total[path], expected, rtol=1e-5, atol=1e-6)


def test_trained_biases_are_not_added(engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path) -> None:
    paths = [adapt("tiny-gpt2", "causal-lm", rank=2, bias="all"), adapt("tiny-gpt2", "causal-lm", rank=2)]
    with pytest.raises(NotSupportedError, match=r"trains biases of the base too \(bias=all\)"):
        combine_adapters(engine, paths, tmp_path / "sum", weights=[0.5, 0.5], base=load(references("tiny-gpt2")))
    assert not (tmp_path / "sum").exists()


def test_sum_opens_in_peft_and_gives_the_same(
    engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    paths = [adapt(*TASK, rank=4), adapt(*TASK, rank=4, seed=1)]
    base = load(references("tiny-llama"))
    combine_adapters(engine, paths, tmp_path / "sum", weights=[0.5, 0.5], base=base)
    ours = engine.load_adapter(tmp_path / "sum", base=base)
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(references("tiny-llama")), tmp_path / "sum"
    ).eval()
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        ours.use()
        torch.testing.assert_close(base.model(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)
    ours.detach()


def test_rank_cuts_down_to_the_best_approximation(
    engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    paths = [adapt(*TASK, rank=4), adapt(*TASK, rank=4, seed=1)]
    base = load(references("tiny-llama"))
    made = combine_adapters(engine, paths, tmp_path / "cut", rank=5, base=base)
    whole = {path: updates(paths[0])[path] + updates(paths[1])[path] for path in updates(paths[0])}
    assert made.rank == 5
    worst = 0.0
    for path, update in updates(tmp_path / "cut").items():
        best = torch.linalg.svdvals(whole[path])[5:].norm()
        torch.testing.assert_close((update - whole[path]).norm(), best, rtol=1e-3, atol=1e-4)
        worst = max(worst, float(best / whole[path].norm()))
    assert made.lost == pytest.approx(worst, rel=1e-3)
    assert 0 < made.lost < 0.7


def test_ties_and_dare_on_updates_known_by_heart() -> None:
    from adapterhub_lora.factors import Factors, combine_layer

    eye = torch.eye(3)
    one = Factors(eye, torch.tensor([[4.0, 0.1, -2.0], [0.0, 0.0, 0.0], [1.0, 0.2, 0.1]]))
    two = Factors(eye, torch.tensor([[2.0, 0.1, 3.0], [0.0, 0.0, 0.0], [-1.5, 0.1, 0.2]]))
    parts = [(1.0, one), (1.0, two)]
    random = torch.Generator().manual_seed(0)
    made, lost = combine_layer("x", parts, "ties", 3 / 9, 3, random)
    # Kept: 4, -2, 1 of the first and 2, 3, -1.5 of the second; the mean of those with the stronger sign, times 2.
    expected = torch.tensor([[6.0, 0.0, 6.0], [0.0, 0.0, 0.0], [-3.0, 0.0, 0.0]])
    torch.testing.assert_close(made.product(), expected, rtol=1e-5, atol=1e-5)
    assert lost == pytest.approx(0, abs=1e-6)
    made, _ = combine_layer("x", parts, "dare_linear", 1.0, 3, random)
    torch.testing.assert_close(made.product(), one.product() + two.product(), rtol=1e-5, atol=1e-5)
    draws = [combine_layer("x", parts, "dare_linear", 0.5, 3, random)[0].product() for _ in range(4000)]
    torch.testing.assert_close(torch.stack(draws).mean(dim=0), one.product() + two.product(), rtol=0.1, atol=0.2)


@pytest.mark.parametrize("method", ["ties", "dare_linear", "dare_ties"])
def test_ties_and_dare_make_an_adapter(
    method: str, engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    paths = [adapt(*TASK, rank=4), adapt(*TASK, rank=4, seed=1)]
    base = load(references("tiny-llama"))
    made = combine_adapters(engine, paths, tmp_path / "a", weights=[0.5, 0.5], method=method, base=base)
    assert made.rank == 8
    assert 0 < made.lost < 1
    combine_adapters(engine, paths, tmp_path / "b", weights=[0.5, 0.5], method=method, base=base)
    one, two = updates(tmp_path / "a"), updates(tmp_path / "b")
    for path in one:  # the seed decides; a decomposition by several threads may differ in its last bits
        torch.testing.assert_close(one[path], two[path], rtol=1e-4, atol=1e-5)


def test_heads_are_averaged(engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path) -> None:
    paths = [adapt("tiny-bert", "text-classification", rank=2, seed=seed) for seed in (0, 1)]
    base = load(references("tiny-bert"))
    combine_adapters(engine, paths, tmp_path / "mean", weights=[3, 1], base=base)
    one, two, mean = (tensors(path) for path in (*paths, tmp_path / "mean"))
    for name in ("head.weight", "head.bias"):
        torch.testing.assert_close(mean[name], 0.75 * one[name] + 0.25 * two[name])
    with pytest.raises(NotSupportedError, match="must not be negative"):
        combine_adapters(engine, paths, tmp_path / "no", weights=[1, -1], base=base)


def test_thresholds_of_one_are_not_those_of_several(
    engine: Any, adapt: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    first = adapt("tiny-bert", "text-classification", rank=4)
    manifest = read_adapter(first).manifest
    chosen = DecisionRecord(abstention=AbstentionRecord(threshold=0.5, rule="threshold=0.5", rows=0))
    shutil.copytree(first, tmp_path / "sure")
    rewrite_task(tmp_path / "sure", manifest.task.model_copy(update={"decision": chosen}))
    assert read_adapter(tmp_path / "sure").manifest.task.decision == chosen
    combine_adapters(engine, [tmp_path / "sure", first], tmp_path / "both", base=load(references("tiny-bert")))
    assert read_adapter(tmp_path / "both").manifest.task.decision == PLAIN


def test_what_does_not_add_up_is_refused(engine: Any, adapt: Any, references: Any, tmp_path: Path) -> None:
    plain, dora = adapt(*TASK, rank=4), adapt(*TASK, rank=4, dora=True)
    out = tmp_path / "no"
    with pytest.raises(NotSupportedError, match="DoRA adapter: its magnitudes rescale"):
        combine_adapters(engine, [plain, dora], out)
    with pytest.raises(NotSupportedError, match="no factor of a plain LoRA"):
        combine_adapters(engine, [dora], out, weights=[0.5])
    with pytest.raises(NotSupportedError, match="only lora combines"):
        combine_adapters(engine, [plain, adapt(*TASK, "prefix")], out)
    with pytest.raises(BaseMismatchError, match="cannot be combined"):
        combine_adapters(engine, [plain, adapt("tiny-gpt2", "causal-lm", rank=4)], out)
    with pytest.raises(NotSupportedError, match="is for text-classification"):
        combine_adapters(engine, [plain, adapt("tiny-llama", "text-classification", rank=4)], out)
    with pytest.raises(NotSupportedError, match="ties settles between adapters, and there is one"):
        combine_adapters(engine, [plain], out, method="ties")
    for wrong in ([1.0], [1.0, math.nan]):
        with pytest.raises(ConfigError, match="weights"):
            combine_adapters(engine, [plain, plain], out, weights=wrong)
    assert not out.exists()


def test_other_labels_are_refused(
    engine: Any, adapt: Any, rows_for: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    from tests.reading import load_data

    data = load_data([{"text": "my card", "label": "x"}, {"text": "the bill", "label": "y"}], "text-classification")
    other = engine.train(load(references("tiny-bert")), data, strategy="lora")
    other.save(tmp_path / "other")
    other.detach()
    first = adapt("tiny-bert", "text-classification", rank=2, seed=0)
    with pytest.raises(NotSupportedError, match="other labels"):
        combine_adapters(engine, [first, tmp_path / "other"], tmp_path / "no")
    shutil.rmtree(tmp_path / "other")
