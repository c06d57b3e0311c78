"""Whether an adapter takes a text as a user's turn of a conversation, and how a conversation is kept as a probe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapterhub_causal_lm.items import Chat, Message
from adapterhub_lite.api import AdapterCorruptError, Base, ConfigError, NotSupportedError

FACT = "turns"


@dataclass(frozen=True)
class Turns:
    """What was written by the chat template, and has to be when the adapter is asked."""

    thinks: bool = False
    """Whether thinking was learnt, so that an answer is opened for it."""

    def facts(self) -> dict[str, Any]:
        """As facts of the preprocessing."""
        return {FACT: {"thinks": self.thinks}}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Turns | None:
        """The inverse of `facts`; None where the template was not used, or by an earlier version.

        Raises:
            AdapterCorruptError: what was never written.
        """
        match facts.get(FACT):
            case None:
                return None
            case {"thinks": bool(thinks), **rest} if not rest:
                return cls(thinks)
        raise AdapterCorruptError(
            f"adapterhub.json: task.preprocessing: {FACT} is not understood; save the adapter again"
        )


def takes_turns(base: Base, form: str | None, template: str) -> bool:
    """Whether the rows of a data set go through the chat template of a base.

    Args:
        base: Whose tokenizer has the template.
        form: Of the data.
        template: The option of the task.

    Raises:
        ConfigError: the option does not go with the form.
        NotSupportedError: there is no template, and one is needed.
    """
    if form == "chat" and template == "none":
        raise ConfigError(
            "template=none: messages are written by the chat template; give prompt and completion columns"
        )
    if form == "text" and template == "chat":
        raise ConfigError("template=chat: a text has no turns; give prompt and completion columns, or messages")
    if form == "chat" or (form == "completion" and template == "chat"):
        if not base.tokenizer.chat_template:
            what = "messages" if form == "chat" else "them with template=chat"
            raise NotSupportedError(
                f"'{base.reference}' has no chat template, so it cannot be trained on {what}; "
                "use prompt and completion columns" + ("" if form == "chat" else " and template=none")
            )
        return True
    return form == "completion" and template == "auto" and bool(base.tokenizer.chat_template)


def probe_of_chat(chat: Chat) -> dict[str, Any] | None:
    """A conversation as JSON, to its first answer that is learnt; None without one."""
    for turn, message in enumerate(chat.messages, start=1):
        if message.role == "assistant" and message.learnt:
            messages = [_written(message) for message in chat.messages[:turn]]
            return {"messages": messages} | ({"settings": chat.settings} if chat.settings else {})
    return None


def _written(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.further:
        written["further"] = message.further
    return written if message.learnt else written | {"learnt": False}


def chat_of_probe(value: Mapping[str, Any]) -> Chat:
    """The inverse of `probe_of_chat`.

    Raises:
        AdapterCorruptError: what was never written.
    """
    match value:
        case {"messages": [_, *_] as messages, **rest} if set(rest) <= {"settings"}:
            return Chat(tuple(map(_message, messages)), _object(rest.get("settings", "")))
    raise _not_understood(value)


def _message(value: Any) -> Message:
    match value:
        case {"role": str(role), "content": str(content), **rest} if set(rest) <= {"further", "learnt"}:
            return Message(role, content, _object(rest.get("further", "")), rest.get("learnt", True) is not False)
    raise _not_understood(value)


def _object(value: Any) -> str:
    """The text of a JSON object, or ""."""
    try:
        if value == "" or (isinstance(value, str) and isinstance(json.loads(value), dict)):
            return value
    except ValueError:
        pass
    raise _not_understood(value)


def _not_understood(value: Any) -> AdapterCorruptError:
    return AdapterCorruptError(
        f"adapterhub.json: probe input not understood: {str(value)[:80]!r}; save the adapter again"
    )
