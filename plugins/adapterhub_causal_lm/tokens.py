"""How a text, a completion or a chat becomes token ids, and which of them are to be learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from adapterhub_causal_lm.items import Chat, Completion, Message, Text
from adapterhub_causal_lm.template import CostlyTemplate, render_template
from adapterhub_lite.api import DataError, NotSupportedError

IGNORED = -100
"""The label of a token that is given and not learnt."""


def encode_item(item: Text | Completion | Chat, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Tokenize one item.

    Returns:
        Token ids, and labels of the same length: the id where the token is to be learnt, -100 where it is given.
    """
    if isinstance(item, Chat):
        return _encode_chat(item, tokenizer)
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


def prompt_ids(prompt: str | Text | Completion | Chat, tokenizer: Any, *, chat: bool) -> list[int]:
    """Tokenize a prompt: a conversation through the chat template, anything else as it is."""
    if isinstance(prompt, Chat) or (isinstance(prompt, str) and chat):
        turns = prompt.messages if isinstance(prompt, Chat) else (Message("user", prompt),)
        # In a recorded conversation the last answer is dropped: it is what is asked for.
        kept = turns[:-1] if turns[-1].role == "assistant" else turns
        messages = [{"role": turn.role, "content": turn.content} for turn in kept]
        ids: list[int] = tokenizer(render_chat(messages, tokenizer, reply=True), add_special_tokens=False)["input_ids"]
        return ids
    text = prompt.prompt if isinstance(prompt, Completion) else prompt.text if isinstance(prompt, Text) else prompt
    return encode_prompt(text, tokenizer)


def render_chat(messages: Sequence[dict[str, str]], tokenizer: Any, *, reply: bool) -> str:
    """Write a conversation as the tokenizer's template does, opened for a reply where asked.

    Raises:
        DataError: a conversation that the template does not allow, such as one of other roles.
        NotSupportedError: when the tokenizer has no chat template, or one that takes forever or gigabytes.
    """
    if not tokenizer.chat_template:
        raise NotSupportedError(
            "this base's tokenizer has no chat template, so it cannot be trained on 'messages'; give the data as "
            "'prompt' and 'completion' columns, or use an instruct version of the base"
        )
    try:
        return render_template(
            tokenizer.get_chat_template(),
            messages=list(messages),
            tools=None,
            documents=None,
            add_generation_prompt=reply,
            **tokenizer.special_tokens_map,
        )
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
    return (
        text
        if text and isinstance(error, (TemplateError, TypeError, ValueError))
        else f"{type(error).__name__}: {text}"
    )


def _encode_chat(chat: Chat, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Learn what the assistant says, and the token that ends its turn."""
    messages = [{"role": message.role, "content": message.content} for message in chat.messages]
    spans = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if turn == 0:
            raise DataError("the conversation begins with the assistant; put the user's or a system turn in front")
        before = render_chat(messages[:turn], tokenizer, reply=True)
        after = render_chat(messages[: turn + 1], tokenizer, reply=False)
        if not after.startswith(before):
            raise NotSupportedError(
                "this tokenizer's chat template rewrites earlier turns, so the assistant's part cannot be told apart; "
                "give the data as 'prompt' and 'completion' columns"
            )
        spans.append((len(before), len(after.rstrip())))
    encoded = tokenizer(
        render_chat(messages, tokenizer, reply=False), add_special_tokens=False, return_offsets_mapping=True
    )
    ids: list[int] = encoded["input_ids"]
    labels = [
        token if any(first <= start < last for first, last in spans) else IGNORED
        for token, (start, _) in zip(ids, encoded["offset_mapping"], strict=True)
    ]
    return ids, labels
