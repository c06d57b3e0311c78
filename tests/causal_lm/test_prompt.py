"""A prompt becomes the ids that the examples of training begin with."""

from __future__ import annotations

from typing import Any

import pytest

from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_lite.errors import NotSupportedError

USER = {"role": "user", "content": "Is it raining?"}
ANSWER = {"role": "assistant", "content": "It is not."}


def test_a_chat_is_opened_for_a_reply(engine: Any, base: Any) -> None:
    loaded = base("smollm2-4")
    task = engine.task_for(loaded, engine.load_data([{"messages": [USER, ANSWER]}], "causal-lm"))
    template = loaded.tokenizer.apply_chat_template
    asked = template([USER], add_generation_prompt=True, return_dict=False)
    assert task.prompt_ids(USER["content"], loaded) == asked
    # Of a recorded conversation, the answer is what is asked for.
    recorded = Chat((Message(**USER), Message(**ANSWER)))
    assert task.prompt_ids(recorded, loaded) == asked
    longer = Chat((*recorded.messages, Message("user", "Will it?")))
    turns = [USER, ANSWER, {"role": "user", "content": "Will it?"}]
    assert task.prompt_ids(longer, loaded) == template(turns, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("prompt", ["the card", Completion("the card", "is here"), Text("the card")])
def test_any_other_prompt_begins_as_a_text_does(engine: Any, base: Any, prompt: Any) -> None:
    loaded = base("tiny-llama")
    data = engine.load_data([{"prompt": "the card", "completion": "is here"}], "causal-lm")
    task = engine.task_for(loaded, data, {"template": "none"})
    (example,) = task.encode(data, loaded).examples
    ids = task.prompt_ids(prompt, loaded)
    assert loaded.tokenizer.convert_ids_to_tokens(ids) == ["<s>", "the", "card"]
    assert example.inputs[: len(ids)] == ids


def test_a_task_that_does_not_generate_refuses(engine: Any, base: Any) -> None:
    loaded = base("tiny-bert")
    rows = [{"text": "the card", "label": "a"}, {"text": "is here", "label": "b"}]
    task = engine.task_for(loaded, engine.load_data(rows, "text-classification"))
    with pytest.raises(NotSupportedError, match="this adapter does not continue text; use predict"):
        task.prompt_ids("the card", loaded)
