"""Make the golden adapters that are not there yet: `python tests/golden/make.py`, from anywhere.

Those that are there are proof that adapters of an earlier version still load, so they are never made again. Run this with
the version that a new task or strategy came with, after adding it to `golden_list.py`. Everything is made in this
folder and named by paths from it, so that no file tells of the machine it was made on.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_list import GOLDEN, HERE, Golden, outputs

import adapterhub_lite as ah

COUNT = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
WORDS = [
    *COUNT, "good", "bad", "card", "bank", "bill", "money", "the", "a", "is", "was", "my", "in", "user", "assistant",
]  # fmt: skip
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "\n"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} \n {{ message['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant \n {% endif %}"
)
TEXT = {"vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 32, "pad_token_id": 0}
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(*, decoder: bool) -> Any:
    """A tokenizer for which a word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    single, pair = ("<s> $A", None) if decoder else ("<s> $A </s>", "<s> $A </s> $B </s>")
    words.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    made = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **names)
    if decoder:
        made.chat_template = CHAT_TEMPLATE
    return made


def encoder() -> tuple[Any, Any]:
    """Like BERT."""
    from transformers import BertConfig, BertModel

    config = BertConfig(**TEXT, **SMALL, initializer_range=0.2)
    return BertModel(config, add_pooling_layer=False), tokenizer(decoder=False)


def decoder() -> tuple[Any, Any]:
    """Like Llama, two query heads to a key head."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **TEXT, **SMALL, num_key_value_heads=1, initializer_range=0.2, bos_token_id=2, eos_token_id=3
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer(decoder=True)


def image() -> tuple[Any, Any]:
    """ViT on pictures of 16 by 16."""
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = ViTConfig(**SMALL, image_size=16, patch_size=4, initializer_range=0.2)
    return ViTModel(config, add_pooling_layer=False), ViTImageProcessorPil(size={"height": 16, "width": 16})


def series() -> tuple[Any, Any]:
    """PatchTST on one channel of 32 steps."""
    from transformers import PatchTSTConfig, PatchTSTModel

    config = PatchTSTConfig(
        num_input_channels=1, context_length=32, patch_length=8, patch_stride=8, d_model=16, num_attention_heads=2,
        num_hidden_layers=2, ffn_dim=24, init_std=0.2,
    )  # fmt: skip
    return PatchTSTModel(config), None


BASES: dict[str, Callable[[], tuple[Any, Any]]] = {
    write.__name__: write for write in (encoder, decoder, image, series)
}  # fmt: skip


def make_base(name: str) -> None:
    """Save a base with random weights, biases and norms too."""
    folder = Path("bases", name)
    if folder.exists():
        return
    torch.manual_seed(0)
    model, processor = BASES[name]()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    for statistic in model.buffers():
        if statistic.is_floating_point() and statistic.dim() == 1 and len(statistic) == SMALL["hidden_size"]:
            statistic += 0.1 * torch.rand(statistic.shape)  # those of batch norms
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)


def text_rows(count: int) -> list[str]:
    """Texts of three to eight words, every second one a good one."""
    random = np.random.default_rng(0)
    rows = []
    for row in range(count):
        words = [str(word) for word in random.choice(WORDS[12:22], size=2 + row % 6)]
        words.insert(int(random.integers(0, len(words) + 1)), "bad" if row % 2 else "good")
        rows.append(" ".join(words))
    return rows


def write_csv(name: str, header: list[str], rows: list[list[Any]]) -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def write_lines(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="\n")


def make_data() -> None:
    """Write a handful of rows for each kind of problem."""
    if Path("data").exists():
        return
    Path("data").mkdir()
    random, texts = np.random.default_rng(1), text_rows(16)
    write_csv("data/cards.csv", ["text", "label"], [[text, text.split()[0]] for text in _starting(texts)])
    several = [{"text": text, "labels": [w for w in ("good", "card", "bank") if w in text.split()]} for text in texts]
    write_lines("data/several.jsonl", several)
    pairs = [[a, b, len(a.split()) - len(b.split()) + 0.5] for a, b in zip(texts, texts[3:] + texts[:3], strict=True)]
    write_csv("data/pairs.csv", ["text", "text_pair", "target"], pairs)
    kinds = {"card": "B-THING", "bill": "B-THING", "bank": "B-PLACE"}
    tagged = [{"tokens": text.split(), "tags": [kinds.get(word, "O") for word in text.split()]} for text in texts]
    write_lines("data/tags.jsonl", tagged)
    starts = [(row % 5, 2 + row % 3) for row in range(12)]
    counts = [(" ".join(COUNT[a : a + n]), " ".join(COUNT[a + n : a + n + 2])) for a, n in starts]
    write_lines("data/sums.jsonl", [{"prompt": prompt, "completion": rest} for prompt, rest in counts])
    turns = [[("user", prompt), ("assistant", rest)] for prompt, rest in counts]
    chats = [{"messages": [{"role": role, "content": said} for role, said in turn]} for turn in turns]
    write_lines("data/chats.jsonl", chats)
    write_lines("data/texts.jsonl", [{"text": f"{prompt} {rest}"} for prompt, rest in counts])

    pixels = random.integers(0, 120, (12, 16, 16, 3), dtype=np.uint8)
    pixels[::2, :, :8] += 120
    np.savez_compressed("data/pictures.npz", images=pixels, labels=np.arange(12) % 2, classes=["left", "right"])

    steps = np.linspace(0, 2 * np.pi, 32)
    waves = [np.sin(steps * (1 + row % 3) + random.uniform(0, 6)) for row in range(12)]
    both = np.stack(waves)[..., None] * [1.0, -0.5] + 0.1 * random.standard_normal((12, 32, 2))
    np.savez_compressed("data/waves.npz", x=both.astype(np.float32), y=np.arange(12) % 3, classes=["1", "2", "3"])

    rows = []
    for engine in range(1, 6):
        for cycle in range(20):
            wear = cycle / 20 * engine / 3
            heat, speed = wear + 0.1 * random.standard_normal(2)
            rows.append([engine, cycle, round(float(heat), 4), round(float(speed**2), 4), 19 - cycle])
    write_csv("data/engines.csv", ["engine", "cycle", "heat", "speed", "target"], rows)


def _starting(texts: list[str]) -> list[str]:
    """The texts, each with its good or bad in front."""
    return [" ".join(sorted(text.split(), key=lambda word: word not in ("good", "bad"))) for text in texts]


def make_adapter(golden: Golden) -> None:
    """Train one from the command line, and write down what it puts out."""
    from adapterhub_lite.cli import main

    arguments = [
        "train", "--base", golden.base, "--data", golden.data, "--eval-data", golden.data, "--task", golden.task,
        "--strategy", golden.strategy, "--out", golden.adapter, "--dtype", "float32", "--device", "cpu",
        "--steps", "16", "--batch-size", "6", *golden.options,
    ]  # fmt: skip
    sys.argv = ["adapterhub-lite", *arguments]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
    shutil.rmtree(f"{golden.adapter}.run")
    for lock in Path("adapters").glob(".*"):
        lock.unlink()
    said = outputs(ah.load_adapter(golden.adapter, device="cpu"), golden)
    Path(golden.outputs).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    os.chdir(HERE)
    for base in BASES:
        make_base(base)
    make_data()
    for wanted in GOLDEN:
        if not Path(wanted.adapter).exists():
            make_adapter(wanted)
