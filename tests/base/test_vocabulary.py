"""Tokens that a tokenizer gives and the embedding does not have: refused at load, or with the row that has one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from adapterhub_lite.errors import BaseNotFoundError, DataError

BEYOND = "<image>"


@pytest.fixture(scope="module")
def grown(references: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of a tiny model whose tokenizer was given more tokens, and whose embedding was not."""

    def grow(model: str, **named: str) -> Path:
        folder = tmp_path_factory.mktemp("grown") / model
        shutil.copytree(references(model), folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens([BEYOND])
        if named:
            tokenizer = AutoTokenizer.from_pretrained(folder, **named)
        tokenizer.save_pretrained(folder)
        return folder

    return grow


@pytest.fixture(scope="module")
def bert(grown: Any) -> str:
    return str(grown("tiny-bert"))


@pytest.fixture(scope="module")
def llama(grown: Any) -> str:
    """As Gemma 3 without images: the files of its tokenizer name the token of an image."""
    return str(grown("tiny-llama", image_token=BEYOND))


def refused(base: Any, where: str) -> Any:
    number = base.model.config.vocab_size
    return pytest.raises(
        DataError, match=rf"{where}: the text has the token '{BEYOND}' \(id {number}\), which the base has no embedding"
    )


def test_a_token_that_few_texts_have_is_said_at_load(engine: Any, bert: str, load: Any) -> None:
    from adapterhub_lite.base.loading import load_base

    for quantization in ("none", "nf4"):
        lines: list[str] = []
        base = load_base(bert, quantization=quantization, device="cpu", report=lines.append)
        assert base.beyond == {base.model.config.vocab_size: BEYOND}
        assert [line for line in lines if "no embedding for 1 of its tokens, such as '<image>'" in line]


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_special_tokens_that_texts_get_are_refused_at_load(grown: Any, engine: Any, quantization: str) -> None:
    folder = grown("tiny-bert", pad_token=BEYOND)
    with pytest.raises(BaseNotFoundError, match=rf"gives '{BEYOND}' the number \d+, and the model knows \d+ tokens"):
        engine.load_base(str(folder), quantization=quantization, device="cpu")


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_words_are_refused_at_load(references: Any, tmp_path: Path, engine: Any, quantization: str) -> None:
    import json

    folder = tmp_path / "words"
    shutil.copytree(references("tiny-bert"), folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"]["zebra"] = len(content["model"]["vocab"])
    Tokenizer.from_str(json.dumps(content)).save(str(path))
    with pytest.raises(BaseNotFoundError, match="gives 'zebra' the number"):
        engine.load_base(str(folder), quantization=quantization, device="cpu")


def test_rows_of_texts_pairs_and_words(engine: Any, load: Any, bert: str, tmp_path: Path) -> None:
    base = load(bert)
    texts = tmp_path / "texts.csv"
    texts.write_text(f"text,label\nthe card,a\nmy {BEYOND} card,b\nthe bank,a\n", encoding="utf-8")
    with refused(base, r"texts.csv, row 2 \(line 3\)"):
        engine.train(base, engine.load_data(texts, "text-classification"), strategy="linear_probe")
    pairs = [{"text": "the card", "pair": f"a {BEYOND}", "label": "a"}, {"text": "a", "pair": "b", "label": "b"}]
    with refused(base, "row 1"):
        data = engine.load_data(pairs, "text-classification", columns={"pair": "pair"})
        engine.train(base, data, strategy="linear_probe")
    words = [{"tokens": ["the", "card"], "tags": ["A", "B"]}, {"tokens": [BEYOND, "card"], "tags": ["A", "B"]}]
    with refused(base, "row 2"):
        engine.train(base, engine.load_data(words, "token-classification"), strategy="lora")


def test_other_rows_train_and_a_new_text_is_refused(engine: Any, load: Any, bert: str) -> None:
    base = load(bert)
    rows = [
        {"text": f"the card {word}", "label": "ab"[i % 2]} for i, word in enumerate(["is", "not", "here", "my"] * 3)
    ]
    adapter = engine.train(base, engine.load_data(rows, "text-classification"), strategy="linear_probe")
    assert len(adapter.predict(["the bank"])) == 1
    with refused(base, "row 2"):
        adapter.predict(["the bank", f"a {BEYOND}"])
    adapter.detach()


def test_what_is_to_be_continued(engine: Any, load: Any, llama: str) -> None:
    from adapterhub_lite.training.config import TrainConfig

    base = load(llama)
    assert base.beyond
    rows = [{"prompt": "the card", "completion": "is here"}, {"prompt": "my", "completion": f"card {BEYOND}"}]
    with refused(base, "row 2"):
        engine.train(base, engine.load_data(rows, "causal-lm"), strategy="lora")
    data = engine.load_data(rows[:1] * 4, "causal-lm")
    adapter = engine.train(base, data, strategy="lora", config=TrainConfig(steps=1))
    with refused(base, "prompt 2"):
        adapter.generate(["the card", f"the {BEYOND}"], max_new_tokens=2)
    with refused(base, "the prompt"):
        list(adapter.stream(f"the {BEYOND}", max_new_tokens=2))
    adapter.detach()
