"""Of every chat template that the `trl` wheel brings, what is learnt is what the assistant says and the end of its turns.

What has to be learnt is written down here, by family, from what the templates are known to write: no rule of the
implementation is used to find it. The templates are read where the wheel is installed; the library is not imported.
"""

from __future__ import annotations

import copy
import json
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from adapterhub_causal_lm.chat import ChatTemplate
from adapterhub_causal_lm.items import Chat, Message
from adapterhub_causal_lm.tokens import IGNORED, encode_written
from adapterhub_lite.errors import DataError, NotSupportedError

TEMPLATES = {
    file.stem: Path(str(file.locate())) for file in metadata.files("trl") or () if file.suffix == ".jinja"
}  # fmt: skip
EOS = "<|im_end|>"  # of the tokenizer that is used with all of them
# What ends an answer, by the beginning of a template's name; the longest that fits counts.
ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>", "cohere2": "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
    "deepseek": "<｜end▁of▁sentence｜>", "diffusion_gemma": "<turn|>", "gemma": "<end_of_turn>", "gemma4": "<turn|>",
    "glm4moe": EOS, "glm4moe_training": "<|user|>", "gptoss": "<|return|>", "idefics3": "<end_of_utterance>",
    "lfm2": "<|im_end|>", "llama3": "<|eot_id|>", "llava_next": "</s>", "muse_glimmer": "<|eot|>",
    "nemotron": "<|im_end|>", "phi3": "<|end|>", "qwen": "<|im_end|>", "smolvlm": "<end_of_utterance>",
}  # fmt: skip
# What ends an answer that calls a tool, where that is something else.
CALL_ENDS = {
    "diffusion_gemma": "<|tool_response>", "gemma4": "<|tool_response>", "gemma4_v2": "<turn|>",
    "glm4moe_training": "<|observation|>", "gptoss": "<|call|>",
}  # fmt: skip
# What the model itself writes in front of an answer, after what it is given.
BEFORE = {
    "idefics3": " ", "smolvlm": " ", "llava_next": " ", "muse_glimmer": " to=user<|message|>",
    "gptoss": "<|channel|>final<|message|>",
}  # fmt: skip
# The empty block of thinking that is given after what opens an answer.
EMPTY = {
    "glm4moe": "\n<think></think>\n", "qwen3": "<think>\n\n</think>\n\n", "qwen3_instruct": "", "qwen3_vl": "",
    "qwen3_5": "\n</think>\n\n", "qwen3_6": "\n</think>\n\n", "qwen3_8": "\n</think>\n\n", "qwen3_5_nothink": "",
    "nemotron": "<think></think>",
}  # fmt: skip
# Those that open an answer by thinking, and write answers without it otherwise.
OPENED_OTHERWISE = {"deepseek": "<think>\n", "nemotron": "<think>\n"}
IN_PARTS = ("idefics3", "smolvlm", "llava_next")
THINKING = {
    "qwen3": "<think>\n{}\n</think>\n\n", "qwen3_5": "{}\n</think>\n\n", "qwen3_6": "{}\n</think>\n\n",
    "qwen3_8": "{}\n</think>\n\n", "glm4moe": "\n<think>{}</think>\n", "gemma4_v5": "<|channel>thought\n{}\n<channel|>",
    "diffusion_gemma": "<|channel>thought\n{}\n<channel|>", "lfm2_2_5": "<think>{}</think>",
    "gptoss": "<|channel|>analysis<|message|>{}<|end|><|start|>assistant", "qwen3_instruct": None, "qwen3_vl": None,
    "muse_glimmer": " to=self<|message|>{}<|eom|><|start|>assistant", "qwen3_5_nothink": "\n{}\n</think>\n\n",
    "nemotron_3_nano": "{}\n</think>\n", "nemotron_3_super": "{}\n</think>\n", "nemotron_3_ultra": "{}</think>",
    "nemotron_3_5_lightning": "{}</think>",
}  # fmt: skip
# Templates that rewrite the turns before the last one, and so give an example for each.
REWRITE = ("glm4moe", "gptoss", "gptoss_training", "qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6")
ALTERNATE, UNWRITTEN = r"refuses .*(alternat|role)", "leaves out the call of tool 'weather'"
NO_CALLS = {
    "cohere": ALTERNATE, "gemma": ALTERNATE, "gemma4": None, "llava_next": ALTERNATE, "idefics3": UNWRITTEN,
    "smolvlm": UNWRITTEN, "llama3": UNWRITTEN, "llama3_1": None, "llama3_2": None, "phi3": UNWRITTEN,
    "qwen2_5_vl": UNWRITTEN, "lfm2": UNWRITTEN, "lfm2_2_5": None, "lfm2_v2": None,
    "deepseek_r1": UNWRITTEN,
}  # fmt: skip
NO_SYSTEM = {"gemma": "System role not supported", "gemma3": None, "gemma4": None}
TOOL = {
    "name": "weather", "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Where."}}},
}  # fmt: skip
CALL = {"id": "callnr001", "type": "function", "function": {"name": "weather", "arguments": {"city": "cityarg"}}}
OTHERS = ("systemword", "userword", "toolword", "Tells")


def known(table: dict[str, Any], name: str) -> Any:
    """What a table says of a template."""
    return table.get(max((key for key in table if name.startswith(key)), key=len, default=""))


def chat(turns: int, *, system: bool, tools: str, thinking: bool = False) -> Chat:
    messages = [Message("system", "systemword.")] if system else []
    for turn in range(turns):
        messages.append(Message("user", f"userword{turn}?"))
        if tools == "called" and turn == turns - 1:
            messages.append(Message("assistant", "", json.dumps({"tool_calls": [CALL]})))
            further = {"tool_call_id": CALL["id"], "name": "weather"}
            messages.append(Message("tool", "toolword", json.dumps(further)))
        further = {"reasoning_content": f"thought{turn}"} if thinking else {}
        messages.append(Message("assistant", f"said{turn}.", json.dumps(further) if further else ""))
    given = {"tools": [{"type": "function", "function": TOOL}]} if tools != "none" else {}
    return Chat(tuple(messages), json.dumps(given) if given else "")


@pytest.fixture(scope="module")
def tokenizer_of(load: Any, references: Any) -> Any:
    """SmolLM2's tokenizer with another template."""
    tokenizer = copy.deepcopy(load(references("smollm2-4")).tokenizer)

    def with_template(name: str) -> Any:
        tokenizer.chat_template = TEMPLATES[name].read_text(encoding="utf-8")
        assert tokenizer.eos_token == EOS
        return tokenizer

    return with_template


def learnt_of(item: Chat, tokenizer: Any, name: str) -> list[list[tuple[str, str]]]:
    """For each example of a chat, for each run of learnt tokens: all that stands before it, and what it says."""
    examples = []
    stops = (known(CALL_ENDS, name),) if known(CALL_ENDS, name) else ()
    for written in ChatTemplate(tokenizer, item.settings).write(item, stops).texts:
        ids, labels = encode_written(written, tokenizer)
        runs, begun = [], None
        for place, label in enumerate([*labels, IGNORED]):
            assert label in (IGNORED, *ids[place : place + 1])
            if label != IGNORED and begun is None:
                begun = place
            elif label == IGNORED and begun is not None:
                runs.append((tokenizer.decode(ids[:begun]), tokenizer.decode(ids[begun:place])))
                begun = None
        examples.append(runs)
    return examples


def test_all_are_there() -> None:
    assert len(TEMPLATES) == 72


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_is_learnt(name: str, tokenizer_of: Any) -> None:
    tokenizer = tokenizer_of(name)
    end, before, empty = known(ENDS, name), known(BEFORE, name) or "", known(EMPTY, name) or ""
    for turns, system, tools in product((1, 2, 3), (False, True), ("none", "offered", "called")):
        item = chat(turns, system=system, tools=tools)
        refused = (system and known(NO_SYSTEM, name)) or (tools == "called" and known(NO_CALLS, name))
        if refused:
            with pytest.raises((DataError, NotSupportedError), match=refused):
                learnt_of(item, tokenizer, name)
            continue
        examples = learnt_of(item, tokenizer, name)
        runs = [run for example in examples for run in example]
        answers = [m for m in item.messages if m.role == "assistant"]
        assert len(runs) == len(answers)
        assert len(examples) == 1 if name not in REWRITE else len(examples) >= turns
        for (given, said), answer in zip(runs, answers, strict=True):
            place = item.messages.index(answer)
            assert not any(word in said for word in OTHERS)
            if not answer.content:
                assert all(word in said for word in ("weather", "city", "cityarg"))
                assert said.endswith(known(CALL_ENDS, name) or end)
                continue
            assert said == before + answer.content + end
            opened = opened_by_transformers(item, place, tokenizer, name)
            if name.startswith("diffusion_gemma") and item.messages[place - 1].role == "tool":
                opened += "<|turn>model\n"  # which it opens nothing with after a tool, and writes all the same
            assert given == opened.removesuffix(known(OPENED_OTHERWISE, name) or "\0") + empty


def opened_by_transformers(item: Chat, place: int, tokenizer: Any, name: str) -> str:
    """What a model is asked with for the answer at a place of a chat."""
    messages = [message.fields() for message in item.messages[:place]]
    for message in messages:
        if name.startswith(IN_PARTS):
            message["content"] = [{"type": "text", "text": message["content"]}]
        if name == "deepseekv3" and message.get("tool_calls"):
            function = message["tool_calls"][0]["function"]
            function["arguments"] = json.dumps(function["arguments"])
    tools = json.loads(item.settings)["tools"] if item.settings else None
    opened = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
    assert isinstance(opened, str)
    return opened


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_thinking(name: str, tokenizer_of: Any) -> None:
    tokenizer, item = tokenizer_of(name), chat(2, system=False, tools="none", thinking=True)
    end, before, thinking = known(ENDS, name), known(BEFORE, name) or "", known(THINKING, name)
    said = [said for example in learnt_of(item, tokenizer, name) for _, said in example]
    thoughts = ["", ""] if thinking is None else [thinking.format(f"thought{turn}") for turn in range(2)]
    assert said == [thought + before + f"said{turn}." + end for turn, thought in enumerate(thoughts)]
    written = ChatTemplate(tokenizer).write(item)
    assert (written.thinks, written.unwritten) == ((False, 2) if thinking is None else (True, 0))
