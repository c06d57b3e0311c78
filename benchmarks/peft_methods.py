"""What each method of the installed PEFT does here: run it, check what the plug-in declares, write the table.

    python -m benchmarks.peft_methods                  # all methods; writes docs/peft-methods.md
    python -m benchmarks.peft_methods ia3 vera         # these only; prints the rows

Every method is put on tiny models built in code: an encoder, a decoder, a decoder with GPT-2's transposed layers and tied
head, and a ViT. Nothing is taken on trust: the program ends with an error when a method does not do what its traits say,
or when it does more.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_lite.adapter import Adapter
from adapterhub_lite.base.loading import Base, adopt
from adapterhub_lite.data import Dataset
from adapterhub_lite.engine import Engine, preprocessing_for
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks import make_task
from adapterhub_lite.tasks.attachment import Attachment, attach
from adapterhub_peft.methods import PROMPT, REFUSED, known
from adapterhub_peft.options import left_out
from adapterhub_peft.source import read_methods

DOCUMENT = Path(__file__).parents[1] / "docs" / "peft-methods.md"
STEPS = 12
CLOSE = 1e-4
"""Relative difference of outputs that is put down to rounding."""
WORDS = "my card was lost please help i cannot find it where is the money top up pending transfer rate fee".split()

# Sizes that fit weights of 64 by 64 and 64 by 128; the defaults are made for larger ones.
SETTINGS: dict[str, dict[str, Any]] = {
    "adamss": {"r": 8, "num_subspaces": 2},
    "c3a": {"block_size": 32},
    "fourierft": {"n_frequency": 64},
    "gralora": {"r": 8},
    "oft": {"oft_block_size": 16},
    "road": {"group_size": 16},
    "shira": {"r": 4},
    "trainable_tokens": {"token_indices": [5, 6, 7, 8, 9, 10]},
    "vblora": {"vector_length": 32, "num_vectors": 16},
    "waveft": {"n_frequency": 64},
}


@dataclass
class Row:
    """What was seen of one method; a mark is True, False, or None where there was nothing to try."""

    method: str
    marks: dict[str, bool | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def note(self, mark: str, good: bool, reason: str = "") -> None:
        """Set a mark; one that was bad before stays bad."""
        self.marks[mark] = good and self.marks.get(mark, True) is not False
        if not good and reason:
            self.reasons.setdefault(mark, reason)

    @contextmanager
    def trying(self, mark: str) -> Iterator[None]:
        """Take an exception as the reason why a mark is bad."""
        try:
            yield
        except Exception as error:
            self.note(mark, False, " ".join(f"{type(error).__name__}: {error}".split())[:300])


def tokenizer() -> Any:
    """A word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *dict.fromkeys(WORDS)])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=32
    )


def tiny(kind: str) -> tuple[Any, Any]:
    """A tiny model and its tokenizer or image processor; the same one each time."""
    from transformers import (
        BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, ViTConfig, ViTModel,
    )  # fmt: skip
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    size: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    text: dict[str, Any] = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        match kind:
            case "encoder":
                bert = BertConfig(**size, vocab_size=32, pad_token_id=0, max_position_embeddings=32)
                model: Any = BertModel(bert, add_pooling_layer=False)
            case "decoder":
                model = LlamaForCausalLM(LlamaConfig(**size, **text, num_key_value_heads=2, max_position_embeddings=32))
            case "conv1d":
                model = GPT2LMHeadModel(GPT2Config(**text, n_embd=64, n_layer=2, n_head=4, n_positions=32, n_inner=128))
            case _:
                model = ViTModel(ViTConfig(**size, image_size=16, patch_size=8), add_pooling_layer=False)
        for parameter in model.parameters():  # a fresh model has biases of 0 and norms of 1, which hide mistakes
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model, ViTImageProcessorPil(size={"height": 16, "width": 16}) if kind == "vit" else tokenizer()


def tiny_base(kind: str, dtype: torch.dtype = torch.float32) -> Base:
    """A base of a tiny model."""
    model, processor = tiny(kind)
    return adopt(model.to(dtype), processor, reference=f"tiny {kind}")


def tiny_data(kind: str) -> Dataset:
    """Eight examples for the task that a tiny model is tried on."""
    if kind == "vit":
        from PIL import Image

        inputs: tuple[Any, ...] = tuple(Image.new("RGB", (16, 16), (30 * i, 255 - 30 * i, 90)) for i in range(8))
        return Dataset("image-classification", inputs, (0, 1) * 4, ("red", "green"), {}, "<made>", "", None)
    texts = tuple(" ".join(WORDS[(i + 3 * j) % len(WORDS)] for j in range(4 + i % 3)) for i in range(8))
    if kind == "encoder":
        return Dataset("text-classification", texts, (0, 1) * 4, ("lost", "pending"), {}, "<made>", "", None)
    from adapterhub_lite.data import Text

    return Dataset("causal-lm", tuple(Text(text) for text in texts), None, (), {}, "<made>", "", None)


def put(engine: Engine, base: Base, method: str, kind: str, seed: int = 1, **settings: Any) -> tuple[Attachment, Any]:
    """Attach a method to a base, and collate the eight examples into one batch."""
    provided = engine.registry.resolve(f"peft:{method}")
    options = engine.registry.configure(provided, {**SETTINGS.get(method, {}), **settings})
    data = tiny_data(kind)
    task = make_task(data.task, data.labels, preprocessing_for(base, data, None, None))
    torch.manual_seed(seed)
    attachment = attach(base, task, provided, engine.registry.load(provided), options)
    return attachment, task.collate(task.encode(data, base).examples, base)


def train(attachment: Attachment, batch: Any, steps: int = STEPS) -> tuple[float, float, set[str]]:
    """Train the strategy's parameters alone, the head left as it is; give the loss before and after, and what got no gradient."""
    rate = attachment.provided.spec.learning_rate
    optimizer = torch.optim.AdamW(attachment.parameters.values(), lr=rate, weight_decay=0.0)
    without = set(attachment.parameters)
    before = loss_of(attachment, batch)
    torch.manual_seed(2)
    with attachment.training():
        for _ in range(steps):
            logits, targets = attachment.logits(batch)
            assert targets is not None
            functional.cross_entropy(logits.float(), targets).backward()
            without -= {name for name, p in attachment.parameters.items() if p.grad is not None and bool(p.grad.any())}
            optimizer.step()
            optimizer.zero_grad()
    return before, loss_of(attachment, batch), without


def loss_of(attachment: Attachment, batch: Any) -> float:
    """The loss in evaluation mode."""
    attachment.base.model.eval()
    with torch.no_grad():
        logits, targets = attachment.logits(batch)
        assert targets is not None
        return float(functional.cross_entropy(logits.float(), targets))


@torch.no_grad()
def outputs(model: Any, batch: Any) -> Tensor:
    """Logits of a language model or last hidden states of any other, of the model as it is now."""
    inputs = {name: value for name, value in batch.items() if name in ("input_ids", "attention_mask", "pixel_values")}
    result = model(**inputs)
    return getattr(result, "logits", None) if getattr(result, "logits", None) is not None else result.last_hidden_state


def bits(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that an adapter must leave alone."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    found: dict[str, Any] = {name: (id(t), t.requires_grad, t.detach().clone()) for name, t in tensors}
    found |= {f"module {name}": (id(m), m.training, sorted(vars(m))) for name, m in model.named_modules()}
    return found


def same_bits(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first name at which two results of `bits` differ, else nothing."""
    for name in {**one, **other}:
        if name not in one or name not in other or one[name][:2] != other[name][:2]:
            return name
        first, second = one[name][2], other[name][2]
        if not (torch.equal(first, second) if isinstance(first, Tensor) else first == second):
            return name
    return ""


def apart(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((one.float() - other.float()).abs().max() / one.float().abs().max())


def measure(engine: Engine, method: str, folder: Path, *, quantized: Mapping[str, str] | None = None) -> Row:
    """Run one method through everything.

    Args:
        engine: With the installed plug-ins.
        method: PEFT's name.
        folder: An empty folder.
        quantized: Folders of the tiny models by kind, for loading them in NF4; not tried without.
    """
    row = Row(method)
    modalities = engine.registry.resolve(f"peft:{method}").spec.traits.modalities
    for kind in ("encoder", "decoder", "conv1d", "vit"):
        if kind == "vit" and "image" not in modalities:
            row.marks[kind] = None
            continue
        with row.trying(kind):
            _attach_and_train(row, engine, method, kind, folder / kind)
    with row.trying("merges"):
        _merge(row, engine, method)
    with row.trying("bf16"):
        attachment, batch = put(engine, tiny_base("decoder", torch.bfloat16), method, "decoder")
        before, after, _ = train(attachment, batch)
        row.note("bf16", after < before, f"loss {before:.4f} -> {after:.4f}")
    if quantized:
        with row.trying("nf4"):
            _quantized(row, engine, method, quantized)
    return row


def _attach_and_train(row: Row, engine: Engine, method: str, kind: str, folder: Path) -> None:
    base = tiny_base(kind)
    clean = bits(base.model)
    plain = copy.deepcopy(base.model)
    attachment, batch = put(engine, base, method, kind)
    row.note(kind, True)
    bare = outputs(plain, batch)
    start = apart(bare, outputs(base.model, batch))
    row.note("identity", start < CLOSE, f"outputs {start:.0e} from the base's on the {kind}")

    before, after, without = train(attachment, batch)
    row.note("trains", after < before - 1e-6, f"loss {before:.5f} -> {after:.5f} on the {kind}")
    row.note("trains", not without, f"no gradient reaches {', '.join(sorted(without)[:1])} on the {kind}")
    trained = outputs(base.model, batch)
    adapter = Adapter(attachment, engine.plugins, Silent())
    adapter.save(folder)
    row.reasons[f"size {kind}"] = str((folder / "adapter_model.safetensors").stat().st_size)

    # A second adapter of the same method beside the first, taking turns.
    other, _ = put(engine, base, method, kind, seed=7)
    fresh = outputs(base.model, batch)
    base.activate(attachment.view)
    row.note("switches", torch.equal(outputs(base.model, batch), trained), f"the first of two changed on the {kind}")
    base.activate(other.view)
    row.note("switches", torch.equal(outputs(base.model, batch), fresh), f"the second of two changed on the {kind}")
    other.detach()
    adapter.detach()
    row.note("detaches", not (where := same_bits(clean, bits(base.model))), f"'{where}' of the {kind} is not as it was")

    torch.manual_seed(99)
    with row.trying("reloads"):
        again = engine.load_adapter(folder, base=base)
        again.use()
        row.note("reloads", torch.equal(outputs(base.model, batch), trained), f"other outputs on the {kind}")
        if kind == "decoder":
            _generate(row, base, batch)
        again.detach()
    with row.trying("peft"):
        from peft import PeftModel

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            opened = PeftModel.from_pretrained(plain, folder).eval()
        missing = [str(each.message) for each in said if "missing" in str(each.message)]
        if missing:
            row.reasons.setdefault("peft warns", "".join(missing)[:300])
        theirs = outputs(opened, batch)
        row.note("peft", apart(trained, theirs) < CLOSE, f"outputs {apart(trained, theirs):.0e} from ours on the {kind}")


def _generate(row: Row, base: Base, batch: Any) -> None:
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    prompt = {"input_ids": batch["input_ids"][:1, :4], "attention_mask": batch["attention_mask"][:1, :4]}
    cached, uncached = (base.model.generate(**prompt, **options, use_cache=cache) for cache in (True, False))
    row.note("generates", torch.equal(cached, uncached), "cached generation differs")


def _merge(row: Row, engine: Engine, method: str) -> None:
    from adapterhub_peft.strategy import MergeablePeftMethod

    for kind in ("encoder", "decoder", "conv1d"):
        if not row.marks.get(kind):
            continue
        base = tiny_base(kind)
        attachment, batch = put(engine, base, method, kind)
        train(attachment, batch, steps=4)
        adapted = outputs(base.model, batch)
        merging = MergeablePeftMethod(method)
        merging.merge(attachment.view, attachment.config, attachment.parameters)
        attachment.view.unmount()
        far = apart(adapted, outputs(base.model, batch))
        row.note("merges", far < CLOSE, f"outputs {far:.0e} from the adapted ones on the {kind}")


def _quantized(row: Row, engine: Engine, method: str, quantized: Mapping[str, str]) -> None:
    for kind, reference in quantized.items():
        base = engine.load_base(reference, quantization="nf4", dtype="float32", device="cpu")
        clean = bits(base.model)
        # What the traits say is what is to be found out, so they do not decide here.
        base.quantization = "none"
        attachment, batch = put(engine, base, method, kind)
        before, after, without = train(attachment, batch)
        row.note("nf4", after < before - 1e-6 and not without, f"loss {before:.5f} -> {after:.5f}, no gradient: {len(without)}")
        attachment.detach()
        row.note("nf4", not same_bits(clean, bits(base.model)), "the base is not as it was")


def write_tiny(folder: Path) -> dict[str, str]:
    """Save the encoder and the decoder, to be loaded quantized."""
    for kind in ("encoder", "decoder"):
        model, processor = tiny(kind)
        model.save_pretrained(folder / kind)
        processor.save_pretrained(folder / kind)
    return {kind: str(folder / kind) for kind in ("encoder", "decoder")}


def disagreements(row: Row, engine: Engine) -> list[str]:
    """Where a method does not do what its traits say, or does more."""
    traits = engine.registry.resolve(f"peft:{row.method}").spec.traits
    declared = {
        "merges": traits.mergeable,
        "nf4": traits.works_on_quantized_base,
        "identity": traits.identity_at_init,
        "conv1d": known(row.method).conv1d,
        **dict.fromkeys(("encoder", "decoder", "trains", "switches", "detaches", "reloads", "generates", "bf16"), True),
    }
    return [
        f"{row.method}: {mark} is declared {said} and was {row.marks.get(mark)}: {row.reasons.get(mark, '')}"
        for mark, said in declared.items()
        if row.marks.get(mark, said) is not said
    ]
