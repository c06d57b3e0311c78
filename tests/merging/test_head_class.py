"""A classifier's files open in PEFT and transformers, its head with them, and give the probabilities it gives here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.merging.export import export_peft

# Remarks of PEFT and transformers about models that get their head from elsewhere.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Specified to not (save|load) vera_A:UserWarning"),
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
]

TEXTS = ["my card is not here", "where is the money", "how can i pay the bill and the old rate"]


@pytest.fixture
def adapt_tags(engine: Any, base: Any, tmp_path: Path) -> Callable[..., Path]:
    """Train and save a tagger of words on a tiny base."""

    def adapt(name: str, strategy: str = "lora", **settings: Any) -> Path:
        from adapterhub_lite.training.config import TrainConfig

        rows = [{"tokens": text.split(), "tags": [("A", "B")[len(w) % 2] for w in text.split()]} for text in TEXTS]
        data = engine.load_data(rows, "token-classification")
        config = TrainConfig(epochs=3, batch_size=2, learning_rate=2e-2, seed=0)
        adapter = engine.train(base(name), data, strategy=strategy, settings=settings, config=config)
        adapter.save(tmp_path / "tags")
        adapter.detach()
        return tmp_path / "tags"

    return adapt


def outputs_here(engine: Any, adapter: Path, base: Any, texts: list[str]) -> list[torch.Tensor]:
    """Logits of an adapter, text by text."""
    loaded = engine.load_adapter(adapter, base=base)
    task, logits = loaded.attachment.task, []
    for text in texts:
        item = text.split() if task.name == "token-classification" else text
        example = task.encode(dataset_of(task, item), base).examples
        with torch.no_grad():
            logits.append(loaded.attachment.logits(task.collate(example, base))[0])
    loaded.detach()
    return logits


def dataset_of(task: Any, item: Any) -> Any:
    from adapterhub_lite.data.dataset import Dataset

    return Dataset(task.name, (item,), None, task.labels, {}, "<test>", "", None, form=task.preprocessing.form)


def test_a_decoders_classifier_opens_in_peft(
    engine: Any, adapt: Any, base: Any, references: Any, tmp_path: Path
) -> None:
    from peft import AutoPeftModelForSequenceClassification, PeftConfig, PeftModel
    from transformers import AutoModelForSequenceClassification

    for name, strategy, settings in (
        ("tiny-llama", "lora", {"rank": 4}),
        ("tiny-llama", "lora", {"rank": 4, "dora": True}),
        ("tiny-gpt2", "lora", {"rank": 4}),
        ("tiny-llama", "peft:ia3", {}),
        ("tiny-llama", "peft:vera", {"r": 8}),
    ):
        adapter = adapt(name, "text-classification", strategy, **settings)
        here = outputs_here(engine, adapter, base(name), TEXTS)
        export_peft(adapter, tmp_path / f"{name}-{strategy}-{len(settings)}", engine)
        for folder in (adapter, tmp_path / f"{name}-{strategy}-{len(settings)}"):
            assert PeftConfig.from_pretrained(folder).task_type == "SEQ_CLS"
            inner = AutoModelForSequenceClassification.from_pretrained(references(name), num_labels=3)
            by_hand = PeftModel.from_pretrained(inner, folder).eval()
            models = [by_hand]
            if Path(PeftConfig.from_pretrained(folder).base_model_name_or_path).is_dir():
                models.append(AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval())
            for model in models:
                for text, expected in zip(TEXTS, here, strict=True):
                    with torch.no_grad():
                        there = model(**base(name).tokenizer(text, return_tensors="pt")).logits
                    torch.testing.assert_close(there.softmax(-1), expected.softmax(-1), atol=1e-6, rtol=1e-5)


def test_transformers_itself_loads_a_decoders_classifier(engine: Any, adapt: Any, base: Any, references: Any) -> None:
    from transformers import AutoModelForSequenceClassification

    adapter = adapt("tiny-llama", "text-classification", rank=4)
    here = outputs_here(engine, adapter, base("tiny-llama"), TEXTS)
    model = AutoModelForSequenceClassification.from_pretrained(references("tiny-llama"), num_labels=3)
    model.load_adapter(str(adapter))
    model.eval()
    for text, expected in zip(TEXTS, here, strict=True):
        with torch.no_grad():
            there = model(**base("tiny-llama").tokenizer(text, return_tensors="pt")).logits
        torch.testing.assert_close(there.softmax(-1), expected.softmax(-1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-llama"])
def test_a_tagger_opens_in_peft(name: str, engine: Any, adapt_tags: Any, base: Any, references: Any) -> None:
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForTokenClassification

    adapter = adapt_tags(name, rank=4)
    here = outputs_here(engine, adapter, base(name), TEXTS)
    assert PeftConfig.from_pretrained(adapter).task_type == "TOKEN_CLS"
    inner = AutoModelForTokenClassification.from_pretrained(references(name), num_labels=2)
    model = PeftModel.from_pretrained(inner, adapter).eval()
    for text, expected in zip(TEXTS, here, strict=True):
        with torch.no_grad():
            there = model(**base(name).tokenizer(text, return_tensors="pt")).logits[0]
        words = there[1:-1] if name == "tiny-bert" else there[1:]  # a token a word, between special ones
        torch.testing.assert_close(words, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet"])
def test_an_image_classifier_opens_in_peft(name: str, engine: Any, adapt: Any, base: Any, references: Any) -> None:
    import numpy as np
    from peft import PeftModel
    from transformers import AutoModelForImageClassification

    adapter = adapt(name, "image-classification", rank=4)
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    loaded = engine.load_adapter(adapter, base=base(name))
    here = list(loaded.predict([image])[0].probabilities.values())
    loaded.detach()
    inner = AutoModelForImageClassification.from_pretrained(
        references(name), num_labels=len(here), ignore_mismatched_sizes=True
    )
    model = PeftModel.from_pretrained(inner, adapter).eval()
    with torch.no_grad():
        there = model(pixel_values=base(name).processor([image], return_tensors="pt")["pixel_values"]).logits
    assert there.softmax(-1)[0].tolist() == pytest.approx(here, abs=1e-6)
