"""Tiny bases of every kind, and ways to damage each of their files; see benchmarks/fuzz.py."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

WORDS = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "the",
    "card",
    "is",
    "not",
    "here",
    "good",
    "bad",
    "money",
    "user",
    "assistant",
]
CHAT_TEMPLATE = "{% for m in messages %}<s> {{ m['role'] }} {{ m['content'] }} </s>{% endfor %}"
RUN = {
    "base": "BASE", "data": "DATA", "task": "text-classification", "strategy": "lora", "settings": {"rank": 2}, "out": "OUT",
    "device": "cpu", "dtype": "float32", "columns": {"text": "text", "label": "label"}, "task_options": {"max_length": 8},
    "training": {"steps": 1, "batch_size": 2, "seed": 1, "learning_rate": 0.001, "weight_decay": 0.1, "track": []},
}  # fmt: skip


def build(folder: Path) -> dict[str, Path]:
    """Write a decoder in shards, an encoder with its sentence-transformers files, an image model and a GGUF file."""
    import torch

    torch.manual_seed(0)
    made = {name: folder / name for name in ("decoder", "encoder", "image", "gguf")}
    _decoder(made["decoder"])
    _encoder(made["encoder"])
    _image(made["image"])
    _gguf(made["gguf"])
    return made


def files_of(base: Path) -> list[Path]:
    """The files to damage; of the weights, only one that is in the way of a header."""
    return sorted(path for path in base.rglob("*") if path.is_file())


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        model_max_length=32,
    )  # fmt: skip
    made.chat_template = CHAT_TEMPLATE
    return made


def _decoder(folder: Path) -> None:
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        rope_theta=10000.0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, top_p=0.9, top_k=5, pad_token_id=0, bos_token_id=2, eos_token_id=[3],
        repetition_penalty=1.1, max_length=32,
    )  # fmt: skip
    model.save_pretrained(folder, max_shard_size="4KB")
    _tokenizer().save_pretrained(folder)


def _encoder(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 16, "pooling_mode_mean_tokens": true}'
    )
    (folder / "modules.json").write_text('[{"idx": 0, "type": "sentence_transformers.models.Normalize"}]')


def _image(folder: Path) -> None:
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)


def _gguf(folder: Path) -> None:
    import gguf
    import numpy as np
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder.mkdir()
    tokens = [*bytes_to_unicode().values(), "<s>", "</s>", "<unk>", "th", "the"]
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["t h", "th e"])
    writer.add_token_types([1] * 256 + [3] * 3 + [1] * 2)
    for add, token in ((writer.add_bos_token_id, 256), (writer.add_eos_token_id, 257), (writer.add_unk_token_id, 258)):
        add(token)
    shapes = {"token_embd": (len(tokens), 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    shapes |= {f"blk.0.{name}": (32, 32) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {f"blk.0.{name}": (32, 32) for name in ("ffn_gate", "ffn_up", "ffn_down")}
    random_numbers = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random_numbers.normal(0, 0.05, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 10**6, 10**9, 2**31, 2**64, 10**30, 0.0, -0.5, 1e300, float("nan"), float("inf"), "",
    "x", "../x", "a/b", "\ud7ff\u0000", "x" * 10_000, [], [[]], [None], [1, 2, 3], ["a"], {}, {"a": 1}, {"": None},
]  # fmt: skip
TEMPLATES = [
    "", "{{ 1 / 0 }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ 'a' * 10 ** 10 }}", "{% for", "{{ x.y.z }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "{{ raise_exception('no') }}", "a" * 10**6,
    "{% include 'x' %}", "{{ messages | nothing }}", "{" * 2000, "\x00", "{{ [[]] * 99999999 }}", "{% set messages = 1 %}",
]  # fmt: skip


def damage(path: Path, chance: random.Random) -> str:
    """Change one file in one way, and say in which."""
    if path.suffix == ".jinja" and chance.random() < 0.6:
        template = chance.choice(TEMPLATES)
        path.write_text(template, encoding="utf-8")
        return f"template {template[:40]!r}"
    structured = path.suffix in (".json", ".yaml")
    if structured and chance.random() < 0.8:
        return _change_document(path, chance)
    return _change_bytes(path, chance)


def _change_document(path: Path, chance: random.Random) -> str:
    text = path.read_text(encoding="utf-8")
    document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    slots = list(_slots(document))
    if chance.random() < 0.05 or not slots:
        document, how = chance.choice(VALUES), "whole"
    else:
        holder, key = chance.choice(slots)
        how = f"{key!r}"
        kind = chance.randrange(10)
        if kind == 0:
            del holder[key]
            how += " deleted"
        elif kind == 1 and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
            how += " renamed"
        elif kind == 2 and len(slots) > 1:
            holder[key] = chance.choice(slots)[1]
            how += f" = {holder[key]!r}"
        elif kind == 3 and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * chance.choice([-1, 0, 2, 3, 1000]) + chance.choice([0, 1])
            how += f" = {holder[key]!r}"
        else:
            holder[key] = chance.choice(VALUES)
            how += f" = {str(holder[key])[:30]!r}"
    if path.suffix == ".json":
        path.write_text(json.dumps(document), encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return how


def _slots(document: Any) -> list[tuple[Any, Any]]:
    """Every place of a value in a document: what holds it, and its key there."""
    slots: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        item = stack.pop()
        keys = list(item) if isinstance(item, dict) else list(range(len(item))) if isinstance(item, list) else []
        slots += [(item, key) for key in keys]
        stack += [item[key] for key in keys]
    return slots


def _change_bytes(path: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    # What a file of weights says of itself comes first; of the numbers behind it none is wrong.
    size = min(len(data), 4000) or 1
    place = chance.randrange(size)
    ways: dict[str, Callable[[], bytes]] = {
        "emptied": lambda: b"",
        "cut": lambda: bytes(data[:place]),
        "bit": lambda: (
            bytes(data[:place]) + bytes([(data + b"\0")[place] ^ (1 << chance.randrange(8))]) + bytes(data[place + 1 :])
        ),
        "noise": lambda: bytes(data[:place]) + chance.randbytes(8) + bytes(data[place + 8 :]),
        "inserted": lambda: bytes(data[:place]) + chance.randbytes(chance.randrange(1, 40)) + bytes(data[place:]),
        "removed": lambda: bytes(data[:place]) + bytes(data[place + chance.randrange(1, 40) :]),
        "zeros": lambda: bytes(data[:place]) + bytes(16) + bytes(data[place + 16 :]),
        "ones": lambda: bytes(data[:place]) + b"\xff" * 8 + bytes(data[place + 8 :]),
        "utf-16": lambda: bytes(data).decode("latin-1").encode("utf-16"),
        "marked": lambda: b"\xef\xbb\xbf" + bytes(data),
        "nested": lambda: b"[" * 100_000,
        "other": lambda: b"\x89PNG\r\n\x1a\n" + chance.randbytes(100),
    }
    how = chance.choice(list(ways))
    path.write_bytes(ways[how]())
    return f"{how} at {place}"
