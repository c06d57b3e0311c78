"""Messages of chats in the spellings that people have: OpenAI's, ShareGPT's and TRL's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterhub_causal_lm.items import Message
from adapterhub_causal_lm.tools import read_calls
from adapterhub_lite.api import DataError, is_missing

SPEAKERS = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "function_call": "assistant", "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip
"""The role that each spelling stands for. What `function_call` says is a call, as JSON."""
FURTHER = ("tool_call_id", "name", "reasoning_content", "thinking")
"""Keys, beside tool_calls, that are handed to the template as they are."""
READ = {"role", "from", "content", "value", "weight", "tool_calls", "function_call", *FURTHER}
TEXT_PARTS = ("text", "input_text", "output_text")


@dataclass
class Seen:
    """What was read as something else, or not at all, for the notes."""

    roles: Counter[tuple[str, str]] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    unlearnt: int = 0

    def notes(self, column: str) -> list[str]:
        """Lines for the user."""
        notes = []
        if self.roles:
            spelled = ", ".join(f"{spelling!r} as {role} ({count})" for (spelling, role), count in self.roles.items())
            notes.append(f"column {column!r}: roles are read so: {spelled}")
        if self.unlearnt:
            notes.append(
                f"column {column!r}: {self.unlearnt} of the assistant's messages have weight 0: given, not learnt"
            )
        if self.unused:
            keys = ", ".join(f"{key!r} ({count})" for key, count in self.unused.most_common(8))
            notes.append(f"column {column!r}: keys of messages that are not used: {keys}")
        return notes


def read_message(value: Any, where: str, seen: Seen, *, plain: bool = True) -> Message:
    """Read one message.

    Args:
        value: {"role", "content"} or {"from", "value"}, and what else OpenAI's messages have.
        where: Its place, for messages.
        seen: Counts what is read as something else.
        plain: The value is as it was written; False where Arrow has put missing keys into every object.

    Raises:
        DataError: an unknown role, content that is no text, a call or a weight that cannot be used.
    """
    if not isinstance(value, Mapping):
        raise DataError(f'{where}: must be an object with "role" and "content"')
    given = {key: entry for key, entry in value.items() if not is_missing(entry)}
    said = given.get("role", given.get("from"))
    if said is None or not {"content", "value", "tool_calls", "function_call"} & value.keys():
        raise DataError(f'{where}: must be an object with "role" and "content" (or "from" and "value")')
    role = SPEAKERS.get(said.casefold()) if isinstance(said, str) else None
    if role is None:
        raise DataError(f"{where}: role {said!r} is not known; use one of {', '.join(SPEAKERS)}")
    if said != role:
        seen.roles[said, role] += 1
    if not given.keys() <= READ:
        seen.unused.update(given.keys() - READ)
    content = given.get("content", given.get("value"))
    calls = given.get("tool_calls") or given.get("function_call")
    if said.casefold() == "function_call":
        content, calls = None, content
    further = {key: given[key] for key in FURTHER if key in given}
    for key, entry in further.items():
        if not isinstance(entry, str):
            raise DataError(f"{where}: {key} is of type {type(entry).__name__}, not text; correct it")
    if calls:
        if role != "assistant":
            raise DataError(f"{where}: the {role} has tool_calls, which only the assistant makes; remove them")
        further["tool_calls"] = read_calls(calls, where, plain=plain)
        content = "" if content is None else content
    text = _text(content, where)
    if not text.strip() and role in ("user", "assistant") and not calls:
        raise DataError(f"{where}: content of the {role} is empty; fill it in or remove the row")
    learnt = _learnt(given.get("weight", 1), role, said, where)
    seen.unlearnt += not learnt
    return Message(role, text, json.dumps(further, ensure_ascii=False) if further else "", learnt)


def _text(content: Any, where: str) -> str:
    """The content as one text: the parts of a list each on a line of its own."""
    if isinstance(content, list):
        content = "\n".join(_part(part, f"{where}, part {number}") for number, part in enumerate(content, start=1))
    if not isinstance(content, str):
        raise DataError(f"{where}: content is of type {type(content).__name__}, not text; only text can be learnt")
    if "\0" in content:
        raise DataError(f"{where}: content has a NUL character; remove it")
    return content


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind not in TEXT_PARTS or not isinstance(text, str):
        raise DataError(f"{where}: is {kind!r}, and only parts of text can be learnt; take it out or remove the row")
    return text


def _learnt(weight: Any, role: str, said: str, where: str) -> bool:
    """Whether a message of this weight is learnt; of other roles than the assistant none is, whatever it weighs."""
    if isinstance(weight, (str, list, dict)) or weight not in (0, 1):
        raise DataError(f"{where}: weight is {weight!r}; write 1 for a message to be learnt, 0 for one that is given")
    return bool(weight) or role != "assistant"
