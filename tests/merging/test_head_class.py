"""A classifier's files open in PEFT and transformers, its head with them, and give the probabilities it gives here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.merging.export import export_peft
from adapterhub_lite.merging.merge import merge_adapter
from adapterhub_lite.scoring.decision import DecisionRecord, TemperatureRecord

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


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet", "mobilenet"])
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


def merged_class(engine: Any, adapter: Path, out: Path) -> str | None:
    merged = merge_adapter(engine, adapter, out, device="cpu", alone=True)
    assert merged.report.largest_difference <= 1e-5 * max(1.0, merged.report.largest_logit)
    return merged.opens_as


def test_a_temperature_goes_into_the_head_of_a_merged_classifier(
    engine: Any, adapt: Any, base: Any, tmp_path: Path
) -> None:
    from transformers import pipeline

    loaded = engine.load_adapter(adapt("tiny-llama", "text-classification", "lora"), base=base("tiny-llama"))
    before = [p.probabilities for p in loaded.predict(TEXTS)]
    found = TemperatureRecord(value=2.5, rows=30, loss_before=1.0, loss_after=0.5)
    loaded.attachment.task.decision = DecisionRecord(temperature=found)
    here = [p.probabilities for p in loaded.predict(TEXTS)]
    loaded.save(tmp_path / "adapter")
    loaded.detach()
    assert here[0] != pytest.approx(before[0], abs=1e-3)
    merged_class(engine, tmp_path / "adapter", tmp_path / "out")
    answers = pipeline("text-classification", str(tmp_path / "out"))(TEXTS, top_k=None)
    for ours, theirs in zip(here, answers, strict=True):
        assert {t["label"]: t["score"] for t in theirs} == pytest.approx(dict(ours), abs=1e-5)
    beside = engine.load_adapter(tmp_path / "out" / "head")
    assert [p.probabilities for p in beside.predict(TEXTS)] == [pytest.approx(p, abs=1e-5) for p in here]


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gpt2", "smollm2-4"])
@pytest.mark.parametrize("strategy", ["lora", "full", "peft:oft"])
def test_a_merged_decoders_classifier_in_a_pipeline(
    name: str, strategy: str, engine: Any, adapt: Any, base: Any, tmp_path: Path
) -> None:
    """Labels, tokenizer, template and generation config are there, and batches may be padded."""
    from transformers import AutoTokenizer, pipeline

    if strategy == "peft:oft" and name == "tiny-gpt2":
        pytest.skip("PEFT's OFT does not do GPT-2's layers")
    adapter = adapt(name, "text-classification", strategy)
    assert merged_class(engine, adapter, tmp_path / "out") == f"{'GPT2' if 'gpt2' in name else 'Llama'}{SEQUENCE}"
    loaded = engine.load_adapter(adapter, base=base(name))
    here = loaded.predict(TEXTS)
    loaded.detach()
    answers = pipeline("text-classification", str(tmp_path / "out"))
    for there in (answers(TEXTS, top_k=None), answers(TEXTS, top_k=None, batch_size=3)):
        for ours, theirs in zip(here, there, strict=True):
            assert theirs[0]["label"] == ours.label
            assert {t["label"]: t["score"] for t in theirs} == pytest.approx(dict(ours.probabilities), abs=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == base(name).tokenizer.chat_template
    assert (tmp_path / "out" / "generation_config.json").is_file()
    assert not any("lm_head" in key for key in tensors_in(tmp_path / "out"))


SEQUENCE = "ForSequenceClassification"


def tensors_in(folder: Path) -> set[str]:
    from safetensors import safe_open

    keys: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            keys |= set(tensors.keys())
    return keys


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-llama", "minilm"])
def test_a_merged_tagger_in_a_pipeline(name: str, engine: Any, adapt_tags: Any, base: Any, tmp_path: Path) -> None:
    from transformers import pipeline

    adapter = adapt_tags(name, rank=4)
    assert "ForTokenClassification" in (merged_class(engine, adapter, tmp_path / "out") or "")
    loaded = engine.load_adapter(adapter, base=base(name))
    text = TEXTS[0]
    ours = loaded.predict([text.split()])[0]
    loaded.detach()
    theirs = pipeline("token-classification", str(tmp_path / "out"), ignore_labels=[])(text)
    words = [t for t in theirs if t["word"] in text.split()]
    assert [t["entity"] for t in words] == list(ours.tags)
    assert [t["score"] for t in words] == pytest.approx(list(ours.probabilities), abs=1e-5)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet", "mobilenet"])
def test_a_merged_image_classifier_in_a_pipeline(name: str, engine: Any, adapt: Any, base: Any, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image
    from transformers import pipeline

    adapter = adapt(name, "image-classification", rank=4)
    assert "ForImageClassification" in (merged_class(engine, adapter, tmp_path / "out") or "")
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    loaded = engine.load_adapter(adapter, base=base(name))
    ours = loaded.predict([picture])[0]
    loaded.detach()
    theirs = pipeline("image-classification", str(tmp_path / "out"))(picture, top_k=10)
    assert {t["label"]: t["score"] for t in theirs} == pytest.approx(dict(ours.probabilities), abs=1e-5)


def test_several_labels_in_a_pipeline(engine: Any, base: Any, tmp_path: Path) -> None:
    from transformers import pipeline

    from adapterhub_lite.training.config import TrainConfig

    rows = [{"text": text, "labels": ["x", "y"][: n % 3]} for n, text in enumerate(TEXTS * 2)]
    data = engine.load_data(rows, "text-classification")
    config = TrainConfig(epochs=2, batch_size=2, learning_rate=2e-2, seed=0)
    adapter = engine.train(base("tiny-llama"), data, settings={"rank": 4}, config=config)
    adapter.save(tmp_path / "several")
    here = adapter.predict(TEXTS)
    adapter.detach()
    merged_class(engine, tmp_path / "several", tmp_path / "out")
    there = pipeline("text-classification", str(tmp_path / "out"))(TEXTS, top_k=None)
    for ours, theirs in zip(here, there, strict=True):
        assert {t["label"]: t["score"] for t in theirs} == pytest.approx(dict(ours.probabilities), abs=1e-5)


def test_shards_are_renamed_and_the_output_layer_is_left_out(
    engine: Any, adapt: Any, references: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    parts = tmp_path / "parts"
    AutoModelForCausalLM.from_pretrained(references("tiny-llama"), dtype="bfloat16").save_pretrained(
        parts, max_shard_size="20KB"
    )
    AutoTokenizer.from_pretrained(references("tiny-llama")).save_pretrained(parts)
    adapter = adapt(str(parts), "text-classification", rank=4)
    merged = merge_adapter(engine, adapter, tmp_path / "out", device="cpu", alone=True)
    assert merged.opens_as == f"Llama{SEQUENCE}"
    model, loading = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.id2label == {0: "0", 1: "1", 2: "2"}


@pytest.mark.parametrize(
    ("name", "why", "settings"),
    [
        ("tiny-bert", "BertForSequenceClassification has more between", {"rank": 4}),
        ("tiny-squeezebert", "SqueezeBertForSequenceClassification takes other features", {"rank": 4}),
    ],
)
def test_a_head_that_no_class_holds_is_refused(
    name: str, why: str, settings: dict[str, Any], engine: Any, adapt: Any, tmp_path: Path
) -> None:
    adapter = adapt(name, "text-classification", **settings)
    with pytest.raises(NotSupportedError, match=rf"{why}.*--to peft"):
        merge_adapter(engine, adapter, tmp_path / "out", device="cpu", alone=True)
    assert not (tmp_path / "out").exists()
    merged = merge_adapter(engine, adapter, tmp_path / "out", device="cpu")
    assert merged.no_class is not None
    assert why in merged.no_class
    assert merged.head == tmp_path / "out" / "head"


def test_force_is_refused_where_no_base_is_loaded(engine: Any, adapt: Any, run: Any, tmp_path: Path) -> None:
    for to in ("gguf", "peft"):
        done = run("export", adapt("tiny-llama", "causal-lm", rank=4), "--to", to, "--force", "--out", tmp_path / to)
        assert done.code == 2
        assert "leave it out" in done.err
        assert not (tmp_path / to).exists()
