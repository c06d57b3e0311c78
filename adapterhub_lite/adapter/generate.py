"""Continuing text with whatever is mounted on a base: many prompts at once, each as if it were alone, or one in pieces.

Prompts of one batch are padded on the left. A strategy, a model without attention, or a penalty that looks at the padding
might then answer otherwise than for the prompt alone; so the first batch is compared with a prompt of its own, and where
they differ, prompts of one length are answered together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.vocabulary import check_ids
from adapterhub_lite.errors import DataError
from adapterhub_lite.interrupt import safe_point
from adapterhub_lite.progress import Progress, Silent
from adapterhub_lite.tasks.text import reach
from adapterhub_lite.training.out_of_memory import in_batches

ALIKE = {torch.float32: 1e-3}
"""The largest difference that padding may make to a logit, as a share of the largest; more in half precision."""
Ready = Callable[[Mapping[str, Tensor]], AbstractContextManager[None]]
"""Given the tensors of some prompts, mounts what answers them for the length of a `with` block."""


def alone(inputs: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    """Mount nothing: what is on the base answers."""
    return nullcontext()


def generate_texts(
    base: Base,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    ends: Sequence[int] = (),
    ready: Ready = alone,
    where: Callable[[int], str] = lambda row: f"prompt {row + 1}",
    progress: Progress | None = None,
) -> list[str]:
    """Continue prompts with whatever `ready` mounts on the base, as far as the base reads, and return the new texts.

    Args:
        base: Continues them.
        prompts: The ids of each.
        sampling: How.
        ends: Ids that end an answer, beside those that the base names.
        ready: Called around every batch.
        where: Names a prompt by its number, for errors.
        progress: Shows the work.

    Raises:
        DataError: a prompt of as many ids as the base reads, or more, or with one that it does not know; nothing is generated.
        TrainingError: a single prompt does not fit into memory.
    """
    reads = reach(base)
    for number, ids in enumerate(prompts):
        check_ids(ids, base.beyond, where(number))
        if len(ids) >= reads:
            raise DataError(
                f"{where(number)} has {len(ids)} tokens, and '{base.reference}' reads {reads} with the answer; shorten the prompt"
            )
    replies = [""] * len(prompts)
    rooms = [min(sampling.max_new_tokens, reads - len(ids)) for ids in prompts]
    order = sorted(range(len(prompts)), key=lambda row: (-rooms[row], -len(prompts[row])))
    padded = pads_well(base, [prompts[row] for row in order if rooms[row] == sampling.max_new_tokens], ready)
    with (progress or Silent()).bar("generating", len(prompts), "rows") as bar:
        # Where the base reads no further, all of a batch have to end at once.
        for _, group in groupby(order, lambda row: (rooms[row], None if padded else len(prompts[row]))):
            rows = list(group)

            def work(start: int, stop: int, rows: list[int] = rows) -> list[tuple[int, str]]:
                asked = [Prompt(prompts[row], sampling, rooms[row], row) for row in rows[start:stop]]
                batch = Batch(base, asked, ends)
                with ready(batch.inputs):
                    batch.advance(asked[0].room)
                return [(prompt.number, batch.said(place)) for place, prompt in enumerate(asked)]

            lengths = [len(prompts[row]) + rooms[row] for row in rows]
            for done in in_batches(lengths, sampling.at_once, work, base, "answering"):
                bar.advance(len(done))
                for row, reply in done:
                    replies[row] = reply
    return replies


def stream_text(
    base: Base,
    ids: Sequence[int],
    sampling: Sampling,
    *,
    ends: Sequence[int] = (),
    ready: Ready = alone,
) -> Iterator[str]:
    """Continue one prompt in pieces that together are what `generate_texts` gives for it; between two, nothing is held.

    Raises:
        DataError: a prompt of as many ids as the base reads, or more, or with one that it does not know.
    """
    check_ids(ids, base.beyond, "the prompt")
    room = min(sampling.max_new_tokens, reach(base) - len(ids))
    if room < 1:
        generate_texts(base, [ids], sampling, where=lambda row: "the prompt")  # which says why it cannot
    batch, said, more = Batch(base, [Prompt(ids, sampling, room)], ends), "", True
    while more:
        with ready(batch.inputs):
            more = batch.advance(1)
        text = batch.said(0)
        if text[len(said) :]:
            yield text[len(said) :]
            said = text


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt of a batch."""

    ids: Sequence[int]
    sampling: Sampling
    room: int
    """Tokens at which its answer is cut."""
    number: int = 0
    """Of the stream it draws from, beside the seed."""


class Batch:
    """Prompts that are answered together, some tokens at a time, each as if it were alone.

    Args:
        base: Answers them. It reads the longest of them and the largest room together.
        prompts: What is asked, and how each is answered.
        ends: Ids that end an answer, beside those that the base names.

    Attributes:
        inputs: The prompts as tensors, (rows, tokens), padded on the left.
        sizes: The number of tokens of each answer so far.
        done: Whether each answer is at its end. Who sets one ends that answer where it is.
        cut: Whether each answer ended because its room was full.
    """

    def __init__(self, base: Base, prompts: Sequence[Prompt], ends: Sequence[int]):
        self.base, self.prompts = base, prompts
        self.width = max(len(prompt.ids) for prompt in prompts)
        tokenizer, own = base.tokenizer, base.model.generation_config
        named = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        self.ends = sorted({end for end in (*named, tokenizer.eos_token_id, *ends) if end is not None})
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (self.ends or [0])[0]
        ids = torch.full((len(prompts), self.width), self.pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, self.width - len(prompt.ids) :] = torch.tensor(prompt.ids)
            mask[row, self.width - len(prompt.ids) :] = 1
        self.inputs = {"input_ids": ids.to(base.device), "attention_mask": mask.to(base.device)}
        self.sizes = [0] * len(prompts)
        self.done, self.cut = [False] * len(prompts), [False] * len(prompts)
        self._choice = _Choice(self.width, prompts, own)
        self._given, self._cache = self.inputs, None

    def advance(self, tokens: int) -> bool:
        """Go on with what is mounted now, by at most so many tokens; gives whether an answer is not at its end yet."""
        most = max((p.room for p, done in zip(self.prompts, self.done, strict=True) if not done), default=0)
        left = min(tokens, most - (self._given["input_ids"].shape[1] - self.width))
        if left < 1:
            return False
        output = self.run(self._given, left, past_key_values=self._cache)
        ids, mask, self._cache = output.sequences, self._given["attention_mask"], output.past_key_values
        mask = torch.cat([mask, mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], dim=1)
        self._given = {"input_ids": ids, "attention_mask": mask}
        return not all(self.done)

    def run(self, inputs: Mapping[str, Tensor], room: int, **options: Any) -> Any:
        """Continue token ids, (rows, tokens), with options of transformers' `generate`, and return what that does."""
        return self.base.model.generate(
            **inputs, max_new_tokens=room, pad_token_id=self.pad, eos_token_id=self.ends or None,
            logits_processor=[self._choice], stopping_criteria=[self._stop], return_dict_in_generate=True,
            # What draws and what penalizes is `_Choice`, a row at a time.
            do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None, min_p=None, repetition_penalty=1.0,
            **options,
        )  # fmt: skip

    def said(self, row: int) -> str:
        """The text of an answer: all of it at its end, and before it what no later token changes."""
        new = self._given["input_ids"][row, self.width :][: self.sizes[row]].tolist()
        end = next((place for place, token in enumerate(new) if token in self.ends), None)
        text: str = self.base.tokenizer.decode(new[:end], skip_special_tokens=True)
        stop = self.prompts[row].sampling.stop
        text = text[: min((place for part in stop if (place := text.find(part)) >= 0), default=None)]
        return text.strip() if self.done[row] else text.lstrip()[: -_unsure(text, stop) or None]

    def _stop(self, input_ids: Tensor, scores: Any, **more: Any) -> Tensor:
        """Note which answers end with their last token; here the program ends where a signal asks it to."""
        safe_point()
        size = input_ids.shape[1] - self.width
        for row, prompt in enumerate(self.prompts):
            if self.done[row]:
                continue
            self.sizes[row] = size
            ended = int(input_ids[row, -1]) in self.ends or self._at_stop(input_ids[row], prompt.sampling.stop)
            self.cut[row] = not ended and size >= prompt.room
            self.done[row] = ended or self.cut[row]
        return torch.tensor(self.done, device=input_ids.device)

    def _at_stop(self, ids: Tensor, stops: Sequence[str]) -> bool:
        if not stops:
            return False
        # A token is a byte of a character at least, and some tokens are no text at all.
        tail = ids[self.width :][-max(4 * len(stop) + 8 for stop in stops) :].tolist()
        text = self.base.tokenizer.decode(tail, skip_special_tokens=True)
        return any(stop in text for stop in stops)


class _Choice:
    """Chooses each row's next token by the row alone: its own ids without padding, and its own random numbers."""

    def __init__(self, width: int, prompts: Sequence[Prompt], own: Any):
        self.padding = [width - len(prompt.ids) for prompt in prompts]
        samplings = [prompt.sampling for prompt in prompts]
        self.penalties = [_first(given.repetition_penalty, own.repetition_penalty, 1.0) for given in samplings]
        self.streams = [random.Random(f"{p.sampling.seed} {p.number}") if p.sampling.draws else None for p in prompts]
        self.warpers = [_warpers(given, own) if given.draws else [] for given in samplings]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # (rows, tokens), (rows, vocabulary)
        if any(penalty != 1 for penalty in self.penalties) or any(self.streams):
            scores = scores.clone()
        for row, penalty in enumerate(self.penalties):
            if penalty != 1:
                seen = input_ids[row, self.padding[row] :].unique()
                before = scores[row, seen]
                scores[row, seen] = torch.where(before < 0, before * penalty, before / penalty)
        for row, stream in enumerate(self.streams):
            if stream is None:
                continue
            own = scores[row : row + 1]
            for warper in self.warpers[row]:
                own = warper(input_ids[row : row + 1], own)
            below = own.double().softmax(dim=-1).cumsum(dim=-1)[0]
            chosen = torch.searchsorted(below, stream.random() * below[-1:], right=True).clamp(max=len(below) - 1)
            scores[row] = torch.full_like(scores[row], -torch.inf).index_fill_(0, chosen, 0.0)
        return scores


def _warpers(sampling: Sampling, own: Any) -> list[Any]:
    """What narrows down the tokens that are drawn from, in order."""
    top_k, top_p = _first(sampling.top_k, own.top_k, 0), _first(sampling.top_p, own.top_p, 1.0)
    min_p = _first(sampling.min_p, own.min_p, 0.0)
    warpers: list[Any] = [TemperatureLogitsWarper(float(_first(sampling.temperature, own.temperature, 1.0) or 1.0))]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    return warpers + ([MinPLogitsWarper(min_p)] if min_p else [])


def pads_well(base: Base, prompts: Sequence[Sequence[int]], ready: Ready) -> bool:
    """Whether a prompt, the shortest, has the same next token beside the longest as alone."""
    shortest, longest = min(prompts, key=len, default=()), max(prompts, key=len, default=())
    if len(shortest) == len(longest):
        return True
    if base.model.generation_config.no_repeat_ngram_size:  # which takes padding for text
        return False
    logits = []
    for together in ([shortest], [shortest, longest]):
        batch = Batch(base, [Prompt(ids, Sampling(), 1) for ids in together], ())
        with ready(batch.inputs):
            logits.append(batch.run(batch.inputs, 1, output_logits=True).logits[0][0].float())  # (vocabulary,)
    difference = float((logits[0] - logits[1]).abs().max()) / max(1.0, float(logits[0].abs().max()))
    return difference < ALIKE.get(base.dtype, 0.05)


def _unsure(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of a text that the next token may take back: blanks, half a character, the begin of a stop."""
    begun = [size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
    return max([len(text) - len(text.rstrip().rstrip("\ufffd").rstrip()), *begun])


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
