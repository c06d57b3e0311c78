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

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.base.loading import Base, adopt
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.progress import Silent
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_peft.methods import PROMPT, REFUSED, known
from adapterhub_peft.options import left_out
from adapterhub_peft.source import read_methods

DOCUMENT = Path(__file__).parents[1] / "docs" / "peft-methods.md"
STEPS = 12
CLOSE = 1e-4
"""Relative difference of outputs that is put down to rounding."""
TEXT = "my card was lost please help i cannot find it where is the money top up pending transfer rate fee"
WORDS = TEXT.split()

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
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=32,
    )


def tiny(kind: str) -> tuple[Any, Any]:
    """A tiny model and its tokenizer or image processor; the same one each time."""
    from transformers import (
        BertConfig,
        BertModel,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        ViTConfig,
        ViTModel,
    )
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    size: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
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
    from adapterhub_causal_lm.items import Text

    return Dataset("causal-lm", tuple(Text(text) for text in texts), None, (), {}, "<made>", "", None)


def put(engine: Engine, base: Base, method: str, kind: str, draw: int = 1, **settings: Any) -> tuple[Attachment, Any]:
    """Attach a method to a base, and collate the eight examples into one batch."""
    provided = engine.strategy_shelf.resolve(f"peft:{method}")
    options = engine.strategy_shelf.configure(provided, {**SETTINGS.get(method, {}), **settings})
    data = tiny_data(kind)
    task = engine.task_for(base, data)
    torch.manual_seed(draw)
    attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
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
def outputs(model: Any, batch: Any, **more: Any) -> Tensor:
    """Logits of a language model or last hidden states of any other, of the model as it is now; `more` are other inputs."""
    inputs = {name: value for name, value in batch.items() if name in ("input_ids", "attention_mask", "pixel_values")}
    result = model(**inputs, **more)
    return getattr(result, "logits", None) if getattr(result, "logits", None) is not None else result.last_hidden_state


def bits(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that an adapter must leave alone."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    state: dict[str, Any] = {name: (id(t), t.requires_grad, t.detach().clone()) for name, t in tensors}
    state |= {f"module {name}": (id(m), m.training, sorted(vars(m))) for name, m in model.named_modules()}
    return state


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
    modalities = engine.strategy_shelf.resolve(f"peft:{method}").spec.traits.modalities
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
    other, _ = put(engine, base, method, kind, draw=7)
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
            for parameter in again.attachment.parameters.values():  # far from the start, where much is zero
                parameter.data += 0.2 * torch.randn_like(parameter)
            _generate(row, base, batch)
        again.detach()
    with row.trying("peft"):
        from peft import PeftModel

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            opened = PeftModel.from_pretrained(plain, folder).eval()
        missing = [str(warning.message) for warning in said if "missing" in str(warning.message)]
        if missing:
            row.reasons.setdefault("peft warns", "".join(missing)[:300])
        more = {"task_ids": torch.zeros(len(trained), dtype=torch.long)} if method == "poly" else {}
        theirs = outputs(opened, batch, **more)
        row.note(
            "peft", apart(trained, theirs) < CLOSE, f"outputs {apart(trained, theirs):.0e} from ours on the {kind}"
        )


@torch.no_grad()
def _generate(row: Row, base: Base, batch: Any) -> None:
    ids = batch["input_ids"][:1, :4]
    whole = base.model(input_ids=ids, use_cache=False).logits[:, -1]
    start = base.model(input_ids=ids[:, :-1], use_cache=True)
    cached = base.model(input_ids=ids[:, -1:], past_key_values=start.past_key_values, use_cache=True).logits[:, -1]
    far = apart(whole, cached)
    row.note("generates", far < CLOSE, f"a token with a cache gives outputs {far:.0e} from those without")


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
        row.note(
            "nf4",
            after < before - 1e-6 and not without,
            f"loss {before:.5f} -> {after:.5f}, no gradient: {len(without)}",
        )
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
    traits = engine.strategy_shelf.resolve(f"peft:{row.method}").spec.traits
    declared = {
        "merges": traits.mergeable,
        "nf4": traits.works_on_quantized_base,
        "identity": traits.identity_at_init,
        "conv1d": known(row.method).conv1d,
        "generates": known(row.method).tokenwise,
        **dict.fromkeys(("encoder", "decoder", "trains", "switches", "detaches", "reloads", "bf16"), True),
    }
    return [
        f"{row.method}: {mark} is declared {said} and was {row.marks.get(mark)}: {row.reasons.get(mark, '')}"
        for mark, said in declared.items()
        if row.marks.get(mark, said) is not said
    ]


def refusal(method: str) -> str:
    """What PEFT says when a method that is not offered is put into the layers of the decoder.

    Raises:
        SystemExit: when it works, so that it should be offered.
    """
    from peft import inject_adapter_in_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    model, _ = tiny("decoder")
    batch = {"input_ids": torch.arange(4, 10)[None]}
    before = outputs(model.eval(), batch)
    arguments: dict[str, Any] = {
        "adaption_prompt": {"adapter_len": 4, "adapter_layers": 2},
        "shadow": {"target_modules": ["model.layers.0"]},
        "xlora": {"hidden_size": 64, "adapters": {}},
        "cpt": {"cpt_token_ids": [4, 5], "task_type": "CAUSAL_LM"},
    }.get(method, {"num_virtual_tokens": 4})
    try:
        inject_adapter_in_model(PEFT_TYPE_TO_CONFIG_MAPPING[method.upper()](**arguments), model)
        if not torch.equal(outputs(model, batch), before):
            raise SystemExit(f"peft:{method} is not offered, and works; take it out of REFUSED")
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    raise SystemExit(f"peft:{method} is not offered, and PEFT attaches it without a word; look at it again")


COLUMNS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "conv1d": "GPT-2",
    "vit": "ViT",
    "trains": "trains",
    "reloads": "reloads bitwise",
    "peft": "PEFT opens the file",
    "merges": "merges",
    "nf4": "NF4",
    "bf16": "bf16",
    "generates": "cached as uncached",
    "identity": "starts at the base",
}


def render(rows: list[Row], refused: Mapping[str, str]) -> str:
    """The document."""
    versions = ", ".join(
        f"{label} {metadata.version(name)}"
        for label, name in (
            ("PEFT", "peft"), ("torch", "torch"), ("transformers", "transformers"), ("bitsandbytes", "bitsandbytes"),
            ("adapterhub-lite", "adapterhub-lite"),
        )
    )  # fmt: skip
    lines = [
        "# PEFT's methods in adapterhub_lite",
        "",
        f"Made by `python -m benchmarks.peft_methods` on {datetime.now(UTC):%Y-%m-%d} with {versions}, on a CPU "
        f"({platform.machine()}), fp32 where nothing else is said.",
        "",
        "Every method of the installed PEFT that can be put into a model's layers is a strategy, `peft:<method>`: names, "
        "options and their help are read from the source of the PEFT that is installed. Each was run on tiny models built in "
        "code. The program that writes this table fails when a method does not do what its strategy declares, or does more.",
        "",
        f"| strategy | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---|' * len(COLUMNS)}",
    ]
    footnotes: dict[str, int] = {}
    for row in rows:
        cells = []
        for mark in COLUMNS:
            value = row.marks.get(mark)
            reason = row.reasons.get(mark if value is False else f"{mark} warns")
            cell = "–" if value is None else "yes" if value else "no"
            if reason is not None:
                cell += f" [{footnotes.setdefault(_readable(reason), len(footnotes) + 1)}]"
            cells.append(cell)
        lines.append(f"| `peft:{row.method}` | {' | '.join(cells)} |")
    lines += [
        "",
        f"- **encoder**, **decoder**, **GPT-2** (its layers store weights transposed; tied head), **ViT**: it attaches. For "
        f"all of them: trained alone for {STEPS} steps, all its parameters got a gradient and the loss fell (**trains**); "
        "saved and loaded onto the bare base, outputs were the same to the bit (**reloads bitwise**); "
        "`PeftModel.from_pretrained` opened the directory and gave the same outputs up to rounding (**PEFT opens the file**).",
        "- For all methods in the table: the base was bit for bit as before after detaching, two adapters of the method took "
        "turns on one base with unchanged outputs.",
        "- **merges**: encoder, decoder and GPT-2 (where it attaches), after training. **NF4**: encoder and decoder.",
        f"- Options other than PEFT's defaults, to fit weights of 64 by 64: {_settings()}.",
        "- What a method does between steps and adds to the loss is done and added, as PEFT's own models have it: tests compare "
        "AdaLoRA, AdaMSS, KaSA and MonteCLoRA with those in a plain loop on the same batches, step for step. "
        "**adalora** scores singular values after each update and cuts ranks on its schedule, over the steps of the run "
        "where `total_step` is not set, with its orthogonality in the "
        "loss; its file has the ranks that are left. **adamss** stops subspaces with `use_asa`. **lora** has the losses of "
        "KaSA (`kasa_config`) and MonteCLoRA (`monteclora_config`), VeLoRA's projections (`velora_config`) and BD-LoRA "
        "(`use_bdlora`). **poly** takes the task of each row from the batch where the task puts `task_ids` into it. Their "
        "averages and schedules are in checkpoints: a run that is stopped and goes on ends with the same bits.",
        "- What a method keeps fixed beside what it trains (random projections, masks, singular vectors) is not in the file "
        "unless the option `fixed` is set. It is made anew from the base and a seed that the adapter records, and checked by "
        "a checksum. PEFT does the same, and for some methods warns that it does.",
        "",
        "Reasons, as PEFT or torch gave them:",
        "",
        *(f"{number}. {reason}" for reason, number in footnotes.items()),
        "",
        "## Methods that are not offered",
        "",
        "| PEFT's method | why | what PEFT says |",
        "|---|---|---|",
        *(f"| {name} | {REFUSED.get(name, PROMPT)} | {said} |" for name, said in refused.items()),
        "",
        "## Options that are left out",
        "",
        "| option | of | why |",
        "|---|---|---|",
        *_left_out([row.method for row in rows]),
        "",
    ]
    return "\n".join(lines)


def _readable(reason: str) -> str:
    """One sentence of an error, without what adapterhub_lite adds to it and without addresses."""
    reason = reason.split("; change its options")[0].removeprefix("NotSupportedError: ")
    if "Found missing adapter keys" in reason:
        name = reason.split("['")[1].split("'")[0].removeprefix("base_model.model.")
        reason = f"PEFT warns of missing keys such as `{name}`; outputs are the same"
    for name in ("encoder", "decoder", "conv1d", "vit"):
        reason = reason.removesuffix(f" on the {name}")
    return reason.split(": ", 1)[1] if reason.startswith("peft:") and ": " in reason else reason


def _settings() -> str:
    return "; ".join(
        f"{method} {', '.join(f'{name}={value}' for name, value in options.items())}"
        for method, options in SETTINGS.items()
    )


def _left_out(offered: list[str]) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for method in read_methods():
        if method.name in offered:
            for name, reason in left_out(method).items():
                reasons.setdefault((name, reason), []).append(method.name)
    return [
        f"| `{name}` | {', '.join(methods) if len(methods) < 6 else f'{len(methods)} methods'} | {reason} |"
        for (name, reason), methods in sorted(reasons.items())
    ]


def main() -> None:
    """Run the methods that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("methods", nargs="*", help="names such as ia3; all of them if none is given")
    wanted = parser.parse_args().methods
    warnings.simplefilter("ignore")
    methods = {method.name: method for method in read_methods()}
    engine = Engine(progress=Silent())
    offered = [p.spec.name.removeprefix("peft:") for p in engine.strategies() if p.plugin == "peft"]
    rows, wrong = [], []
    with tempfile.TemporaryDirectory() as folder:
        quantized = write_tiny(Path(folder) / "quantized")
        for name in wanted or offered:
            row = measure(engine, name, Path(folder) / name, quantized=quantized)
            print(
                name,
                " ".join(f"{m}={'-' if v is None else 'yes' if v else 'NO'}" for m, v in row.marks.items()),
                flush=True,
            )
            wrong += disagreements(row, engine)
            rows.append(row)
    if not wanted:
        refused = {name: refusal(name) for name in methods if name not in offered}
        DOCUMENT.write_text(render(rows, refused), encoding="utf-8")
        print(f"wrote {DOCUMENT.name}")
    if wrong:
        sys.exit("\n".join(["the plug-in does not say what is so:", *wrong]))


if __name__ == "__main__":
    main()
