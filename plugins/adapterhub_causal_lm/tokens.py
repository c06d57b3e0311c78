"""How a text, a completion or a chat becomes token ids, and which of them are to be learnt."""

from __future__ import annotations

from typing import Any

from adapterhub_causal_lm.chat import ChatTemplate, Written
from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_lite.api import NotSupportedError

IGNORED = -100
"""The label of a token that is given and not learnt."""
Labelled = tuple[list[int], list[int]]
"""Token ids, and labels of the same length: the id where the token is to be learnt, -100 where it is given."""


def encode_plain(item: Text | Completion, tokenizer: Any) -> Labelled:
    """Tokenize a text to learn whole, or a prompt and the completion to learn after it."""
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    if isinstance(item, Text):
        ids = tokenizer(item.text)["input_ids"]
        ids = ids if ids[-1:] == end else ids + end
        return ids, list(ids)
    given = encode_prompt(item.prompt, tokenizer)
    learnt = tokenizer(item.completion, add_special_tokens=False)["input_ids"] + end
    return given + learnt, [IGNORED] * len(given) + learnt


def encode_prompt(prompt: str, tokenizer: Any) -> list[int]:
    """Tokenize a prompt to be continued: with the special tokens a text begins with, without those it ends with."""
    ids: list[int] = tokenizer(prompt)["input_ids"]
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return ids


def encode_written(written: Written, tokenizer: Any) -> Labelled:
    """Tokenize what a chat template wrote.

    What is given is tokenized as it is when the model is asked, where it ends at the edge of what is learnt: a token that
    reaches over that edge is split there, and blanks in front of it may make other tokens.

    Raises:
        NotSupportedError: the tokenizer does not give back a text that is tokenized in parts.
    """
    text, cuts = written.text, {cut for span in written.learnt for cut in span}
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    starts, reached = [], 0
    for start, end in encoded["offset_mapping"]:
        # Many tokens leave out the blank in front of them; those of one character in several parts begin alike.
        starts.append(min(start, reached))
        reached = max(reached, end)
    asked = (first for first, _ in written.learnt)
    if cuts - {*starts, len(text)} or any(
        tokenizer(text[:first], add_special_tokens=False)["input_ids"] != ids[: starts.index(first)] for first in asked
    ):
        ids, starts = _in_parts(text, sorted(cuts), tokenizer)
    inside = [any(first <= start < last for first, last in written.learnt) for start in starts]
    return ids, [token if learnt else IGNORED for token, learnt in zip(ids, inside, strict=True)]


def _in_parts(text: str, cuts: list[int], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Tokenize each part of a text by itself: ids, and where the part of each begins."""
    ids: list[int] = []
    starts: list[int] = []
    for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True):
        part = tokenizer(text[first:last], add_special_tokens=False)["input_ids"]
        ids += part
        starts += [first] * len(part)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    if tokenizer.decode(ids) != tokenizer.decode(whole):
        raise NotSupportedError(
            "the tokenizer joins the end of what is given with the beginning of what is to be learnt"
        )
    return ids, starts


def as_chat(item: Completion) -> Chat:
    """A prompt and its completion as a user's turn and the assistant's."""
    return Chat((Message("user", item.prompt), Message("assistant", item.completion)))


def prompt_ids(prompt: str | Text | Completion | Chat, tokenizer: Any, *, chat: bool, thinks: bool | None) -> list[int]:
    """Tokenize a prompt: a conversation through the chat template, anything else as it is.

    Args:
        prompt: What is asked.
        tokenizer: Of the base.
        chat: Whether a text is a user's turn of a conversation.
        thinks: As `ChatTemplate.opened`.
    """
    text = prompt.prompt if isinstance(prompt, Completion) else prompt.text if isinstance(prompt, Text) else prompt
    if not isinstance(text, Chat) and not chat:
        return encode_prompt(text, tokenizer)
    asked = text if isinstance(text, Chat) else Chat((Message("user", text),))
    # In a recorded conversation the last answer is dropped: it is what is asked for.
    turns = asked.messages[:-1] if asked.messages[-1].role == "assistant" else asked.messages
    opened = ChatTemplate(tokenizer, asked.settings).opened([turn.fields() for turn in turns], thinks=thinks)
    ids: list[int] = tokenizer(opened, add_special_tokens=False)["input_ids"]
    return ids
