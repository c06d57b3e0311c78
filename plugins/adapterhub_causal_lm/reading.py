"""Text to continue: plain texts, prompts with completions, or chats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapterhub_causal_lm.columns import BESIDE_CHATS, choose_columns, holds_messages
from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_causal_lm.messages import Seen, read_message
from adapterhub_causal_lm.options import TASK
from adapterhub_causal_lm.tools import json_value, read_settings, read_tools
from adapterhub_lite.api import (
    JSON_TYPE,
    DataError,
    Dataset,
    Request,
    Table,
    checked_text,
    is_missing,
    read_groups,
    read_items,
    read_table,
)

NO_LIST = 'holds no list of messages; write [{"role": "user", "content": "..."}, ...]'


def read(source: Any, request: Request) -> Dataset:
    """Read and check texts for a language model; see `load_data`.

    A column of chats gives `Chat`s, two columns such as `prompt` and `completion` give `Completion`s, a column `text`
    gives `Text`s; looked for in this order. A prompt and a completion give a `Chat` where they are lists of messages, and
    where the table has a `system` text or a `history` for any of them.
    """
    table = read_table(source)
    required = request.require_labels
    used = choose_columns(table, request.columns, required)
    notes: list[str] = []
    inputs: Sequence[Any]
    if "text" in used:
        form, column = "text", used["text"]
        inputs = read_items(table, [column], lambda row, value: Text(checked_text(value, table, row, column)))
    elif "prompt" in used and not _is_chat(table, used):
        form = "completion"
        used = {role: name for role, name in used.items() if role in ("prompt", "input", "completion", "group")}
        inputs = _completions(table, used, required, notes)
    else:
        form = "chat"
        inputs = _Chats(table, used, required).read(notes)
    return Dataset(
        TASK, inputs, None, (), used, table.source, table.sha256, table, (*table.notes, *notes), form,
        groups=read_groups(table, used, required=required),
    )  # fmt: skip


def _is_chat(table: Table, used: Mapping[str, str]) -> bool:
    """Whether prompts and completions are parts of chats: lists of messages, or with what only a chat has."""
    beside = (used[role] for role in ("history", *BESIDE_CHATS) if role in used)
    return holds_messages(table, used["prompt"]) or any(
        not _empty(value) for column in beside for value in table.iterate(column)
    )


def _completions(table: Table, used: Mapping[str, str], require_labels: bool, notes: list[str]) -> Sequence[Completion]:
    prompts = _Prompts(table, used)

    def completion(row: int, *values: Any) -> Completion:
        given = dict(zip(columns, values, strict=True))
        answer = given.get("completion")
        prompt = prompts.whole(row, given["prompt"], given.get("input"))
        if require_labels or not _blank(answer):
            answer = checked_text(answer, table, row, used["completion"], "completion")
        return Completion(prompt, answer if answer is not None and not _blank(answer) else "")

    columns = [role for role in ("prompt", "input", "completion") if role in used]
    rows = read_items(table, [used[role] for role in columns], completion)
    notes += prompts.notes(len(rows))
    return rows


class _Prompts:
    """Prompts of which some have a second part, such as Alpaca's `input` and Dolly's `context`."""

    def __init__(self, table: Table, used: Mapping[str, str]):
        self.table, self.used = table, used
        self.joined = 0

    def whole(self, row: int, prompt: Any, extra: Any) -> str:
        """Both parts of a row's prompt, a blank line between them."""
        text = checked_text(prompt, self.table, row, self.used["prompt"], "prompt")
        if _blank(extra):
            return text
        self.joined += 1
        return f"{text}\n\n{checked_text(extra, self.table, row, self.used['input'], 'input')}"

    def notes(self, rows: int) -> list[str]:
        if not self.joined:
            return []
        return [f"column {self.used['input']!r} follows the prompt after a blank line in {self.joined} of {rows} rows"]


class _Chats:
    """The chats of a table: whole ones, prompts with completions that are lists, or with a system text and a history.

    Args:
        table: The rows.
        used: Columns by role.
        required: Each chat must have something to learn.
    """

    def __init__(self, table: Table, used: Mapping[str, str], required: bool):
        self.table, self.used, self.required = table, used, required
        self.seen, self.prompts = Seen(), _Prompts(table, used)
        self.roles = [role for role in used if role != "group"]
        self.plain = {role: table.arrow.column(name).type == JSON_TYPE for role, name in used.items()}
        self.systems = self.histories = 0
        self.make: Callable[[int, dict[str, Any]], tuple[Message, ...]] = self._of_columns
        if "messages" in used:
            self.make = self._whole
        elif holds_messages(table, used["prompt"]):
            self.make = self._of_lists

    def read(self, notes: list[str]) -> Sequence[Chat]:
        """All chats, checked; what is to be told of them goes into `notes`."""
        chats = read_items(self.table, [self.used[role] for role in self.roles], self._chat)
        notes += self.seen.notes(self.used.get("messages") or self.used["prompt"])
        notes += self.prompts.notes(len(chats))
        if self.systems:
            notes.append(f"column {self.used['system']!r} is the system text of {self.systems} of {len(chats)} rows")
        if self.histories:
            notes.append(
                f"column {self.used['history']!r} precedes the prompt as turns of user and assistant in {self.histories} of "
                f"{len(chats)} rows; the assistant's are learnt as well"
            )
        return chats

    def _chat(self, row: int, *values: Any) -> Chat:
        given = dict(zip(self.roles, values, strict=True))
        messages = self.make(row, given)
        column = self.used.get("messages") or self.used["prompt"]
        if not _blank(given.get("system")):
            system = checked_text(given["system"], self.table, row, self.used["system"], "system text")
            if messages[0].role == "system":
                raise DataError(
                    f"{self._at(row, 'system')}: the row has a system text, and so has the chat in column {column!r}; "
                    "remove one of them"
                )
            messages = (Message("system", system), *messages)
            self.systems += 1
        if self.required and not any(message.role == "assistant" and message.learnt for message in messages):
            why = ", for all have weight 0" if any(message.role == "assistant" for message in messages) else ""
            raise DataError(
                f"{self.table.where(row, column)}: has no assistant message to learn from{why}; add one or remove the row"
            )
        return Chat(messages, self._settings(row, given))

    def _settings(self, row: int, given: Mapping[str, Any]) -> str:
        settings: dict[str, Any] = {}
        if not _empty(given.get("tools")):
            tools = read_tools(given["tools"], self._at(row, "tools"), plain=self.plain["tools"])
            settings["tools"] = tools
        if not _empty(given.get("chat_template_kwargs")):
            where, plain = self._at(row, "chat_template_kwargs"), self.plain["chat_template_kwargs"]
            settings |= read_settings(given["chat_template_kwargs"], where, plain=plain)
        return json.dumps(settings, ensure_ascii=False) if settings else ""

    def _whole(self, row: int, given: Mapping[str, Any]) -> tuple[Message, ...]:
        return self._messages(given["messages"], row, "messages")

    def _of_lists(self, row: int, given: Mapping[str, Any]) -> tuple[Message, ...]:
        """The prompt is given, what the assistant says in it too; the completion is learnt."""
        prompt = (Message(m.role, m.content, m.further, False) for m in self._messages(given["prompt"], row, "prompt"))
        completion = given.get("completion")
        if not self.required and _empty(completion):
            return tuple(prompt)
        return (*prompt, *self._messages(completion, row, "completion"))

    def _of_columns(self, row: int, given: Mapping[str, Any]) -> tuple[Message, ...]:
        """A prompt as the user's turn, its completion as the assistant's, and earlier turns in front."""
        history = given.get("history")
        earlier = () if _empty(history) else self._history(history, row)
        self.histories += bool(earlier)
        asked = Message("user", self.prompts.whole(row, given["prompt"], given.get("input")))
        answer = given.get("completion")
        if not self.required and _blank(answer):
            return (*earlier, asked)
        text = checked_text(answer, self.table, row, self.used["completion"], "completion")
        return (*earlier, asked, Message("assistant", text))

    def _history(self, value: Any, row: int) -> tuple[Message, ...]:
        where = self._at(row, "history")
        turns = json_value(value, where, "a list of turns")
        if not isinstance(turns, list):
            raise DataError(f"{where}: holds no list of turns; write [[question, answer], ...]")
        messages: list[Message] = []
        for number, turn in enumerate(turns, start=1):
            if isinstance(turn, dict):
                messages.append(read_message(turn, f"{where}, turn {number}", self.seen, plain=self.plain["history"]))
                continue
            if not isinstance(turn, list) or len(turn) != 2:
                raise DataError(f"{where}, turn {number}: is not [question, answer]; correct it")
            for role, text in zip(("user", "assistant"), turn, strict=True):
                message = {"role": role, "content": text}
                messages.append(read_message(message, f"{where}, turn {number}", self.seen))
        return tuple(messages)

    def _messages(self, value: Any, row: int, role: str) -> tuple[Message, ...]:
        where = self._at(row, role)
        if isinstance(value, str):  # a CSV can only hold a chat as JSON
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f'{where}: not a JSON list of messages ({error}); write [{{"role": ..., "content": ...}}]'
                ) from error
        if is_missing(value) or not isinstance(value, list) or not value:
            raise DataError(f"{where}: {NO_LIST}")
        return tuple(
            read_message(message, f"{where}, message {number}", self.seen, plain=self.plain[role])
            for number, message in enumerate(value, start=1)
        )

    def _at(self, row: int, role: str) -> str:
        return self.table.where(row, self.used[role])


def _blank(text: Any) -> bool:
    return is_missing(text) or (isinstance(text, str) and not text.strip())


def _empty(value: Any) -> bool:
    """Whether a cell that is no text says nothing: it is blank, or a list or an object of nothing, as text too."""
    return _blank(value) or value in ([], {}) or (isinstance(value, str) and value.strip() in ("[]", "{}"))
