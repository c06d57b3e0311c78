"""LoRA against PEFT: the same training, and files that PEFT opens by itself to the same outputs."""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageClassification

from adapterhub_lite.base.prepared import prepared_folder
from adapterhub_lite.data.batches import epoch_batches
from adapterhub_lite.errors import BaseNotFoundError, ConfigError, NotSupportedError
from adapterhub_lite.training import loop, step as one_step
from adapterhub_text.declared import declared_pooling

# PEFT asks transformers in a way that transformers is giving up; nothing of ours is involved.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

TASK_OF = {
    "minilm": "text-classification", "smollm2": "causal-lm", "smollm2-4": "causal-lm", "tiny-gpt2": "causal-lm",
    "tiny-squeezebert": "text-classification",
    "tiny-llama": "causal-lm", "tiny-vit": "image-classification", "mobilenet": "image-classification",
}  # fmt: skip


def plain_model(base: Any) -> Any:
    """The base, loaded anew with transformers alone."""
    folder = base.source.folder
    if base.source.gguf is not None:
        folder = prepared_folder(base.source, "none", "float32")
    kind = AutoModelForCausalLM if base.map.output else AutoModel
    options = {"add_pooling_layer": False} if type(base.model).__name__ in ("BertModel", "ViTModel") else {}
    return kind.from_pretrained(folder, dtype=torch.float32, **options).eval()


def image_classifier(base: Any, labels: int) -> Any:
    """The base in transformers' class for classifying images, its head drawn anew."""
    folder = base.source.folder
    return AutoModelForImageClassification.from_pretrained(folder, num_labels=labels, ignore_mismatched_sizes=True)


def inputs_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in batch.items() if key != "targets"}


def output(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits, or the last hidden state of a model without a head."""
    with torch.no_grad():
        hidden: torch.Tensor = model(**inputs_of(batch))[0]
    return hidden


@pytest.mark.parametrize(
    ("model", "settings", "same"),
    [
        # Dropout of the base is on in MiniLM: seeded alike, both loops draw the same masks.
        ("minilm", {"rank": 4}, {"r": 4, "lora_alpha": 8}),
        ("smollm2-4", {"rank": 4, "alpha": 6, "rslora": True}, {"r": 4, "lora_alpha": 6, "use_rslora": True}),
        ("smollm2-4", {"rank": 2, "dora": True, "targets": "attention"}, {"r": 2, "lora_alpha": 4, "use_dora": True}),
        ("smollm2-4", {"rank": 4, "dropout": 0.2, "init": "gaussian"}, {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2}),
    ],
)
def test_training_is_pefts(
    base: Any, put: Any, data_for: Any, model: str, settings: Any, same: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same start and batches in PEFT's model and a plain AdamW loop give the same losses and tensors."""
    # A padded batch in one pass, so that both draw the same dropout masks.
    monkeypatch.setattr(loop, "flattened", lambda *_, **__: nullcontext(False))
    monkeypatch.setattr(one_step, "SIMILAR", 10**9)
    steps, size, rate, decay = 5, 4, 2e-3, 0.1
    loaded = base(model)
    ours = put(loaded, data_for(TASK_OF[model]), "lora", settings)
    names = ["q_proj", "k_proj", "v_proj", "o_proj"] if settings.get("targets") else "all-linear"
    theirs = get_peft_model(plain_model(loaded), LoraConfig(target_modules=names, **same))
    head = torch.nn.Linear(loaded.map.hidden_size, 3) if ours.attachment.head is not None else None
    start = {name: tensor.detach().clone() for name, tensor in ours.attachment.tensors.items()}
    slots = {name.replace(".default", ""): p for name, p in theirs.named_parameters() if p.requires_grad}
    slots = {name.removesuffix(".weight") if "magnitude" in name else name: p for name, p in slots.items()}
    if head is not None:
        slots |= {f"head.{name}": p for name, p in head.named_parameters()}
    assert slots.keys() == start.keys()
    with torch.no_grad():
        for name, parameter in slots.items():
            parameter.copy_(start[name])

    report = ours.fit(
        steps=steps, batch_size=size, learning_rate=rate, weight_decay=decay, schedule="constant", warmup=0.0, seed=3
    )  # fmt: skip

    torch.manual_seed(3)
    trained = list(slots.values())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": decay},
            {"params": [p for p in trained if p.dim() == 1], "weight_decay": 0.0},
        ],
        lr=rate,
    )
    lengths = [example.length for example in ours.encoded.examples]
    order = [rows for epoch in range(steps) for rows in epoch_batches(len(lengths), size, seed=3, epoch=epoch)][:steps]
    theirs.train()
    losses = []
    # AdamW divides a gradient by its own size: of one that is rounding alone it makes a step of any size.
    certain = {name: torch.ones_like(slot, dtype=torch.bool) for name, slot in slots.items()}
    for rows in order:
        batch = ours.batch(sorted(rows, key=lambda row: -lengths[row]))
        if head is None:
            logits = theirs(**inputs_of(batch)).logits[:, :-1]
            loss = functional.cross_entropy(logits.flatten(0, 1), batch["targets"][:, 1:].flatten(), ignore_index=-100)
        else:
            hidden, mask = theirs(**inputs_of(batch)).last_hidden_state, batch["attention_mask"][:, :, None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            # MiniLM's features are made to be compared at one length.
            features = (
                functional.normalize(mean) * mean.shape[1] ** 0.5
                if declared_pooling(loaded.folder).normalized
                else mean
            )
            loss = functional.cross_entropy(head(features), batch["targets"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for name, slot in slots.items():
            assert slot.grad is not None
            certain[name] &= (slot.grad == 0) | (slot.grad.abs() > 1e-4 * slot.grad.abs().max())
        optimizer.step()
        losses.append(float(loss.detach()))

    assert report.losses == pytest.approx(losses, rel=1e-5)
    for name, tensor in ours.attachment.tensors.items():
        sure = certain[name]
        assert sure.float().mean() > 0.8
        torch.testing.assert_close(
            tensor[sure], slots[name][sure], rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert not torch.equal(tensor, start[name]), f"{name} did not train"


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        pytest.param("smollm2", {"rank": 4}, marks=pytest.mark.slow),  # all its layers
        ("minilm", {"rank": 4}),
        ("minilm", {"rank": 4, "rslora": True, "alpha": 3}),
        ("minilm", {"rank": 4, "dora": True}),
        ("minilm", {"rank": 4, "init": "gaussian", "targets": "attention"}),
        ("minilm", {"rank": 4, "init": "pissa", "targets": "query,key"}),
        ("smollm2-4", {"rank": 4, "init": "pissa", "rslora": True, "targets": "q_proj,v_proj"}),
        ("smollm2-4", {"rank": 4, "init": "pissa", "dora": True, "targets": "k_proj"}),
        ("smollm2-4", {"rank": 4, "targets": "k_proj,model.layers.3.mlp.up_proj"}),
        ("tiny-gpt2", {"rank": 4}),
        ("tiny-gpt2", {"rank": 4, "init": "pissa"}),
        ("tiny-vit", {"rank": 4, "dora": True}),
        ("mobilenet", {"rank": 4}),
        ("tiny-squeezebert", {"rank": 4}),  # torch's Conv1d
        ("tiny-squeezebert", {"rank": 4, "targets": "query,value,intermediate.conv1d"}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items()),
)
def test_peft_opens_the_file(
    engine: Any, base: Any, data_for: Any, tmp_path: Path, model: str, settings: dict[str, Any]
) -> None:
    loaded = base(model)
    data = data_for(TASK_OF[model])
    adapter = engine.train(
        loaded, data, strategy="lora", settings=settings, config=train_config(steps=3, batch_size=4, learning_rate=5e-3)
    )
    adapter.save(tmp_path / "adapter")
    task = adapter.attachment.task
    batch = task.collate(task.encode(data, loaded).examples[:4], loaded)
    adapter.use()
    ours, bare = output(loaded.model, batch), output(plain_model(loaded), batch)
    adapter.detach()

    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    # A folder that brings a head is opened on transformers' class with that head, whose base is compared.
    with_head = TASK_OF[model] == "image-classification"
    assert with_head == bool(config["modules_to_save"])
    inner = image_classifier(loaded, len(task.labels)) if with_head else plain_model(loaded)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        opened = PeftModel.from_pretrained(inner, tmp_path / "adapter").eval()
    theirs = opened.base_model.model.base_model if with_head else opened
    assert not [m for m in (str(w.message) for w in said) if "is_gradient_checkpointing" not in m]
    pissa = settings.get("init") == "pissa"
    assert config["r"] == (8 if pissa else 4)
    assert config["init_lora_weights"] is True
    torch.testing.assert_close(output(theirs, batch), ours, rtol=1e-4, atol=5e-5 if pissa else 1e-5)
    assert float((ours - bare).abs().max()) > 1e-3, "the adapter has no effect to compare"


def train_config(**options: Any) -> Any:
    from adapterhub_lite.training.config import TrainConfig

    return TrainConfig(**options)


@pytest.mark.parametrize("init", ["default", "gaussian", "pissa"])
def test_it_starts_at_the_base(base: Any, put: Any, data_for: Any, init: str) -> None:
    """Every start but LoftQ's leaves the outputs of the base as they were (PiSSA up to rounding)."""
    loaded = base("smollm2-4")
    bare = output(plain_model(loaded), put(loaded, data_for("causal-lm"), "lora").batch([0, 1]))
    mounted = put(loaded, data_for("causal-lm"), "lora", {"init": init, "targets": "k_proj"})
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if init == "pissa" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(output(loaded.model, mounted.batch([0, 1])), bare, **tolerance)


@pytest.mark.parametrize(
    ("model", "quantization", "settings"),
    [
        ("minilm", "nf4", {"rank": 16, "targets": "encoder.layer.0.attention.self.query,encoder.layer.5.output.dense"}),
        ("minilm", "int8", {"rank": 8, "rslora": True, "targets": "encoder.layer.0.attention.self.query"}),
        # More than the 192 rows of its key projection. Its weights come from a GGUF file.
        (
            "smollm2",
            "nf4",
            {"rank": 256, "targets": "model.layers.0.self_attn.k_proj,model.layers.29.self_attn.q_proj"},
        ),
    ],
)
def test_loftq_makes_up_for_quantization(
    engine: Any, base: Any, put: Any, data_for: Any, tmp_path: Path, model: str, quantization: str, settings: Any
) -> None:
    """||W - (Q + s B A)|| is below ||W - Q|| for every weight, and as small as a rank this large can make it."""
    dense = base(model)
    loaded = base(model, quantization)
    data = data_for("text-classification")
    mounted = put(loaded, data, "lora", {**settings, "init": "loftq"})
    view, rank = mounted.attachment.view, settings["rank"]
    for path in settings["targets"].split(","):
        layer = view.module(path)
        weight = dense.model.get_submodule(path).weight.data
        quantized = view.weight(f"{path}.base_layer").float()
        a, b = layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data
        start = layer.scaling["default"] * b @ a
        lost = torch.linalg.svdvals(weight - quantized)
        left = float(torch.linalg.norm(weight - quantized - start))
        assert left == pytest.approx(float(lost[rank:].square().sum().sqrt()), rel=2e-3, abs=2e-4), path
        assert left < 0.95 * float(torch.linalg.norm(lost)), path
    adapter = engine.train(
        loaded,
        data,
        strategy="lora",
        settings={**settings, "init": "loftq"},
        config=train_config(steps=1, batch_size=4),
    )
    adapter.save(tmp_path / "adapter")
    before = adapter.predict(data.inputs[:4])
    adapter.detach()
    again = engine.load_adapter(tmp_path / "adapter", base=loaded)
    assert again.predict(data.inputs[:4]) == before
    again.detach()


def test_loftq_without_the_original_weights_says_so(
    load: Any, references: Any, put: Any, data_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(references("smollm2"), "nf4")
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path))  # where nothing was unpacked yet
    with pytest.raises(BaseNotFoundError, match="load the base once with quantization 'none'"):
        put(loaded, data_for("causal-lm"), "lora", {"init": "loftq"})
    with pytest.raises(NotSupportedError, match="this base is not quantized"):
        put(load(references("minilm")), data_for("text-classification"), "lora", {"init": "loftq"})
    with pytest.raises(
        NotSupportedError,
        match="with init=pissa needs an unquantized base, and this one is nf4; use --quantize none, or another init",
    ):
        put(load(references("minilm"), "nf4"), data_for("text-classification"), "lora", {"init": "pissa"})


def test_what_cannot_be_adapted_is_refused(base: Any, put: Any, data_for: Any, bits: Any) -> None:
    loaded = base("mobilenet")
    before = bits(loaded.model)
    pictures = data_for("image-classification")
    with pytest.raises(NotSupportedError, match="no attention"):
        put(loaded, pictures, "lora", {"targets": "attention"})
    with pytest.raises(ConfigError, match="fits no weight matrix of this model; there are: convolution"):
        put(loaded, pictures, "lora", {"targets": "q_proj"})
    with pytest.raises(NotSupportedError, match="is a convolution; use init=default"):
        put(loaded, pictures, "lora", {"init": "pissa"})
    assert bits(loaded.model) == before


def test_a_rank_above_the_size_of_a_weight(engine: Any, base: Any, data_for: Any, tmp_path: Path) -> None:
    """SmolLM2's keys have 192 rows: what is trained can be saved and loaded all the same."""
    loaded, data = base("smollm2-4"), data_for("text-classification")
    with pytest.raises(ConfigError, match=r"'model.layers.0.self_attn.k_proj' has 192; lower the rank"):
        engine.train(loaded, data, strategy="lora", settings={"rank": 200, "init": "pissa"})
    adapter = engine.train(
        loaded, data, strategy="lora", settings={"rank": 200, "targets": "k_proj"},
        config=train_config(steps=1, batch_size=4),
    )  # fmt: skip
    adapter.save(tmp_path / "adapter")
    before = [p.probability for p in adapter.predict(data.inputs[:4])]
    adapter.detach()
    again = engine.load_adapter(tmp_path / "adapter", base=loaded)
    assert [p.probability for p in again.predict(data.inputs[:4])] == pytest.approx(before, abs=1e-5)
    again.detach()


def test_merge_gives_the_adapted_outputs(engine: Any, references: Any, put: Any, data_for: Any) -> None:
    loaded = engine.load_base(references("smollm2-4"), dtype="float32")  # one of its own, for it is changed for good
    mounted = put(loaded, data_for("causal-lm"), "lora", {"rank": 4, "dora": True})
    mounted.fit(steps=2, batch_size=4, learning_rate=5e-3)
    attachment, batch = mounted.attachment, mounted.batch([0, 1, 2])
    adapted = output(loaded.model, batch)
    attachment.strategy.merge(attachment.view, attachment.config, attachment.parameters)  # type: ignore[attr-defined]
    torch.testing.assert_close(output(loaded.model, batch), adapted, rtol=1e-4, atol=1e-4)
    attachment.discard()
    torch.testing.assert_close(output(loaded.model, batch), adapted, rtol=1e-4, atol=1e-4)
