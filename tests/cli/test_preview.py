"""`preview` shows what rows become: what is learnt of them, what is cut, and which columns are passed over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.base import loading

Run = Callable[..., Any]
CHATS = [
    {"id": 1, "messages": [{"role": "user", "content": "is it here"}, {"role": "assistant", "content": "it is not"}]},
    {"id": 2, "messages": [{"role": "user", "content": "the card"}, {"role": "assistant", "content": "is lost"}]},
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Fail where weights are loaded."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("weights were loaded")

    if "weights" not in request.keywords:
        monkeypatch.setattr(loading, "model_from", refuse)


def test_a_chat(run: Run, references: Callable[[str], str], tmp_path: Path) -> None:
    data = written(tmp_path / "chats.jsonl", CHATS)
    arguments = ("preview", "--data", data, "--base", references("tiny-llama"), "--task", "causal-lm", "--rows", 1)
    shown = run(*arguments)
    assert shown.code == 0, shown.err
    assert "columns used: messages from 'messages'; ignored: id" in shown.out
    assert "[it is not<|im_end|>]" in "".join(shown.out).replace(" <|im_end|>", "<|im_end|>")
    assert "row 2" not in shown.out

    report = json.loads(run(*arguments, "--json").out)
    assert (report["rows"], report["ignored"], len(report["shown"])) == (2, ["id"], 1)
    (example,) = report["shown"][0]["examples"]
    assert [piece["learnt"] for piece in example["pieces"]] == [False, True, False]
    assert example["target"] is None


def test_what_is_cut_and_what_is_refused(run: Run, references: Callable[[str], str], tmp_path: Path) -> None:
    long = {"prompt": "the card is not here", "completion": "please help with it"}
    rows = [long, {"prompt": "the card is not here my bank", "completion": "good"}]
    data = written(tmp_path / "pairs.jsonl", rows)
    done = run(
        "preview", "--data", data, "--base", references("tiny-llama"), "--task", "causal-lm", "--max-length", 8,
        "--task-set", "template=none", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    first, second = json.loads(done.out)["shown"]
    assert [piece["text"] for piece in first["examples"][0]["pieces"]] == ["<s> the card is not here", "please help"]
    assert any("longer than 8 tokens and were cut" in note for note in first["notes"])
    assert any("nothing stands between prompt and completion" in note for note in first["notes"])
    assert second["examples"] == []
    assert "anything left to learn within 8 tokens" in second["refused"]


def test_texts_with_labels(run: Run, references: Callable[[str], str], tmp_path: Path) -> None:
    rows = [{"text": text, "label": label, "note": "x"} for text, label in [("good card", "a"), ("bad bank", "b")] * 2]
    data = written(tmp_path / "labels.jsonl", rows)
    shown = run("preview", "--data", data, "--base", references("tiny-bert"), "--task", "text-classification")
    assert shown.code == 0, shown.err
    assert "ignored: note" in shown.out
    assert "good card" in shown.out
    assert "to be learnt: a" in shown.out


def test_tags_of_words(run: Run, references: Callable[[str], str], tmp_path: Path) -> None:
    rows = [{"tokens": ["lost", "card", "here"], "tags": ["O", "B-THING", "O"]}] * 2
    data = written(tmp_path / "tags.jsonl", rows)
    shown = run("preview", "--data", data, "--base", references("tiny-bert"), "--task", "token-classification")
    assert shown.code == 0, shown.err
    assert "[lost = O][card = B-THING][here = O]" in shown.out


def test_images(run: Run, references: Callable[[str], str], pictures: Any) -> None:
    folder = Path(pictures.source)
    shown = run("preview", "--data", folder, "--base", references("tiny-vit"), "--task", "image-classification")
    assert shown.code == 0, shown.err
    assert "to be learnt: blue" in shown.out
    assert "0.png" in shown.out


def test_series(run: Run, references: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # this task runs the base to settle
    lines = ["series,time,a,b,c,label"]
    lines += [f"{n},{t},{n + t},{t},{n},{'up' if n % 2 else 'down'}" for n in range(4) for t in range(32)]
    data = tmp_path / "series.csv"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    shown = run("preview", "--data", data, "--base", references("tiny-patchtst"), "--task", "series-classification")
    assert shown.code == 0, shown.err
    assert "values of shape (32, 3)" in shown.out
    assert "to be learnt: down" in shown.out


def test_train_says_what_is_learnt_and_predict_what_is_empty(
    run: Run, references: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    data = written(tmp_path / "chats.jsonl", CHATS)
    trained = run(
        "train", "--data", data, "--base", references("tiny-llama"), "--task", "causal-lm", "--out", tmp_path / "a",
        "--steps", 1,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert "note: the first example, what is learnt in brackets: " in trained.err
    # it is not <|im_end|>, and is lost <|im_end|>
    assert "note: 7 tokens are learnt and " in trained.err
    monkeypatch.setattr(Adapter, "generate", lambda *_, **__: ["", ""])
    done = run("predict", tmp_path / "a", "--data", data, "--out", tmp_path / "out.jsonl")
    assert done.code == 0, done.err
    assert "note: 2 of 2 answers are empty" in done.err


@pytest.mark.parametrize(
    ("rows", "task"),
    [
        (CHATS, "causal-lm"),
        ([{"text": "good money", "label": "a"}, {"text": "bad card", "label": "b"}] * 2, "text-classification"),
        ([{"prompt": "the card", "completion": "is lost"}] * 2, "causal-lm"),
        (
            [{"tokens": ["my", "bank"], "tags": ["O", "B-ORG"]}, {"tokens": ["card"], "tags": ["O"]}],
            "token-classification",
        ),
    ],
)
def test_a_task_that_is_not_named(
    rows: list[dict[str, Any]], task: str, run: Run, references: Callable[[str], str], tmp_path: Path
) -> None:
    data, base = written(tmp_path / "rows.jsonl", rows), references("tiny-llama")
    done = run("preview", "--data", data, "--base", base, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["task"] == task
    assert json.loads(run("preview", "--data", data, "--base", base, "--task", task, "--json").out) == json.loads(
        done.out
    )


def test_a_task_that_has_to_be_named(run: Run, references: Callable[[str], str], tmp_path: Path) -> None:
    numbers = written(tmp_path / "numbers.jsonl", [{"text": f"card {n}", "label": n % 2} for n in range(4)])
    nothing = written(tmp_path / "nothing.jsonl", [{"a": 1}, {"a": 2}])
    for data, said in (
        (numbers, "could be for .* or .*; name the task"),
        (nothing, "is not read by any task as it is"),
    ):
        done = run("preview", "--data", data, "--base", references("tiny-llama"))
        assert done.code == 2
        assert re.search(said, done.err), done.err


def test_a_pair_is_shown_as_the_tokens_of_both_texts(
    run: Run, references: Callable[[str], str], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from adapterhub_lite.base.references import resolve

    data = written(tmp_path / "pairs.jsonl", [{"text": "the card", "pair": "is lost", "label": name} for name in "ab"])
    arguments = ("--column", "pair=pair", "--rows", 1, "--json", "--task", "text-classification")
    shown = run("preview", "--data", data, "--base", references("minilm"), *arguments)
    assert shown.code == 0, shown.err
    (example,) = json.loads(shown.out)["shown"][0]["examples"]
    tokenizer = AutoTokenizer.from_pretrained(resolve(references("minilm")).folder)
    ids = [token for piece in example["pieces"] for token in piece["tokens"]]
    assert ids == tokenizer("the card", "is lost")["input_ids"]
