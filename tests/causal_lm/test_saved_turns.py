"""A saved adapter asks as it was trained: its facts of turns and of what was learnt, its probe, and adapters without them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_causal_lm.turns import chat_of_probe, probe_of_chat
from adapterhub_lite.adapter.replay import replay
from adapterhub_lite.errors import AdapterCorruptError, ConfigError, NotSupportedError
from adapterhub_lite.merging.combine import _check_task
from adapterhub_lite.storage import read_adapter
from adapterhub_lite.training.config import TrainConfig
from tests.causal_lm.test_turns import THINK_LAST, TWO_TURNS, dataset

PAIRS = [{"prompt": "Who are you?", "completion": "I am"}, {"prompt": "Why?", "completion": "Because."}]
STEP = TrainConfig(steps=1, batch_size=2)


def test_an_adapter_of_turns_is_verified(
    engine: Any, base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = base("smollm2-4")
    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.chat_template = THINK_LAST
    monkeypatch.setattr(loaded, "processor", tokenizer)
    data = dataset(TWO_TURNS, Chat(TWO_TURNS.messages[1:3]))
    adapter = engine.train(loaded, data, settings={"rank": 1}, config=STEP)
    adapter.save(tmp_path / "a")
    adapter.detach()
    facts = json.loads((tmp_path / "a" / "adapterhub.json").read_text())["task"]["preprocessing"]["facts"]
    assert facts["turns"] == {"thinks": False}
    assert facts["learnt"]["policy"] == "whole render, turn by turn"
    again = engine.load_adapter(tmp_path / "a", base=loaded)
    manifest = read_adapter(tmp_path / "a").manifest
    assert manifest.probe is not None
    done = replay(again, manifest.probe)
    assert (done.inputs, done.difference <= done.tolerance) == (2, True)
    asked = tokenizer.decode(again.attachment.task.prompt_ids("Why?", loaded))
    assert asked == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    again.detach()


def test_prompts_take_the_template_of_a_base_that_has_one(engine: Any, base: Any) -> None:
    loaded, data = base("smollm2-4"), engine.load_data(PAIRS, "causal-lm")
    tokenizer = loaded.tokenizer
    task = engine.task_for(loaded, data)
    encoded = task.balance(task.encode(data, loaded))
    assert any("written by the base's chat template" in note for note in encoded.notes)
    turns = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am"}]
    example = encoded.examples[0]
    assert tokenizer.decode(example.inputs) == tokenizer.apply_chat_template(turns, tokenize=False)
    asked = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False)
    for prompt in ("Who are you?", Completion("Who are you?", "I am"), Text("Who are you?")):
        assert task.prompt_ids(prompt, loaded) == asked == example.inputs[: len(asked)]
    assert tokenizer.convert_ids_to_tokens(task.end_ids(loaded)) == ["<|im_end|>"]


def test_plain_prompts_say_what_separates_them(engine: Any, base: Any) -> None:
    loaded = base("smollm2-4")
    data = engine.load_data([*PAIRS, {"prompt": "Why?\n", "completion": "So."}], "causal-lm")
    task = engine.task_for(loaded, data, {"template": "none"})
    encoded = task.balance(task.encode(data, loaded))
    assert any(note.startswith("in 2 of 3 rows nothing stands between prompt and completion") for note in encoded.notes)
    assert loaded.tokenizer.decode(encoded.examples[0].inputs) == "Who are you?I am<|im_end|>"
    assert task.preprocessing.facts.keys() == {"learnt"}
    assert task.preprocessing.facts["learnt"]["policy"] == "plain"
    assert loaded.tokenizer.decode(task.prompt_ids("Who are you?", loaded)) == "Who are you?"


@pytest.mark.parametrize(
    ("name", "rows", "template", "error", "why"),
    [
        ("tiny-gpt2", PAIRS, "chat", NotSupportedError, "has no chat template"),
        ("smollm2-4", [{"text": "once"}], "chat", ConfigError, "a text has no turns"),
    ],
)
def test_templates_that_do_not_go_with_the_rows(
    engine: Any, base: Any, name: str, rows: Any, template: str, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        engine.task_for(base(name), engine.load_data(rows, "causal-lm"), {"template": template})


def test_messages_need_the_template(engine: Any, base: Any) -> None:
    with pytest.raises(ConfigError, match="messages are written by the chat template"):
        engine.task_for(base("smollm2-4"), dataset(TWO_TURNS), {"template": "none"})
    with pytest.raises(NotSupportedError, match="has no chat template, so it cannot be trained on messages"):
        engine.task_for(base("tiny-gpt2"), dataset(TWO_TURNS))


def test_a_chat_is_kept_as_a_probe_to_its_first_answer() -> None:
    call = json.dumps({"tool_calls": [{"function": {"name": "weather", "arguments": {}}}]})
    chat = Chat(
        (Message("user", "a"), Message("assistant", "b", learnt=False), Message("user", "c"), Message("assistant", "", call),
         Message("tool", "d"), Message("assistant", "e")),
        json.dumps({"tools": []}),
    )  # fmt: skip
    kept = probe_of_chat(chat)
    assert kept is not None
    assert chat_of_probe(json.loads(json.dumps(kept))) == Chat(chat.messages[:4], chat.settings)
    assert probe_of_chat(Chat(chat.messages[:3])) is None
    for wrong in ({"messages": []}, {"messages": [{"role": "user"}]}, {**kept, "settings": "[]"}, {**kept, "more": 1}):
        with pytest.raises(AdapterCorruptError, match="probe input not understood"):
            chat_of_probe(wrong)


def test_adapters_of_other_data_are_combined(engine: Any, base: Any, tmp_path: Path) -> None:
    loaded, manifests = base("smollm2-4"), []
    for number, rows in enumerate((PAIRS, PAIRS[:1])):
        adapter = engine.train(loaded, engine.load_data(rows, "causal-lm"), settings={"rank": 1}, config=STEP)
        manifests.append(adapter.save(tmp_path / str(number)))
        adapter.detach()
    first, other = (manifest.task.preprocessing["facts"]["learnt"]["digest"] for manifest in manifests)
    assert first != other
    _check_task(manifests[0], manifests[1], tmp_path)
