"""`POST /v1/chat/completions`: an answer to a conversation, whole or as it grows."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.serve.answering import Asked, Reply
from adapterhub_lite.serve.models import Model
from adapterhub_lite.serve.refusal import Refusal, bad, refusal_of
from adapterhub_lite.serve.settings import Settings
from adapterhub_lite.serve.turns import Job
from adapterhub_lite.tasks.text import check_characters

NOT_FOR_ANSWERS = {
    "metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "service_tier",
    "store", "user",
}  # fmt: skip
"""Parameters of OpenAI's that change no answer, and are let pass."""
AS_IF_ABSENT: dict[str, tuple[Any, ...]] = {
    "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logprobs": (False,), "top_logprobs": (0,),
    "logit_bias": ({},), "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"), "function_call": ("none",),
    "parallel_tool_calls": (True, False), "response_format": ({"type": "text"},), "modalities": (["text"],),
}  # fmt: skip
"""Parameters that are not done here, with the values that ask for nothing."""


class ChatRequest(BaseModel):
    """A conversation to be answered."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    model: str | None = Field(None, description="The name of the adapter; may be left out where there is only one.")
    messages: list[dict[str, Any]] = Field(min_length=1, description="The turns so far, the user's last.")
    stream: bool | None = Field(None, description="Send the answer as it grows, as server-sent events.")
    stream_options: dict[str, bool] | None = Field(None, description="include_usage: count tokens in a last event.")
    stop: str | list[str] | None = Field(None, description="Texts at which the answer ends, without them.")
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1, description="An older name of max_completion_tokens.")
    temperature: float | None = Field(None, description="0, the default, takes the likeliest token each time.")
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = Field(None, description="Of what is drawn; without it each request draws anew.")


def read_chat(model: Model, asked: ChatRequest, settings: Settings) -> Asked:
    """Check a conversation and how it is to be answered.

    Raises:
        Refusal: naming the field that cannot be used.
    """
    for name, value in (asked.model_extra or {}).items():
        if name not in NOT_FOR_ANSWERS and value is not None and value not in AS_IF_ABSENT.get(name, ()):
            raise bad(
                f"{name[:80]} is {value!r:.80}, which is not done here; leave it out",
                name[:80],
                "unsupported_parameter",
            )
    return Asked(_prompt(model, asked.messages), _sampling(asked, settings), bool(asked.stream))


def _sampling(asked: ChatRequest, settings: Settings) -> Sampling:
    name = "max_tokens" if asked.max_completion_tokens is None else "max_completion_tokens"
    room = getattr(asked, name)
    if room is not None and room > settings.max_tokens:
        raise bad(f"{name} is {room}, and an answer here has at most {settings.max_tokens}; ask for less", name)
    manner = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    given = {name: value for name in manner if (value := getattr(asked, name)) is not None}
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    if len(stop) > 16 or any(len(text) > 1000 for text in stop):
        raise bad(
            "stop has more than 16 texts, or one of more than 1,000 characters; give fewer, or shorter ones", "stop"
        )
    try:
        seed = secrets.randbits(62) if asked.seed is None else asked.seed % 2**63
        return Sampling(max_new_tokens=room or settings.max_tokens, stop=stop, seed=seed, **given)
    except AdapterHubError as error:
        said = str(error).partition("; the options are")[0]  # which have other names here
        raise bad(said, said.partition(" ")[0]) from error


def _prompt(model: Model, messages: list[dict[str, Any]]) -> Any:
    """What the task continues: the text of a user's only turn, as `Adapter.generate` takes it, or a chat."""
    last = messages[-1].get("role")
    if last == "assistant":
        raise bad(f"messages, message {len(messages)}: is the assistant's; end with what is to be answered", "messages")
    try:
        text = json.dumps(messages, ensure_ascii=False)
        check_characters(text, "messages")
        content = messages[0].get("content")
        if len(messages) == 1 and last == "user" and isinstance(content, str) and content.strip():
            return content
        return model.adapter.load_data([{"messages": text}], require_labels=False).inputs[0]
    except AdapterHubError as error:
        message = str(error).replace("<list of rows>, row 1, column 'messages'", "messages")
        raise refusal_of(type(error)(message), "messages") from error


def completion(model: Model, reply: Reply) -> dict[str, Any]:
    """A whole answer, as OpenAI's API gives it."""
    choice = {
        "index": 0, "message": {"role": "assistant", "content": reply.text, "refusal": None},
        "logprobs": None, "finish_reason": _reason(reply),
    }  # fmt: skip
    return {**_head(model, "chat.completion"), "choices": [choice], "usage": _usage(reply)}


async def events(model: Model, job: Job, first: Reply, *, include_usage: bool) -> AsyncIterator[str]:
    """An answer in pieces, as server-sent events; the job is dropped when nobody reads them any more."""
    head, sent, reply = _head(model, "chat.completion.chunk"), "", first
    head |= {"usage": None} if include_usage else {}
    try:
        yield _event(_chunk(head, {"role": "assistant", "content": ""}))
        while not reply.done:
            reply = await job.next()
            piece, sent = reply.text[len(sent) :], max(reply.text, sent, key=len)
            if piece:
                yield _event(_chunk(head, {"content": piece}))
        yield _event(_chunk(head, {}, _reason(reply)))
        if include_usage:
            yield _event({**head, "choices": [], "usage": _usage(reply)})
        yield "data: [DONE]\n\n"
    except Refusal as refusal:
        yield _event(refusal.body())
    finally:
        model.turns.drop(job)


def _head(model: Model, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": model.name}


def _chunk(head: dict[str, Any], delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"  # in ASCII: some clients take other signs for ends of lines


def _reason(reply: Reply) -> str:
    return "length" if reply.cut else "stop"


def _usage(reply: Reply) -> dict[str, int]:
    total = reply.prompt_tokens + reply.tokens
    return {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.tokens, "total_tokens": total}
