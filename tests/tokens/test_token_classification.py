"""Tags of words: which token speaks for a word, scores against seqeval, and numbers in real questions."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score

from adapterhub_lite import load_data
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.tasks.task import Preprocessing
from adapterhub_lite.training.config import TrainConfig
from adapterhub_tokens.classification import TokenClassification
from adapterhub_tokens.entities import Span, are_spans, f1, spans

TASK = "token-classification"
NUMBER = re.compile(r"\$?\d[\d,.]*%?")


@pytest.fixture(scope="module")
def questions(shared: Path) -> Any:
    """Questions of gsm8k, their amounts of money and other numbers tagged."""
    with (shared / "data" / "gsm8k" / "test.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(next(file))["question"].split() for _ in range(60)]

    def tag(word: str) -> str:
        if not NUMBER.match(word):
            return "O"
        return "B-MONEY" if word.startswith("$") else "B-NUMBER"

    return load_data([{"tokens": words, "tags": [tag(word) for word in words]} for words in texts], TASK)


# What conlleval says of each: IOB2, IOB1, broken sequences, BIOES.
CASES = [
    ("B-X I-X O B-Y", [("X", 0, 2), ("Y", 3, 4)]),
    ("B-X B-X I-X", [("X", 0, 1), ("X", 1, 3)]),
    ("I-X I-X O I-Y", [("X", 0, 2), ("Y", 3, 4)]),
    ("B-X I-Y I-Y", [("X", 0, 1), ("Y", 1, 3)]),
    ("O I-X B-X I-X O", [("X", 1, 2), ("X", 2, 4)]),
    ("B-X I-X E-X S-Y S-Y", [("X", 0, 3), ("Y", 3, 4), ("Y", 4, 5)]),
    ("E-X I-X", [("X", 0, 1), ("X", 1, 2)]),
    ("B-A-B I-A-B", [("A-B", 0, 2)]),
    ("O O", []),
]


@pytest.mark.parametrize(("tags", "expected"), CASES)
def test_spans(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == [Span(*parts) for parts in expected]


def test_spans_and_their_f1_are_those_of_seqeval() -> None:
    labels = pytest.importorskip("seqeval.metrics.sequence_labeling")
    generator = random.Random(0)
    names = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("X", "Y"))]
    for _ in range(3000):
        tags = generator.choices(names, weights=[4, *[1] * 8], k=generator.randint(1, 9))
        wanted = [(kind, start, end + 1) for kind, start, end in labels.get_entities(tags)]
        assert [tuple(span) for span in spans(tags)] == wanted, tags
    task = TokenClassification(names, Preprocessing())
    for _ in range(20):
        rows = [generator.randint(1, 12) for _ in range(30)]
        true = [generator.choices(names, weights=[8, *[1] * 8], k=n) for n in rows]
        said = [[tag if generator.random() < 0.7 else generator.choice(names) for tag in tags] for tags in true]
        flat = [torch.tensor([names.index(tag) for tags in sentences for tag in tags]) for sentences in (said, true)]
        logits = torch.nn.functional.one_hot(flat[0], len(names)).float()
        scores = task.metrics(logits, flat[1], 0.0, rows)
        assert scores["f1"] == pytest.approx(labels.f1_score(true, said))
        assert scores["precision"] == pytest.approx(labels.precision_score(true, said))
        assert scores["recall"] == pytest.approx(labels.recall_score(true, said))
        assert scores["accuracy"] == pytest.approx(labels.accuracy_score(true, said))


def test_spans_end_with_their_sentence() -> None:
    """By hand: a span that goes on in the next sentence is another one."""
    names = ["O", "B-X", "I-X"]
    task = TokenClassification(names, Preprocessing())
    true, said = torch.tensor([1, 2, 2, 0, 1]), torch.tensor([1, 2, 2, 1, 1])
    rows = [2, 3]
    # B I | I O B is predicted to be B I | I B B: four spans, among them all three that there are.
    scores = task.metrics(torch.nn.functional.one_hot(said, 3).float(), true, 0.0, rows)
    assert (scores["precision"], scores["recall"]) == (3 / 4, 1.0)
    joined = task.metrics(torch.nn.functional.one_hot(said, 3).float(), true, 0.0, [5])
    assert joined["precision"] == 2 / 3, "as one sentence, B I I is one span"
    assert f1(0, 0, 0) == (0.0, 0.0, 0.0)


def test_tags_that_mark_no_spans_are_scored_by_tag() -> None:
    assert not are_spans(["NOUN", "VERB", "O"])
    assert not are_spans(["O"])
    task = TokenClassification(["NOUN", "VERB", "X"], Preprocessing())
    generator = torch.Generator().manual_seed(0)
    true, logits = torch.randint(2, (50,), generator=generator), torch.randn(50, 3, generator=generator)
    scores = task.metrics(logits, true, 0.0, [50])
    assert scores["macro_f1"] == pytest.approx(f1_score(true, logits.argmax(1), average="macro"))
    assert task.metric == "macro_f1"


def test_the_token_of_a_word_is_the_first_of_transformers_word_ids(engine: Any, base: Any, questions: Any) -> None:
    loaded = base("minilm")
    task = engine.task_for(loaded, questions)
    encoded = task.encode(questions, loaded)
    for words, example in zip(questions.inputs, encoded.examples, strict=True):
        reference = loaded.tokenizer(words, is_split_into_words=True)
        assert example.inputs.ids == reference["input_ids"]
        numbers = reference.word_ids(0)
        first = {number: place for place, number in reversed(list(enumerate(numbers))) if number is not None}
        assert example.inputs.starts == [first[number] for number in sorted(first)]
        assert example.inputs.numbers == sorted(first)
    batch = task.collate(encoded.examples[:5], loaded)
    with torch.no_grad():
        features, targets = task.features(loaded, batch)
        hidden = loaded.model(**{name: batch[name] for name in ("input_ids", "attention_mask")}).last_hidden_state
    rows = [hidden[i, place] for i, example in enumerate(encoded.examples[:5]) for place in example.inputs.starts]
    torch.testing.assert_close(features, torch.stack(rows))
    assert targets is not None
    assert targets.tolist() == [tag for target in questions.targets[:5] for tag in target]


@pytest.mark.parametrize("name", ["minilm", "smollm2-4"])
def test_words_of_odd_kinds_and_cut_ones(engine: Any, base: Any, name: str) -> None:
    """Every word gets a tag or None, whatever the tokenizer makes of it."""
    loaded = base(name)
    words = ["(Janet\u2019s", "don't", "\u200b", "16", "\U0001f986\U0001f986", "na\u00efve", "\u5317\u4eac", "x" * 30]
    data = load_data([{"tokens": words, "tags": ["O", "B-X"] * 4}, {"tokens": ["a"], "tags": ["O"]}], TASK)
    encoded = engine.task_for(loaded, data).encode(data, loaded)
    inputs = encoded.examples[0].inputs
    assert inputs.starts == sorted(set(inputs.starts))
    nothing = [2] if name == "minilm" else []
    assert inputs.numbers == [number for number in range(8) if number not in nothing]
    if name == "minilm":
        assert "1 word of which the tokenizer makes nothing" in encoded.notes[0]
    short = engine.task_for(loaded, data, {"max_length": 6})
    encoded = short.encode(data, loaded)
    assert "1 of 2 texts are longer than 6 tokens" in encoded.notes[0]
    kept = encoded.examples[0]
    assert 0 < kept.rows < 5
    logits = torch.zeros(kept.rows + 1, 2)
    logits[:, data.labels.index("O")] = 1.0
    first, second = short.predictions(logits, encoded)
    assert len(first.tags) == 8
    assert [tag is None for tag in first.tags] == [number not in kept.inputs.numbers for number in range(8)]
    assert second.tags == ("O",)
    shortest = engine.task_for(base("minilm"), data, {"max_length": 2})
    with pytest.raises(DataError, match="no word has a token within 2 tokens"):
        shortest.encode(data, base("minilm"))


def test_rows_without_a_token_are_left_out_of_training(engine: Any, base: Any) -> None:
    loaded = base("minilm")
    rows = [{"tokens": ["\u200b"], "tags": ["O"]}, {"tokens": ["a", "b"], "tags": ["O", "B-X"]}]
    data = load_data(rows, TASK)
    task = engine.task_for(loaded, data)
    encoded = task.encode(data, loaded)
    assert [example.rows for example in encoded.examples] == [0, 2]
    assert task.balance(encoded).rows == (1,)
    adapter = engine.train(
        loaded, data, strategy="lora", config=TrainConfig(steps=2, batch_size=1), settings={"rank": 2}
    )
    predicted = adapter.predict(rows)
    assert [len(p.tags) for p in predicted] == [1, 2]
    assert predicted[0].tags == (None,)
    assert adapter.evaluate(data).n == 2
    adapter.detach()


def test_numbers_are_found_in_questions(engine: Any, base: Any, questions: Any, tmp_path: Path) -> None:
    """A probe learns them on 40 questions, and finds most of them in 20 others."""
    loaded = base("minilm")
    train, held = questions.select(range(40)), questions.select(range(40, 60))
    adapter = engine.train(loaded, train, strategy="linear_probe", settings={"penalty": 1e-3})
    result = adapter.evaluate(held)
    assert result.metrics["f1"] > 0.8
    low, high = result.intervals["f1"]
    assert low <= result.metrics["f1"] <= high
    sentence = ["Tom", "paid", "$12", "for", "3", "books"]
    (prediction,) = adapter.predict([sentence])
    assert [(entity.kind, entity.text) for entity in prediction.entities] == [("MONEY", "$12"), ("NUMBER", "3")]
    assert prediction.columns()["entities"][0] == {"kind": "MONEY", "start": 2, "end": 3, "text": "$12"}
    with pytest.raises(ConfigError, match=r"predict takes lists of words, such as text\.split\(\)"):
        adapter.predict(["Tom paid"])
    adapter.save(tmp_path / "tags")
    adapter.detach()
    again = engine.load_adapter(tmp_path / "tags", base=loaded)
    assert again.predict([sentence])[0].tags == prediction.tags
    again.detach()
