"""Texts, completions and chats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError, DataError
from tests.reading import load_data

TASK = "causal-lm"
SHARED = Path(__file__).parents[2].parent / "shared" / "data"
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}


def load(source: Any, **options: Any) -> Dataset:
    return load_data(source, TASK, **options)


def test_the_three_forms() -> None:
    chat = load([{"messages": [USER, ANSWER]}])
    assert list(chat.inputs) == [Chat((Message("user", "hi"), Message("assistant", "hello")))]
    assert (chat.columns, chat.targets, chat.labels) == ({"messages": "messages"}, None, ())
    pair = load([{"prompt": "1+1=", "completion": "2"}])
    assert list(pair.inputs) == [Completion("1+1=", "2")]
    assert pair.columns == {"prompt": "prompt", "completion": "completion"}
    text = load([{"id": 1, "text": "once"}])
    assert list(text.inputs) == [Text("once")]
    assert text.columns == {"text": "text"}


def test_columns_by_hand() -> None:
    rows = [{"q": "1+1=", "a": "2", "text": "t"}]
    assert list(load(rows, columns={"prompt": "q", "completion": "a"}).inputs) == [Completion("1+1=", "2")]
    assert list(load(rows, columns={"text": "a"}).inputs) == [Text("2")]
    assert list(load(rows, columns={"prompt": "q", "input": "text", "completion": "a"}).inputs) == [
        Completion("1+1=\n\nt", "2")
    ]
    for columns in ({"prompt": "q", "text": "text"}, {"completion": "a"}, {"prompt": "q"}):
        with pytest.raises(ConfigError):
            load(rows, columns=columns)


def test_a_chat_in_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "chats.csv"
    quoted = json.dumps([USER, ANSWER]).replace('"', '""')
    path.write_text(f'id,messages\n1,"{quoted}"\n2,oops\n')
    with pytest.raises(DataError, match=r"chats\.csv, row 2 \(line 3\), column 'messages': not a JSON list"):
        load(path)
    path.write_text(f'id,messages\n1,"{quoted}"\n')
    assert len(load(path).inputs[0].messages) == 2


def test_prediction_may_lack_what_is_to_be_written() -> None:
    assert list(load([{"prompt": "1+1="}], require_labels=False).inputs) == [Completion("1+1=", "")]
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": None}]
    assert list(load(rows, require_labels=False).inputs) == [Completion("a", "b"), Completion("c", "")]
    assert len(load([{"messages": [USER]}], require_labels=False)) == 1


BAD = [
    ([{"messages": [USER]}], "row 2 (line 2), column 'messages': has no assistant message"),
    ([{"messages": []}], "row 2 (line 2), column 'messages': holds no list of messages"),
    ([{"messages": None}], "row 2 (line 2), column 'messages': holds no list of messages"),
    ([{"messages": [USER, "x"]}], "column 'messages', message 2: must be an object"),
    ([{"messages": [{"role": "user"}]}], "message 1: must be an object with"),
    ([{"messages": [{"role": "narrator", "content": "x"}]}], "message 1: role 'narrator' is not known"),
    ([{"messages": [{"role": ["bot"], "content": "x"}]}], "message 1: role ['bot'] is not known"),
    ([{"messages": [USER, {"role": "assistant", "content": None}]}], "message 2: content is of type NoneType"),
    ([{"messages": [USER, {"role": "assistant", "content": " "}]}], "message 2: content of the assistant is empty"),
    ([{"messages": [USER, {"role": "assistant", "content": "a\0"}]}], "message 2: content has a NUL"),
    ([{"prompt": "a", "completion": ""}], "row 2 (line 2), column 'completion': completion is empty"),
    ([{"prompt": "a"}], "row 2 (line 2), column 'completion': completion is missing"),
    ([{"prompt": " ", "completion": "b"}], "row 2 (line 2), column 'prompt': prompt is empty"),
    ([{"prompt": "a", "completion": 3}], "column 'completion': completion is of type int"),
    ([{"text": ""}], "row 2 (line 2), column 'text': text is empty"),
]
GOOD = {"messages": {"messages": [USER, ANSWER]}, "prompt": {"prompt": "a", "completion": "b"}, "text": {"text": "t"}}


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_bad_rows_are_refused_by_place(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = tmp_path / "bad.jsonl"
    good = GOOD[next(iter(rows[0]))]
    path.write_text("".join(json.dumps(row) + "\n" for row in [good, *rows]))
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_no_usable_columns() -> None:
    with pytest.raises(DataError, match=r"has no columns for a language model .*--prompt-column.*: a, b"):
        load({"a": ["x"], "b": ["y"]})


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data not found in {SHARED}")
def test_real_files() -> None:
    maths = load(SHARED / "gsm8k" / "train.jsonl")
    assert (len(maths), maths.columns) == (7473, {"prompt": "question", "completion": "answer"})
    tasks = load(SHARED / "instruct_rasbt" / "instruction-data.json")
    assert (len(tasks), tasks.columns["input"]) == (1100, "input")
    assert tasks.notes == ("column 'input' follows the prompt after a blank line in 325 of 1100 rows",)
