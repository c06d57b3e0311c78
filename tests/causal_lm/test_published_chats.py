"""The layouts of chats and instructions that people publish, each read as what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapterhub_causal_lm.items import Chat, Completion, Message
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import DataError
from tests.reading import load_data

TASK = "causal-lm"
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
FERRY = {"type": "function", "function": {"name": "ferry", "parameters": {"type": "object", "properties": {}}}}


def load(source: Any, **options: Any) -> Dataset:
    return load_data(source, TASK, **options)


def load_lines(folder: Path, *rows: dict[str, Any]) -> Dataset:
    """The rows as a file of JSON lines, which keeps them exactly."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return load(path)


def only_chat(data: Dataset) -> Chat:
    (item,) = data.inputs
    assert data.form == "chat"
    assert isinstance(item, Chat)
    return item


def spoken(chat: Chat) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in chat.messages]


@pytest.mark.parametrize("column", ["conversations", "conversation", "messages", "Conversations"])
@pytest.mark.parametrize(
    ("user", "assistant"),
    [("human", "gpt"), ("user", "assistant"), ("user", "chatgpt"), ("human", "bot"), ("Human", "model")],
)
def test_sharegpt(tmp_path: Path, column: str, user: str, assistant: str) -> None:
    turns = [("system", "Be brief."), (user, "A prime?"), (assistant, "Eleven."), (user, "Even?"), (assistant, "Two.")]
    data = load_lines(tmp_path, {"id": "x", column: [{"from": role, "value": text} for role, text in turns]})
    roles = ("system", "user", "assistant", "user", "assistant")
    assert spoken(only_chat(data)) == list(zip(roles, (text for _, text in turns), strict=True))
    assert data.columns == {"messages": column}


def test_what_roles_are_read_as_is_said(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "markdown": None, "model": "m"}]
    data = load_lines(tmp_path, {"conversations": turns})
    assert data.notes == (
        "column 'conversations': roles are read so: 'human' as user (1), 'gpt' as assistant (1)",
        "column 'conversations': keys of messages that are not used: 'model' (1)",
    )


def test_conversations_with_role_and_content(tmp_path: Path) -> None:
    assert spoken(only_chat(load_lines(tmp_path, {"conversations": [USER, ANSWER]}))) == [
        ("user", "hi"),
        ("assistant", "hello"),
    ]


def test_a_column_named_conversation_that_holds_texts_is_no_chat(tmp_path: Path) -> None:
    data = load_lines(tmp_path, {"conversation": "A: hi. B: hello.", "prompt": "sum up", "completion": "greetings"})
    assert list(data.inputs) == [Completion("sum up", "greetings")]


def test_sharegpt_with_tools_and_a_system_column(tmp_path: Path) -> None:
    data = load_lines(
        tmp_path,
        {
            "conversations": [
                {"from": "human", "value": "Rain in Bern?"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"town": "Bern"}}'},
                {"from": "observation", "value": "dry"},
                {"from": "gpt", "value": "It is dry."},
            ],
            "system": "Be brief.",
            "tools": json.dumps([WEATHER["function"]]),
        },
    )
    chat = only_chat(data)
    call = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Bern"}}}
    assert [message.fields() for message in chat.messages] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Rain in Bern?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "dry"},
        {"role": "assistant", "content": "It is dry."},
    ]
    assert json.loads(chat.settings) == {"tools": [WEATHER]}
    assert data.columns == {"messages": "conversations", "system": "system", "tools": "tools"}
    assert "column 'system' is the system text of 1 of 1 rows" in data.notes


def openai_row() -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Bern"}'}}
    return {
        "tools": [WEATHER, FERRY],
        "messages": [
            {"role": "user", "content": "Rain in Bern?", "name": "Ida"},
            {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Ask."},
            {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "dry"},
            {"role": "assistant", "content": "It is dry."},
        ],
    }


OPENAI_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Bern"}}}


def test_openai_tools(tmp_path: Path) -> None:
    chat = only_chat(load_lines(tmp_path, openai_row()))
    assert [message.fields() for message in chat.messages] == [
        {"role": "user", "content": "Rain in Bern?", "name": "Ida"},
        {"role": "assistant", "content": "", "tool_calls": [OPENAI_CALL], "reasoning_content": "Ask."},
        {"role": "tool", "content": "dry", "tool_call_id": "c1", "name": "weather"},
        {"role": "assistant", "content": "It is dry."},
    ]
    assert all(message.learnt for message in chat.messages)
    assert json.loads(chat.settings) == {"tools": [WEATHER, FERRY]}


def test_openai_tools_from_parquet_have_no_key_that_arrow_put_there(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    # One struct for both tools and both calls: Arrow gives "town" to the ferry as well, with nothing under it.
    row = openai_row()
    calls = [
        {"function": {"name": "ferry", "arguments": {"day": 3}}},
        {"function": {"name": "weather", "arguments": {"town": "Bern"}}},
    ]
    row["messages"][1]["tool_calls"] = calls
    pq.write_table(pa.Table.from_pylist([row]), path)
    assert "town" in pq.read_table(path)["messages"][0].as_py()[1]["tool_calls"][0]["function"]["arguments"]
    chat = only_chat(load(path))
    assert json.loads(chat.settings) == {"tools": [WEATHER, FERRY]}
    assert [call["function"] for call in chat.messages[1].fields()["tool_calls"]] == [c["function"] for c in calls]
    assert chat.messages[3].fields() == {"role": "assistant", "content": "It is dry."}


def test_a_null_in_json_stays_what_it_is(tmp_path: Path) -> None:
    row = openai_row()
    row["messages"][1]["tool_calls"][0]["function"]["arguments"] = '{"town": null}'
    calls = only_chat(load_lines(tmp_path, row)).messages[1].fields()["tool_calls"]
    assert calls[0]["function"]["arguments"] == {"town": None}


def test_the_older_spelling_of_calls(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": ""}}
    answer = {"role": "function", "name": "weather", "content": "dry"}
    data = load_lines(tmp_path, {"messages": [USER, call, answer, ANSWER], "functions": [WEATHER["function"]]})
    chat = only_chat(data)
    inner = {"name": "weather", "arguments": {}}
    assert chat.messages[1].fields()["tool_calls"] == [{"type": "function", "function": inner}]
    assert chat.messages[2].fields() == {"role": "tool", "content": "dry", "name": "weather"}
    assert json.loads(chat.settings) == {"tools": [WEATHER]}


def test_parts_of_text_are_joined_and_developers_are_the_system(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Capital of"}, {"type": "input_text", "text": "Peru?"}]
    said = [{"role": "developer", "content": "One word."}, {"role": "user", "content": parts}, ANSWER]
    data = load_lines(tmp_path, {"messages": said})
    assert spoken(only_chat(data))[:2] == [("system", "One word."), ("user", "Capital of\nPeru?")]
    assert data.notes == ("column 'messages': roles are read so: 'developer' as system (1)",)


def test_weight_says_what_is_learnt(tmp_path: Path) -> None:
    said = [
        USER,
        {**ANSWER, "weight": 0},
        {**USER, "weight": 0},
        {**ANSWER, "weight": 1},
        USER,
        {**ANSWER, "weight": None},
    ]
    data = load_lines(tmp_path, {"messages": said})
    assert [message.learnt for message in only_chat(data).messages] == [True, False, True, True, True, True]
    assert data.notes == ("column 'messages': 1 of the assistant's messages have weight 0: given, not learnt",)


def test_lists_as_prompt_and_completion_and_what_the_template_is_given(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "system", "content": "s"}, USER, ANSWER, {"role": "user", "content": "more"}],
        "completion": [{"role": "assistant", "content": "that is all"}],
        "chat_template_kwargs": {"enable_thinking": False},
        "tools": [WEATHER],
    }
    chat = only_chat(load_lines(tmp_path, row))
    assert [message.role for message in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [m.learnt for m in chat.messages if m.role == "assistant"] == [False, True]
    assert json.loads(chat.settings) == {"tools": [WEATHER], "enable_thinking": False}
    asked = load([{"prompt": row["prompt"]}], require_labels=False)
    assert [message.role for message in only_chat(asked).messages] == ["system", "user", "assistant", "user"]


def test_lists_as_prompt_and_completion_in_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    cells = ['"' + json.dumps(turns).replace('"', '""') + '"' for turns in ([USER], [ANSWER])]
    path.write_text(f"prompt,completion\n{','.join(cells)}\n")
    assert spoken(only_chat(load(path))) == [("user", "hi"), ("assistant", "hello")]


def test_alpaca_with_system_and_history(tmp_path: Path) -> None:
    full = {
        "instruction": "and now?",
        "input": "at noon",
        "output": "sun",
        "system": "Be brief.",
        "history": [["rain?", "yes"], ["snow?", "no"]],
    }
    bare = {"instruction": "alone", "input": "", "output": "yes", "system": "", "history": []}
    data = load_lines(tmp_path, full, bare)
    assert data.form == "chat"
    assert spoken(data.inputs[0]) == [
        ("system", "Be brief."),
        ("user", "rain?"),
        ("assistant", "yes"),
        ("user", "snow?"),
        ("assistant", "no"),
        ("user", "and now?\n\nat noon"),
        ("assistant", "sun"),
    ]
    assert spoken(data.inputs[1]) == [("user", "alone"), ("assistant", "yes")]
    assert data.notes == (
        "column 'input' follows the prompt after a blank line in 1 of 2 rows",
        "column 'system' is the system text of 1 of 2 rows",
        "column 'history' precedes the prompt as turns of user and assistant in 1 of 2 rows; the assistant's are learnt as "
        "well",
    )


def test_alpaca_whose_system_and_history_are_empty_is_prompts_and_completions(tmp_path: Path) -> None:
    data = load_lines(tmp_path, {"instruction": "a", "input": "", "output": "b", "system": "", "history": []})
    assert (data.form, list(data.inputs)) == ("completion", [Completion("a", "b")])
    assert data.columns == {"prompt": "instruction", "input": "input", "completion": "output"}


@pytest.mark.parametrize("names", [("instruction", "response"), ("question", "answer")])
def test_a_context_is_part_of_the_prompt_and_said(tmp_path: Path, names: tuple[str, str]) -> None:
    asked, answered = names
    rows = (
        {asked: "How long?", "context": "Monday to Thursday.", answered: "Three days."},
        {asked: "Who?", "context": "", answered: "I."},
    )
    data = load_lines(tmp_path, *rows)
    assert list(data.inputs) == [
        Completion("How long?\n\nMonday to Thursday.", "Three days."),
        Completion("Who?", "I."),
    ]
    assert data.notes == ("column 'context' follows the prompt after a blank line in 1 of 2 rows",)


def test_an_answer_that_is_an_empty_list_in_json_is_an_answer(tmp_path: Path) -> None:
    assert list(load_lines(tmp_path, {"prompt": "None of them?", "completion": "[]"}).inputs) == [
        Completion("None of them?", "[]")
    ]


def test_columns_of_a_saved_adapter_read_the_same(tmp_path: Path) -> None:
    data = load_lines(tmp_path, openai_row())
    again = load([openai_row()], columns=data.columns)
    assert list(again.inputs) == list(data.inputs)
    assert again.columns == data.columns


CALL = {"role": "assistant", "content": None}
REFUSED = [
    ([USER, CALL], "message 2: content is of type NoneType, not text"),
    ([USER, {**CALL, "tool_calls": []}], "message 2: content is of type NoneType, not text"),
    ([USER, {**CALL, "tool_calls": [{"type": "function"}]}], "message 2, call 1: must be"),
    (
        [USER, {**CALL, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
        "message 2, call 1: not arguments as JSON",
    ),
    (
        [USER, {**CALL, "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}],
        "call 1: arguments are of type list",
    ),
    ([{**USER, "tool_calls": [OPENAI_CALL]}, ANSWER], "message 1: the user has tool_calls"),
    ([USER, {"from": "function_call", "value": "weather(Bern)"}, ANSWER], "message 2: not a call as JSON"),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, ANSWER],
        "message 1, part 1: is 'image_url', and only parts of text",
    ),
    (
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "audio"}]}, ANSWER],
        "message 1, part 2: is 'audio'",
    ),
    ([{"role": "user", "content": []}, ANSWER], "message 1: content of the user is empty"),
    ([USER, {**ANSWER, "weight": 0.5}], "message 2: weight is 0.5; write 1"),
    ([USER, {**ANSWER, "weight": "1"}], "message 2: weight is '1'; write 1"),
    ([USER, {**ANSWER, "weight": 0}], "has no assistant message to learn from, for all have weight 0"),
    ([USER, {**ANSWER, "reasoning_content": ["a"]}], "message 2: reasoning_content is of type list, not text"),
    ([{"from": "stranger", "value": "a"}, ANSWER], "message 1: role 'stranger' is not known"),
    ([{"from": "human"}, ANSWER], "message 1: must be an object with"),
]


@pytest.mark.parametrize(("messages", "why"), REFUSED)
def test_bad_messages_are_refused_by_place(tmp_path: Path, messages: list[Any], why: str) -> None:
    with pytest.raises(DataError) as caught:
        load_lines(tmp_path, {"messages": [USER, ANSWER]}, {"messages": messages})
    assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}, row 2 (line 2), column 'messages'")
    assert why in str(caught.value)


BESIDE = [
    ({"messages": [USER, ANSWER], "tools": "weather"}, "column 'tools': not a list of tools as JSON"),
    ({"messages": [USER, ANSWER], "tools": [{"type": "function"}]}, "column 'tools', tool 1: has no name"),
    (
        {"messages": [USER, ANSWER], "chat_template_kwargs": {"add_generation_prompt": True}},
        "column 'chat_template_kwargs': sets 'add_generation_prompt'",
    ),
    ({"messages": [USER, ANSWER], "chat_template_kwargs": [1]}, "column 'chat_template_kwargs': is of type list"),
    (
        {"messages": [{"role": "system", "content": "s"}, USER, ANSWER], "system": "t"},
        "column 'system': the row has a system text, and so has the chat",
    ),
    ({"instruction": "a", "output": "b", "history": [["q"]]}, "column 'history', turn 1: is not [question, answer]"),
    (
        {"instruction": "a", "output": "b", "history": [["q", ""]]},
        "column 'history', turn 1: content of the assistant is empty",
    ),
    ({"instruction": "a", "output": "b", "history": "before"}, "column 'history': not a list of turns as JSON"),
    ({"prompt": [USER], "completion": "hello"}, "column 'completion': not a JSON list of messages"),
    ({"prompt": [USER], "completion": [USER]}, "column 'prompt': has no assistant message to learn from"),
    ({"prompt": [USER], "completion": []}, "column 'completion': holds no list of messages"),
]


@pytest.mark.parametrize(("row", "why"), BESIDE)
def test_bad_rows_are_refused_by_place(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError) as caught:
        load_lines(tmp_path, row)
    assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}, row 1 (line 1), ")
    assert why in str(caught.value)


TREES = [
    {"message_id": "m2", "parent_id": "m1", "text": "Hello.", "role": "assistant"},
    {"message_tree_id": "t", "prompt": {"text": "Hi", "role": "prompter", "replies": []}},
]


@pytest.mark.parametrize("row", TREES)
def test_trees_of_messages_are_refused_with_the_way_to_flatten_them(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: holds trees of messages .* flatten them: .*\"messages\""):
        load_lines(tmp_path, row)


def test_what_the_advice_on_trees_gives_is_read(tmp_path: Path) -> None:
    path = [{"role": "prompter", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    assert spoken(only_chat(load_lines(tmp_path, {"messages": path}))) == [("user", "Hi"), ("assistant", "Hello.")]


PREFERENCES = [
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]},
    {"prompt": "a", "completion": "b", "chosen": "b", "rejected": "c"},
]


@pytest.mark.parametrize("row", PREFERENCES)
def test_preference_pairs_are_refused_by_name(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: holds preference pairs \(columns 'chosen' and 'rejected'\)"):
        load_lines(tmp_path, row)


def test_the_advice_on_preference_pairs_works() -> None:
    chosen = load([PREFERENCES[0]], columns={"prompt": "prompt", "completion": "chosen"})
    assert list(chosen.inputs) == [Completion("a", "b")]
    whole = load([PREFERENCES[1]], columns={"messages": "chosen"})
    assert only_chat(whole).messages == (Message("user", "hi"), Message("assistant", "hello"))


def test_rated_answers_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: holds answers rated good or bad \(column 'label'\)"):
        load_lines(tmp_path, {"prompt": "a", "completion": "b", "label": False})


def test_the_lines_of_the_documentation_flatten_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text(encoding="utf-8")
    lines = text.partition("which these lines write:")[2].partition("```python\n")[2].partition("```")[0]
    tree = [
        ("a", None, "prompter", "Hi"),
        ("b", "a", "assistant", "Yes?"),
        ("c", "a", "assistant", "Hello."),
        ("d", "b", "prompter", "Why?"),
        ("e", "d", "assistant", "So."),
    ]
    rows = [dict(zip(("message_id", "parent_id", "role", "text"), row, strict=True)) for row in tree]
    (tmp_path / "messages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    chats = {tuple(text for _, text in spoken(item)) for item in load("chats.jsonl").inputs}
    assert chats == {("Hi", "Yes?", "Why?", "So."), ("Hi", "Hello.")}
