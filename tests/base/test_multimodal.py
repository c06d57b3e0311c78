"""Checkpoints that look at pictures as well: their language part is the base, and PEFT opens what is trained on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from multimodal import FAMILIES, write
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification

from adapterhub_lite.base.loading import adopt
from adapterhub_lite.base.quantization import is_quantized
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.merging.merge import merge_adapter
from adapterhub_lite.training.config import TrainConfig

# PEFT asks transformers in a way that transformers is giving up; nothing of ours is involved.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

TEXTS = [{"text": "the card is lost"}, {"text": "my money is pending please help"}]
LABELS = [{"text": "good money", "label": "good"}, {"text": "bad card", "label": "bad"}]
TOWERS = ("vision_tower", "visual", "vision_model", "projector", "connector", "embed_vision")


@pytest.fixture
def made(tmp_path: Path, base: Any) -> Callable[..., tuple[Any, str]]:
    """A family's model, and the folder that it is in."""
    tokenizer = base("tiny-llama").tokenizer

    def made(family: str, **sizes: int) -> tuple[Any, str]:
        return write(family, tmp_path / family, tokenizer, **sizes), str(tmp_path / family)

    return made


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    ids = tokenizer("where is my new card", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        given: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return given


def test_a_decoder_that_attends_to_what_comes_after_cannot_learn_to_continue(made: Any, engine: Any) -> None:
    """PaliGemma takes a text without a picture as a prefix, all of which each token attends to."""
    _, folder = made("paligemma")
    base = engine.load_base(folder, dtype="float32", device="cpu")
    assert base.left_out
    with pytest.raises(NotSupportedError, match="depends on the padding behind a text"):
        engine.train(base, engine.load_data(TEXTS, "causal-lm"), strategy="lora")
    classified = engine.load_data(LABELS, "text-classification")
    engine.train(base, classified, strategy="lora", config=TrainConfig(steps=2, batch_size=2)).detach()


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "paligemma"])
def test_language_part_alone_is_adapted_and_opens_in_peft(family: str, made: Any, engine: Any, tmp_path: Path) -> None:
    model, folder = made(family)
    base = engine.load_base(folder, dtype="float32", device="cpu")
    assert torch.equal(logits(base.model, base.tokenizer), logits(model, base.tokenizer))
    assert base.left_out
    assert base.map.output is not None
    inside = [name for name in base.model.state_dict() if any(tower in name for tower in TOWERS)]
    assert not inside  # of memory

    config = TrainConfig(steps=2, batch_size=2, learning_rate=1e-2)
    adapter = engine.train(base, engine.load_data(TEXTS, "causal-lm"), strategy="lora", config=config)
    tensors = adapter.attachment.tensors
    assert not [name for name in tensors if any(tower in name for tower in TOWERS)]
    assert all(bool(tensor.any()) for tensor in tensors.values())
    adapter.save(tmp_path / "adapter")
    ours = logits(base.model, base.tokenizer)
    adapter.detach()
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    assert (ours - logits(model, base.tokenizer)).abs().max() > 1e-3
    assert torch.allclose(logits(theirs, base.tokenizer), ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["gemma3", "qwen2_5_vl"])
def test_merged_model_still_sees(family: str, made: Any, engine: Any, tmp_path: Path) -> None:
    """What was left out of memory is in the merged folder, weight by weight and where the whole model is loaded."""
    model, folder = made(family)
    base = engine.load_base(folder, dtype="float32", device="cpu")
    for strategy in ("lora", "peft:vera"):
        config = TrainConfig(steps=2, batch_size=2, learning_rate=1e-2)
        adapter = engine.train(base, engine.load_data(TEXTS, "causal-lm"), strategy=strategy, config=config)
        adapter.save(tmp_path / "adapter")
        adapter.detach()
        merged = merge_adapter(engine, tmp_path / "adapter", tmp_path / strategy.replace(":", "-"))
        assert merged.sharded == (strategy == "lora")
        opened = AutoModelForImageTextToText.from_pretrained(merged.path, dtype=torch.float32).state_dict()
        before = model.state_dict()
        assert opened.keys() == before.keys()
        for name in before:
            if any(tower in name for tower in TOWERS):
                assert torch.equal(opened[name], before[name]), name


def test_quantized(made: Any, engine: Any) -> None:
    """The prepared form holds the whole model, and each load leaves the tower out again."""
    _, folder = made("gemma3", hidden_size=64)  # narrower layers are kept unpacked
    for _ in range(2):
        base = engine.load_base(folder, quantization="nf4", dtype="float32", device="cpu")
        assert base.left_out == ("model.vision_tower", "model.multi_modal_projector")
        assert any(is_quantized(base.model.get_submodule(path)) for path in base.map.linears)


def test_classifier_opens_in_its_class(made: Any, engine: Any, tmp_path: Path) -> None:
    _, folder = made("gemma3")
    base = engine.load_base(folder, dtype="float32", device="cpu")
    config = TrainConfig(steps=2, batch_size=2, learning_rate=1e-2)
    adapter = engine.train(base, engine.load_data(LABELS, "text-classification"), strategy="lora", config=config)
    adapter.save(tmp_path / "adapter")
    ours = adapter.predict(["good card"])[0].probabilities
    adapter.detach()
    plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=2)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    ids = base.tokenizer("good card", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        scores = theirs(input_ids=ids).logits.softmax(-1)[0]
    assert torch.allclose(scores, torch.tensor(list(ours.values())), atol=1e-5)


@pytest.mark.parametrize("strategy", ["lora", "full", "peft:ia3"])
def test_tower_of_a_model_in_memory_is_frozen(strategy: str, made: Any, engine: Any) -> None:
    """A model that a program loaded by itself keeps its tower, which no strategy trains, asked for by name or not."""
    model, folder = made("gemma3")
    tokenizer = engine.load_base(folder, dtype="float32", device="cpu").tokenizer
    base = adopt(model, tokenizer)
    assert base.map.unreached == ("model.vision_tower", "model.multi_modal_projector")
    settings = {"targets": "q_proj,k_proj"} if strategy != "full" else {}
    config = TrainConfig(steps=1, batch_size=2, learning_rate=1e-2)
    data = engine.load_data(TEXTS, "causal-lm")
    adapter = engine.train(base, data, strategy=strategy, settings=settings, config=config)
    assert not [name for name in adapter.attachment.tensors if any(tower in name for tower in TOWERS)]
    adapter.detach()


def test_model_that_takes_no_text_alone_is_refused(made: Any, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = made("gemma3")

    def looks(*_: Any, pixel_values: Any = None, **__: Any) -> None:
        if pixel_values is None:
            raise ValueError("pixel_values are needed")

    monkeypatch.setattr(model, "forward", looks)
    with pytest.raises(
        NotSupportedError, match=r"Gemma3ForC.* cannot be run on a text alone \(ValueError: pixel_values are needed"
    ):
        adopt(model, base("tiny-llama").tokenizer)
