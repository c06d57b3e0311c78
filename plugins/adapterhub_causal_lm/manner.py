"""How a chat template writes what is said: seen from what it makes of a question and an answer of our own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2.exceptions import TemplateError

from adapterhub_causal_lm.template import CostlyTemplate, render_marked, render_template
from adapterhub_lite.api import DataError, NotSupportedError

ASKED, SAID, THOUGHT, AFTER = "zxaskedxz", "qvsaidvq", "jwthoughtwj", "kyafteryk"
"""Words that stand for what is said, to see where a template writes it; they begin differently."""
# What a template writes, in the pieces that a tokenizer would keep whole: names in brackets, blanks, other characters.
_PIECES = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]|\s+|.", re.DOTALL)
_THINKING = re.compile("think|thought|reason", re.IGNORECASE)


@dataclass(frozen=True)
class Manner:
    """How a template writes what the assistant says."""

    in_parts: bool
    """Contents have to be lists of parts."""
    end: str
    """What it writes after an answer, whatever follows; "" where that is nothing."""
    tail: str
    """What follows that end where the conversation ends as well."""
    header: str
    """What it opens an answer with."""
    no_thought: str
    """What it puts in front of an answer without thinking: an empty block of it."""
    thought_key: str
    """What it calls thinking."""


THOUGHT_KEYS = ("reasoning_content", "thinking")
"""What data and templates call the thinking in front of an answer."""


def thought_of(message: dict[str, Any]) -> str:
    """What a message says before its answer: as a part of its own, or at the beginning of its content."""
    own = _own_thought(message).strip()
    return own or message["content"].rpartition("</think>")[0].rpartition("<think>")[2].strip()


def _own_thought(message: dict[str, Any]) -> str:
    return next((str(message[key]) for key in THOUGHT_KEYS if message.get(key)), "")


def as_given(
    messages: Sequence[dict[str, Any]], thought_key: str, *, in_parts: bool, arguments_as_text: bool = False
) -> list[dict[str, Any]]:
    """The messages as a template takes them; thinking that is none is left out, so that none is written."""
    given = []
    for message in messages:
        known = {key: value for key, value in message.items() if key not in THOUGHT_KEYS}
        if _own_thought(message).strip():
            known[thought_key] = _own_thought(message)
        if in_parts:
            known["content"] = [{"type": "text", "text": message["content"]}]
        if message.get("tool_calls"):
            known["tool_calls"] = [_call(call, as_text=arguments_as_text) for call in message["tool_calls"]]
        given.append(known)
    return given


def _call(call: dict[str, Any], *, as_text: bool) -> dict[str, Any]:
    """A call of a tool, its arguments as a JSON object or as the text of one."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError('a call of a tool is not written as {"function": {"name": "...", "arguments": {...}}}')
    function = dict(function)
    arguments = function.get("arguments", {})
    if as_text and not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    elif isinstance(arguments, str) and not as_text:
        try:
            parsed = json.loads(arguments)
        except ValueError:
            parsed = arguments
        function["arguments"] = parsed if isinstance(parsed, dict) else arguments
    return {**call, "function": function} if "function" in call else {**call, **function}


def rendered(
    source: str, messages: list[dict[str, Any]], given: dict[str, Any], *, reply: bool = False, marked: bool = False
) -> tuple[str, list[tuple[int, int]]]:
    """Write messages as a template does, opened for an answer where asked; with what it marks as generated.

    Raises:
        DataError: a conversation that the template does not allow, such as one of other roles.
        NotSupportedError: a template that takes forever or gigabytes.
    """
    told = {**given, "messages": messages, "add_generation_prompt": reply}
    try:
        return render_marked(source, **told) if marked else (render_template(source, **told), [])
    except CostlyTemplate as error:
        raise NotSupportedError(
            f"the chat template of this base's tokenizer is not rendered: {error}; use a base with a template that is sound, or "
            "give the data as 'prompt' and 'completion' columns"
        ) from None
    except Exception as error:  # whatever a template raises, it refuses the conversation
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(
            f"the chat template of this base's tokenizer refuses a conversation of the roles {roles} ({_why(error)}); bring "
            "the messages into the order that it takes, or give the data as 'prompt' and 'completion' columns"
        ) from error


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    plain = text and isinstance(error, (TemplateError, TypeError, ValueError))
    return text if plain else f"{type(error).__name__}: {text}"


@lru_cache(maxsize=32)
def manner_of(source: str, settings: str) -> Manner:
    """See how a template writes a question and its answer."""
    given = {"tools": None, "documents": None, **json.loads(settings)}
    theirs = re.search(r"\bthinking\b", source) and "reasoning_content" not in source  # as gpt-oss has it
    key = "thinking" if theirs else "reasoning_content"
    refused: list[DataError] = []

    def written(in_parts: bool, *turns: dict[str, str], reply: bool = False) -> str:
        try:
            return rendered(source, as_given(turns, key, in_parts=in_parts), given, reply=reply)[0]
        except DataError as error:
            refused.append(error)
            return ""

    asked, answer = {"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}
    for in_parts in (False, True):
        text = written(in_parts, asked, answer)
        if SAID in text and ASKED in text:
            break
    else:
        raise next(
            iter(refused), NotSupportedError("the chat template of this base's tokenizer does not write what is said")
        )
    before, _, after = text.rpartition(SAID)
    longer = written(in_parts, asked, answer, {"role": "user", "content": AFTER}) or text
    end = after[: alike(after, longer.rpartition(SAID)[2])].rstrip() or after.rstrip()
    opened = written(in_parts, asked, reply=True)
    filler = before[len(opened) :] if before.startswith(opened) else ""
    thinking = written(in_parts, asked, answer | {"reasoning_content": THOUGHT})
    block = thinking.rpartition(SAID)[0][len(opened) :] if thinking.startswith(opened) else ""
    if THOUGHT in block:
        empty = "".join(block.replace(THOUGHT, "").split()) == "".join(filler.split())
    else:
        empty = _THINKING.search(filler) is not None
    header = opened[alike(opened, written(in_parts, asked)) :]
    return Manner(in_parts, end, after[len(end) :], header, filler if empty else "", key)


@lru_cache(maxsize=32)
def wants_text(source: str, settings: str, manner: Manner) -> bool:
    """Whether a template writes the call of a tool only where its arguments are a text, not an object."""
    function = {"name": SAID, "arguments": {THOUGHT: AFTER}}
    call = {"id": "a" * 9, "type": "function", "function": function}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    given = {"tools": None, "documents": None, **json.loads(settings)}
    for as_text in (False, True):
        known = as_given(turns, manner.thought_key, in_parts=manner.in_parts, arguments_as_text=as_text)
        try:
            text, _ = rendered(source, known, given)
        except DataError:
            continue
        if SAID in text and AFTER in text:
            return as_text
    return False


def alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike, in whole pieces."""
    length = 0
    for first, second in zip(_PIECES.findall(one), _PIECES.findall(other), strict=False):
        if first != second:
            break
        length += len(first)
    return length
