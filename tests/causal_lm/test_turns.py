"""What is learnt of a conversation, turn by turn: templates that rewrite, mark, leave out or mix what is said."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from adapterhub_causal_lm.chat import ChatTemplate
from adapterhub_causal_lm.items import Chat, Message
from adapterhub_causal_lm.tokens import IGNORED, encode_written, prompt_ids
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import DataError, NotSupportedError

SYSTEM, SKY = Message("system", "Answer like a pirate."), Message("user", "What colour is the sky?")
BLUE, GRASS = Message("assistant", "Blue."), Message("user", "My pin is 4711. And the grass?")
GREEN = Message("assistant", "Green.")
TWO_TURNS = Chat((SYSTEM, SKY, BLUE, GRASS, GREEN))

TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
PLAIN = "{% for m in messages %}" + TURN + "{% endfor %}" + OPEN
# An empty block of thinking stands in the last answer alone.
THINK_LAST = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}" + OPEN
)
# The system's text is a part of the last question.
SYSTEM_LAST = (
    "{% set turns = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% set asked = turns | selectattr('role', 'equalto', 'user') | list %}"
    "{% for m in turns %}{% if m.role == 'user' %}[INST]"
    "{% if messages[0].role == 'system' and m == asked[-1] %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "{{ m.content }}[/INST]{% else %}{{ ' ' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
)
# A reminder of the first question follows the answer.
REMINDING = (
    "{% for m in messages %}" + TURN + "{% endfor %}" + OPEN + "{% if messages[-1].role == 'assistant' %}"
    "{{ 'You were asked: ' + messages[0].content + '<|im_end|>' }}{% endif %}"
)
HEADER, END = r"'<|im_start|>assistant\n'", r"'<|im_end|>\n'"


def marking(marked: str, rest: str) -> str:
    """A template that marks a part of what the assistant says, and writes the rest after it."""
    answer = f"{{% generation %}}{{{{ {marked} }}}}{{% endgeneration %}}{{{{ {rest} }}}}"
    return f"{{% for m in messages %}}{{% if m.role == 'assistant' %}}{answer}{{% else %}}{TURN}{{% endif %}}{{% endfor %}}{OPEN}"


MARKED = marking(f"{HEADER} + m.content + {END}", "''")
MARKED_BUT_END = marking(f"{HEADER} + m.content", END)
MARKED_IN_PART = marking(f"{HEADER} + m.content[:2]", f"m.content[2:] + {END}")
CHANGING = PLAIN.replace("m.content", "m.content | replace('u', 'x')")
ENDLESS = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.fixture(scope="module")
def with_template(load: Any, references: Any) -> Callable[[str], Any]:
    """SmolLM2's tokenizer with another template."""
    tokenizer = copy.deepcopy(load(references("smollm2-4")).tokenizer)

    def changed(template: str) -> Any:
        tokenizer.chat_template = template
        return tokenizer

    return changed


def learnt(chat: Chat, tokenizer: Any) -> list[tuple[str, list[str]]]:
    """Of each example what is given, to its last answer, and what is learnt, run by run."""
    examples = []
    for written in ChatTemplate(tokenizer).write(chat).texts:
        ids, labels = encode_written(written, tokenizer)
        assert tokenizer.decode(ids) == written.text
        runs: list[list[int]] = [[]]
        for token, label in zip(ids, labels, strict=True):
            if label != IGNORED:
                runs[-1].append(token)
            elif runs[-1]:
                runs.append([])
        said = [tokenizer.decode(run) for run in runs if run]
        examples.append((written.text[: written.learnt[-1][0]], said))
    return examples


def test_a_template_that_rewrites_gives_an_example_a_turn(with_template: Any) -> None:
    first, second = learnt(TWO_TURNS, with_template(THINK_LAST))
    assert (first[1], second[1]) == (["Blue.<|im_end|>"], ["Green.<|im_end|>"])
    opened = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    asked = "<|im_start|>system\nAnswer like a pirate.<|im_end|>\n<|im_start|>user\nWhat colour is the sky?<|im_end|>\n"
    assert first[0] == asked + opened
    assert second[0] == (
        f"{asked}<|im_start|>assistant\nBlue.<|im_end|>\n<|im_start|>user\n{GRASS.content}<|im_end|>\n{opened}"
    )
    first, second = learnt(TWO_TURNS, with_template(SYSTEM_LAST))
    assert first == (f"[INST]{SYSTEM.content}\n\n{SKY.content}[/INST]", [" Blue.<|im_end|>"])
    assert second[1] == [" Green.<|im_end|>"]
    assert second[0].count(SYSTEM.content) == 1
    # Without what is rewritten one example holds both.
    assert [said for _, said in learnt(Chat((SKY, BLUE, GRASS, GREEN)), with_template(SYSTEM_LAST))] == [
        [" Blue.<|im_end|>", " Green.<|im_end|>"]
    ]


@pytest.mark.parametrize("template", [PLAIN, MARKED, MARKED_BUT_END])
def test_marks_are_used_to_the_end_of_the_turn(with_template: Any, template: str) -> None:
    ((_, said),) = learnt(TWO_TURNS, with_template(template))
    assert said == ["Blue.<|im_end|>", "Green.<|im_end|>"]
    assert ChatTemplate(with_template(template)).write(TWO_TURNS).marked == (template != PLAIN)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (MARKED_IN_PART, "does not mark it to its end"), (CHANGING, "leaves out its content, or changes it"),
        (REMINDING, "mixes what others say into it"), ("Hello!", "does not write what is said"),
    ],
)  # fmt: skip
def test_what_cannot_be_proven_is_refused(with_template: Any, template: str, why: str) -> None:
    with pytest.raises((DataError, NotSupportedError), match=why):
        learnt(TWO_TURNS, with_template(template))


def test_a_template_that_ends_no_turn_is_closed_by_the_tokenizer(with_template: Any) -> None:
    first, second = learnt(TWO_TURNS, with_template(ENDLESS))
    assert (first[1], second[1]) == (["Blue.<|im_end|>"], ["Green.<|im_end|>"])
    assert "<|im_end|>" not in second[0]


def test_an_answer_of_weight_0_is_given(with_template: Any) -> None:
    chat = Chat((SKY, Message("assistant", "Blue.", learnt=False), GRASS, GREEN))
    ((given, said),) = learnt(chat, with_template(PLAIN))
    assert said == ["Green.<|im_end|>"]
    assert "Blue.<|im_end|>" in given
    assert (
        ChatTemplate(with_template(PLAIN)).write(Chat((SKY, Message("assistant", "Blue.", learnt=False)))).texts == ()
    )


def test_tokens_end_where_what_is_learnt_begins(with_template: Any) -> None:
    # A blank in front of an answer and what is in it are one token where both are tokenized together.
    tokenizer = with_template("{% for m in messages %}{{ m.role + ': ' + m.content + '<|im_end|>' }}{% endfor %}"
                              "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}")  # fmt: skip
    chat = Chat((SKY, Message("assistant", "Blue, \U0001f3f4\u200d\u2620\ufe0f \u00e9")))
    (written,) = ChatTemplate(tokenizer).write(chat).texts
    ids, labels = encode_written(written, tokenizer)
    begin = next(place for place, label in enumerate(labels) if label != IGNORED)
    assert all(label != IGNORED for label in labels[begin:])
    assert ids[:begin] == prompt_ids(SKY.content, tokenizer, chat=True, thinks=False)
    assert tokenizer.decode(ids[begin:]) == "Blue, \U0001f3f4\u200d\u2620\ufe0f \u00e9<|im_end|>"


@pytest.mark.parametrize("template", [PLAIN, THINK_LAST, SYSTEM_LAST, MARKED, ENDLESS])
def test_the_model_is_asked_as_it_was_trained(with_template: Any, template: str) -> None:
    tokenizer = with_template(template)
    for written in ChatTemplate(tokenizer).write(TWO_TURNS).texts:
        ids, labels = encode_written(written, tokenizer)
        last = max(place for place in range(1, len(ids)) if labels[place] != IGNORED and labels[place - 1] == IGNORED)
        chat = Chat(TWO_TURNS.messages[: 5 if "Green" in written.text else 3])
        assert prompt_ids(chat, tokenizer, chat=True, thinks=False) == ids[:last]


def dataset(*chats: Chat) -> Dataset:
    return Dataset("causal-lm", chats, None, (), {}, "<list>", "", None, form="chat")


def test_rows_and_notes(engine: Any, base: Any, with_template: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = base("smollm2-4")
    monkeypatch.setattr(loaded, "processor", with_template(THINK_LAST))
    data = dataset(TWO_TURNS, Chat((SKY, BLUE)), TWO_TURNS)
    task = engine.task_for(loaded, data)
    encoded = task.balance(task.encode(data, loaded))
    assert encoded.rows == (0, 0, 1, 2, 2)
    labels = [label for example in encoded.examples for label in example.target]
    given = labels.count(IGNORED)
    learnt = len(labels) - given
    assert encoded.notes == (
        "the first example, what is learnt in brackets: <|im_start|>system\\nAnswer like a pirate.<|im_end|>\\n<|im_start|>user"
        "\\nWhat colour is the sky?<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n[Blue.<|im_end|>]\\n",
        f"{learnt} tokens are learnt and {given} given, in 5 examples of 3 rows; 0 rows are cut, 0 left out",
        "the chat template rewrites earlier turns, so 2 of 3 rows are learnt turn by turn: an example for each answer as the "
        "model is asked for it (5 examples in all)",
    )
    facts = task.preprocessing.facts
    assert facts["turns"] == {"thinks": False}
    assert facts["learnt"]["policy"] == "whole render, turn by turn"
    again = engine.task_for(loaded, data)
    again.balance(again.encode(data, loaded))
    assert again.preprocessing.facts == facts
    other = engine.task_for(loaded, data)
    other.balance(other.encode(dataset(TWO_TURNS), loaded))
    assert other.preprocessing.facts["learnt"]["digest"] != facts["learnt"]["digest"]


def test_a_row_that_cannot_be_proven_is_named(
    engine: Any, base: Any, with_template: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = base("smollm2-4")
    monkeypatch.setattr(loaded, "processor", with_template(PLAIN))
    call = {"function": {"name": "weather", "arguments": {}}}
    data = dataset(TWO_TURNS, Chat((SKY, Message("assistant", "", json.dumps({"tool_calls": [call]})))))
    with pytest.raises(DataError, match=r"row 2: message 2, the assistant's: .* leaves out the call of tool 'weather'"):
        engine.task_for(loaded, data).encode(data, loaded)


def test_thinking_is_learnt_where_the_row_has_it(with_template: Any) -> None:
    block = "('<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' if m.role == 'assistant' else '')"
    thinking = PLAIN.replace("+ m.content", f"+ {block} + m.content")
    tokenizer = with_template(thinking)
    thought = Message("assistant", "Blue.", json.dumps({"reasoning_content": "Look up."}))
    ((_, said),) = learnt(Chat((SKY, thought, GRASS, GREEN)), tokenizer)
    assert said == ["<think>\nLook up.\n</think>\n\nBlue.<|im_end|>", "Green.<|im_end|>"]
    opened = "<|im_start|>user\nWhat colour is the sky?<|im_end|>\n<|im_start|>assistant\n"
    for thinks, begun in ((True, ""), (False, "<think>\n\n</think>\n\n"), (None, "")):
        assert tokenizer.decode(prompt_ids(SKY.content, tokenizer, chat=True, thinks=thinks)) == opened + begun
    written = ChatTemplate(with_template(PLAIN)).write(Chat((SKY, thought)))
    assert (written.thinks, written.unwritten) == (False, 1)
