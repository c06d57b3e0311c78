"""Chats through the template of a real chat model: what is learnt of them, and what the template refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from adapterhub_causal_lm.tokens import IGNORED
from adapterhub_lite.errors import DataError
from tests.reading import load_data


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


CHAT = [
    turn("system", "Be brief."), turn("user", "Is it raining?"), turn("assistant", "It is not."),
    turn("user", "Will it?"), turn("assistant", "Tomorrow, it will."),
]  # fmt: skip
# Templates of other models that refuse a conversation: by raising (Gemma, Mistral), or by what Jinja makes of them.
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)


def test_only_what_the_assistant_says_is_learnt(engine: Any, base: Any) -> None:
    loaded, data = base("smollm2-4"), load_data([{"messages": CHAT}], "causal-lm")
    task = engine.task_for(loaded, data)
    (example,) = task.encode(data, loaded).examples
    tokenizer = loaded.tokenizer
    whole = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert tokenizer.decode(example.inputs) == whole
    learnt = [token for token, label in zip(example.inputs, example.target, strict=True) if label != IGNORED]
    assert tokenizer.decode(learnt) == "It is not.<|im_end|>Tomorrow, it will.<|im_end|>"


def test_a_template_that_refuses_a_chat_names_the_row(engine: Any, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = base("smollm2-4")
    strict = copy.deepcopy(loaded.tokenizer)
    strict.chat_template = STRICT
    monkeypatch.setattr(loaded, "processor", strict)
    chats = [CHAT[1:3], [CHAT[1], CHAT[3], CHAT[2]]]
    data = load_data([{"messages": chat} for chat in chats], "causal-lm")
    with pytest.raises(DataError, match=r"row 2: .*template .*refuses .*roles user, user.*must alternate"):
        engine.task_for(loaded, data).encode(data, loaded)


def test_a_chat_that_begins_with_the_assistant_is_refused(engine: Any, base: Any) -> None:
    data = load_data([{"messages": CHAT[1:3]}, {"messages": CHAT[2:]}], "causal-lm")
    with pytest.raises(DataError, match=r"row 2: the conversation begins with the assistant"):
        engine.task_for(base("smollm2-4"), data).encode(data, base("smollm2-4"))


def test_texts_that_are_cut_are_said_when_predicting(engine: Any, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"text": ["the card is here", "please help with it"] * 4, "label": ["a", "b"] * 4}
    data = load_data(rows, "text-classification")
    said: list[str] = []
    monkeypatch.setattr(engine.progress, "say", said.append)
    loaded = base("tiny-bert")
    adapter = engine.train(
        loaded,
        data,
        strategy="linear_probe",
        task_options={"max_length": 5},
        eval_data={"text": ["the card is here it"] * 2, "label": ["a", "b"]},
    )
    assert any(line.startswith("note, held-out data: 2 of 2 texts are longer than 5 tokens") for line in said)
    said.clear()
    adapter.predict(["the card", "the card is not here"])
    assert said == ["note: 1 of 2 texts are longer than 5 tokens and were cut"]
    adapter.detach()
