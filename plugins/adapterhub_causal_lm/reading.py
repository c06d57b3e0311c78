"""Text to continue: plain texts, prompts with completions, or chats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_causal_lm.options import ROLES, TASK
from adapterhub_lite.api import (
    ConfigError,
    DataError,
    Dataset,
    Request,
    Table,
    check_roles,
    checked_text,
    find_column,
    guess_column,
    is_missing,
    read_groups,
    read_items,
    read_table,
    shortened,
)

SPEAKERS = ("system", "user", "assistant", "tool")
PAIRS = (("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("instruction", "response"))


def read(source: Any, request: Request) -> Dataset:
    """Read and check texts for a language model; see `load_data`.

    A column `messages` gives `Chat`s, two columns such as `prompt` and `completion` give `Completion`s, a column `text`
    gives `Text`s; looked for in this order. A prompt may have a second part in an `input` column, as in Alpaca's files.
    """
    table = read_table(source)
    require_labels = request.require_labels
    used = choose_columns(table, request.columns, require_labels)
    notes, form = list(table.notes), "text"
    if "messages" in used:
        form, column = "chat", used["messages"]
        inputs = read_items(table, [column], lambda row, value: _chat(value, table, row, column, require_labels))
    elif "prompt" in used:
        form = "completion"
        inputs = _completions(table, used, require_labels, notes)
    else:
        column = used["text"]
        inputs = read_items(table, [column], lambda row, value: Text(checked_text(value, table, row, column)))
    return Dataset(
        TASK, inputs, None, (), used, table.source, table.sha256, table, tuple(notes), form,
        groups=read_groups(table, used, required=require_labels),
    )  # fmt: skip


def choose_columns(table: Table, given: Mapping[str, str], require_labels: bool) -> dict[str, str]:
    """The columns to read, by role: {messages}, {prompt, input?, completion} or {text}."""
    check_roles(given, ROLES, TASK)
    if "group" in given:
        group = find_column(table, given["group"], "group")
        rest = {role: name for role, name in given.items() if role != "group"}
        return {**choose_columns(table, rest, require_labels), "group": group}
    used = {role: find_column(table, name, role) for role, name in given.items()}
    if used:
        alone = {"messages", "text"} & used.keys()
        if alone and len(used) > 1:
            raise ConfigError(
                f"columns: {', '.join(used)} do not go together; give messages, or text, or prompt and completion"
            )
        if not alone and "prompt" not in used:
            raise ConfigError("columns: give 'prompt' as well, the column to be completed")
        if not alone and "completion" not in used and require_labels:
            raise ConfigError("columns: give 'completion' as well, the column to learn")
        return used
    messages = guess_column(table, ("messages",))
    if messages is not None:
        return {"messages": messages}
    for prompt, completion in PAIRS:
        first, second = guess_column(table, (prompt,)), guess_column(table, (completion,))
        if first is not None and (second is not None or not require_labels):
            extra = guess_column(table, ("input",)) if prompt == "instruction" else None
            pair = {"prompt": first, "input": extra, "completion": second}
            return {role: name for role, name in pair.items() if name is not None}
    text = guess_column(table, ("text", "content", "document", "code"))
    if text is not None:
        return {"text": text}
    raise DataError(
        f"{table.source}: has no columns for a language model (messages, or prompt and completion, or text); "
        f"name them with --prompt-column and --completion-column, or --text-column (columns={{'prompt': NAME, ...}} in "
        f"Python): {shortened(table.columns)}"
    )


def _completions(table: Table, used: Mapping[str, str], require_labels: bool, notes: list[str]) -> Sequence[Completion]:
    joined = 0

    def completion(row: int, *values: Any) -> Completion:
        nonlocal joined
        given = dict(zip(columns, values, strict=True))
        prompt, extra, answer = given["prompt"], given.get("input"), given.get("completion")
        prompt = checked_text(prompt, table, row, used["prompt"], "prompt")
        if not _empty(extra):
            prompt += "\n\n" + checked_text(extra, table, row, used["input"], "input")
            joined += 1
        if require_labels or not _empty(answer):
            answer = checked_text(answer, table, row, used["completion"], "completion")
        return Completion(prompt, answer if answer is not None and not _empty(answer) else "")

    columns = [role for role in ("prompt", "input", "completion") if role in used]
    rows = read_items(table, [used[role] for role in columns], completion)
    if joined:
        notes.append(f"column {used['input']!r} follows the prompt after a blank line in {joined} of {len(rows)} rows")
    return rows


def _empty(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def _chat(value: Any, table: Table, row: int, column: str, require_labels: bool) -> Chat:
    where = table.where(row, column)
    if isinstance(value, str):  # a CSV can only hold a chat as JSON
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f'{where}: not a JSON list of messages ({error}); write [{{"role": ..., "content": ...}}]'
            ) from error
    if is_missing(value) or not isinstance(value, list) or not value:
        raise DataError(f'{where}: holds no list of messages; write [{{"role": "user", "content": "..."}}, ...]')
    messages = tuple(_message(message, f"{where}, message {number}") for number, message in enumerate(value, start=1))
    if require_labels and not any(message.role == "assistant" for message in messages):
        raise DataError(f"{where}: has no assistant message to learn from; add one or remove the row")
    return Chat(messages)


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict) or not {"role", "content"} <= value.keys():
        raise DataError(f'{where}: must be an object with "role" and "content"')
    role, content = value["role"], value["content"]
    if role not in SPEAKERS:
        raise DataError(f"{where}: role {role!r} is not known; use one of {', '.join(SPEAKERS)}")
    if not isinstance(content, str):
        raise DataError(f"{where}: content is of type {type(content).__name__}, not text; only text can be learnt")
    if not content.strip() and role in ("user", "assistant"):
        raise DataError(f"{where}: content of the {role} is empty; fill it in or remove the row")
    if "\0" in content:
        raise DataError(f"{where}: content has a NUL character; remove it")
    return Message(role, content)
