"""A conversation as a chat template writes it, and proof of which of its characters the assistant says.

Every turn is measured on the conversation up to it, as the model will be given it: what the template opens for an answer is
given, what it adds once the answer is there is learnt, to the end of the turn. Turns share one text where the template
writes the earlier ones of it alike; where it rewrites them, as those do that drop earlier thinking, they get a text each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapterhub_causal_lm.items import Chat
from adapterhub_causal_lm.manner import (
    AFTER,
    ASKED,
    SAID,
    THOUGHT,
    alike,
    as_given,
    manner_of,
    rendered,
    thought_of,
    wants_text,
)
from adapterhub_causal_lm.template import has_marks
from adapterhub_lite.api import DataError, NotSupportedError


@dataclass(frozen=True)
class Written:
    """A text, and where in it what is to be learnt begins and ends, in characters."""

    text: str
    learnt: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class WrittenChat:
    """A conversation as the model is given it: a text for all turns to be learnt, or several."""

    texts: tuple[Written, ...]
    marked: bool
    """Whether the template's own marks say what is learnt."""
    thinks: bool
    """Whether thinking is learnt."""
    unwritten: int
    """Turns whose thinking the template leaves out."""


class ChatTemplate:
    """The chat template of a tokenizer, with what it is given beside the messages.

    Args:
        tokenizer: Whose template.
        settings: As `Chat.settings`.

    Raises:
        NotSupportedError: there is no template, or it does not write what an assistant says.
    """

    def __init__(self, tokenizer: Any, settings: str = ""):
        if not tokenizer.chat_template:
            raise NotSupportedError(
                "this base's tokenizer has no chat template, so it cannot be trained on 'messages'; give the data as "
                "'prompt' and 'completion' columns, or use an instruct version of the base"
            )
        self.closes = tokenizer.eos_token or ""
        given = {key: value for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        given |= json.loads(settings) if settings else {}
        tools = given.pop("tools", None)
        try:
            self.source: str = tokenizer.get_chat_template(tools=tools)
        except ValueError as error:
            raise NotSupportedError(f"the chat templates of this base's tokenizer cannot be used: {error}") from None
        self.marked = has_marks(self.source)
        self._given = {"tools": tools, "documents": None, **given}
        self._settings = json.dumps(given)
        self._manner = manner_of(self.source, self._settings)

    def opened(self, messages: Sequence[dict[str, Any]], *, thinks: bool | None) -> str:
        """A conversation, opened for an answer.

        Args:
            messages: Those before the answer.
            thinks: Whether answers were learnt with thinking; None for what the template itself opens.
        """
        if thinks is None:
            return self._render(messages, reply=True)[0]
        answer = {"role": "assistant", "content": SAID} | ({self._manner.thought_key: THOUGHT} if thinks else {})
        text, _ = self._render([*messages, answer])
        return text[: self._begin(text, messages, thinks=THOUGHT in text)]

    def write(self, chat: Chat, stops: Sequence[str] = ()) -> WrittenChat:
        """Write a conversation for training.

        Args:
            chat: The conversation.
            stops: Tokens at which generation stops, as text.

        Raises:
            DataError, NotSupportedError: what is to be learnt of it cannot be proven; says why.
        """
        messages = [message.fields() for message in chat.messages]
        texts: list[Written] = []
        thinks, unwritten = False, 0
        learnt = [turn for turn, message in enumerate(chat.messages) if message.role == "assistant" and message.learnt]
        for turn in reversed(learnt):
            if turn == 0:
                raise DataError("the conversation begins with the assistant; put the user's or a system turn in front")
            alone = self._turn(messages[: turn + 1], stops)
            last = alone.learnt[-1][1]
            if texts and texts[-1].text[:last] == alone.text[:last]:
                texts[-1] = replace(texts[-1], learnt=alone.learnt + texts[-1].learnt)
            else:
                texts.append(alone)
            thought = thought_of(messages[turn])
            if thought:
                written = any(thought in alone.text[first:end] for first, end in alone.learnt)
                thinks, unwritten = thinks or written, unwritten + (not written)
        return WrittenChat(tuple(reversed(texts)), self.marked, thinks, unwritten)

    def _turn(self, messages: list[dict[str, Any]], stops: Sequence[str]) -> Written:
        """Find the last turn of a conversation, the assistant's, in what the template writes."""
        before, answer, manner = messages[:-1], messages[-1], self._manner
        text, marks = self._render(messages)
        begin = self._begin(text, before, thinks=bool(thought_of(answer)))
        end = len(text.removesuffix(manner.tail)) if text.endswith(manner.tail or "\0") else len(text.rstrip())
        said = text[begin:end]
        # What others say is changed: what belongs to the assistant stays as it is.
        others = [message | ({"content": ASKED} if message["content"] else {}) for message in before]
        if not self._render([*others, answer])[0].endswith(text[begin:]):
            raise NotSupportedError(f"{_place(messages)}: the chat template mixes what others say into it")
        self._check_said(messages, said)
        if not manner.end:
            if not self.closes:
                raise NotSupportedError("neither the chat template nor the tokenizer has a token that ends an answer")
            return Written(text[:end] + self.closes, ((begin, end + len(self.closes)),))
        if not said.endswith((manner.end, *stops)):
            raise NotSupportedError(
                f"{_place(messages)}: the chat template does not end it with {manner.end!r}, but with {said[-40:]!r}"
            )
        if not self.marked:
            return Written(text, ((begin, end),))
        spans = _joined((max(first, begin), min(last, end)) for first, last in marks if first < end and last > begin)
        if spans and text[spans[-1][1] : end] in (manner.end, *stops):  # some templates mark all but the end of a turn
            spans[-1] = (spans[-1][0], end)
        if not spans or spans[-1][1] != end:
            raise NotSupportedError(f"{_place(messages)}: the chat template does not mark it to its end as generated")
        self._check_said(messages, "".join(text[first:last] for first, last in spans))
        return Written(text, tuple(spans))

    def _begin(self, text: str, before: Sequence[dict[str, Any]], *, thinks: bool) -> int:
        """Where in a conversation its last turn, the assistant's, begins to be learnt."""
        opened, _ = self._render(before, reply=True)
        if text.startswith(opened):
            begin, empty = len(opened), self._manner.no_thought
            # After a tool's answer some templates open nothing, and still write whose turn it is.
            begin += len(self._manner.header) if text.startswith(self._manner.header, begin) else 0
            if not thinks and empty:
                loose = r"\s*".join(map(re.escape, empty.split()))
                block = re.compile(f"{re.escape(empty)}|\\s*{loose}").match(text, begin)
                begin = block.end() if block else begin
            return begin
        # What is opened for an answer is not what stands there once it is given: learn from where answers differ.
        other, _ = self._render([*before, {"role": "assistant", "content": AFTER}])
        return alike(text, other)

    def _check_said(self, messages: Sequence[dict[str, Any]], said: str) -> None:
        """Refuse a turn of which a part is not written."""
        answer = messages[-1]
        content = answer["content"].rpartition("</think>")[2].strip()
        if content and content not in said:
            raise DataError(f"{_place(messages)}: the chat template leaves out its content, or changes it")
        for call in answer.get("tool_calls") or ():
            name = str(call.get("function", call).get("name", ""))
            if name not in said:
                raise DataError(f"{_place(messages)}: the chat template leaves out the call of tool {name!r}")
        if not content and not answer.get("tool_calls") and not thought_of(answer):
            raise DataError(f"{_place(messages)}: there is nothing in it to learn")

    def _render(self, messages: Sequence[dict[str, Any]], *, reply: bool = False) -> tuple[str, list[tuple[int, int]]]:
        calling = any(message.get("tool_calls") for message in messages)
        manner = self._manner
        as_text = calling and wants_text(self.source, self._settings, manner)
        given = as_given(messages, manner.thought_key, in_parts=manner.in_parts, arguments_as_text=as_text)
        return rendered(self.source, given, self._given, reply=reply, marked=self.marked and not reply)


def _place(messages: Sequence[dict[str, Any]]) -> str:
    return f"message {len(messages)}, the assistant's"


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, with those that touch as one."""
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined
