"""Continuing text with whatever is mounted on a base: many prompts at once, each as if it were alone, or one in pieces.

Prompts of one batch are padded on the left. A strategy, a model without attention, or a penalty that looks at the padding
might then answer otherwise than for the prompt alone; so the first batch is compared with a prompt of its own, and where
they differ, prompts of one length are answered together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
    padded = _pads_well(base, [prompts[row] for row in order if rooms[row] == sampling.max_new_tokens], ready)
    with (progress or Silent()).bar("generating", len(prompts), "rows") as bar:
        # Where the base reads no further, all of a batch have to end at once.
        for _, group in groupby(order, lambda row: (rooms[row], None if padded else len(prompts[row]))):
            rows = list(group)

            def work(start: int, stop: int, rows: list[int] = rows) -> list[tuple[int, str]]:
                own = rows[start:stop]
                batch = _Batch(base, [prompts[row] for row in own], own, sampling, ends)
                with ready(batch.inputs):
                    return list(zip(own, batch.answers(rooms[own[0]]), strict=True))

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
    batch = _Batch(base, [ids], [0], sampling, ends)
    given, cache, said = batch.inputs, None, ""
    for left in range(room - 1, -1, -1):
        with ready(batch.inputs):
            output = batch.run(given, 1, past_key_values=cache)
        tokens, cache = output.sequences, output.past_key_values
        given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        text, ended = batch.text(tokens[0, batch.width :].tolist())
        ended = ended or not left
        text = text.strip() if ended else text.lstrip()[: -_unsure(text, sampling.stop) or None]
        if text[len(said) :]:
            yield text[len(said) :]
            said = text
        if ended:
            return


class _Batch:
    """Prompts that are answered together.

    Args:
        base: Answers them.
        prompts: The ids of each.
        numbers: Which prompt of all each is; it draws from the stream of this number.
        sampling: How.
        ends: Ids that end an answer.
    """

    def __init__(
        self,
        base: Base,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        sampling: Sampling,
        ends: Sequence[int],
    ):
        self.base, self.sampling = base, sampling
        self.width = max(map(len, prompts))
        tokenizer, own = base.tokenizer, base.model.generation_config
        named = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        self.ends = sorted({end for end in (*named, tokenizer.eos_token_id, *ends) if end is not None})
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (self.ends or [0])[0]
        ids = torch.full((len(prompts), self.width), self.pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, self.width - len(prompt) :] = torch.tensor(prompt)
            mask[row, self.width - len(prompt) :] = 1
        self.inputs = {"input_ids": ids.to(base.device), "attention_mask": mask.to(base.device)}
        self.choice = _Choice([self.width - len(prompt) for prompt in prompts], numbers, sampling, own)

    def answers(self, room: int) -> list[str]:
        """Answer all of them, each in at most `room` tokens."""
        tokens = self.run(self.inputs, room).sequences
        return [self.text(row)[0].strip() for row in tokens[:, self.width :].tolist()]

    def run(self, inputs: Mapping[str, Tensor], room: int, **options: Any) -> Any:
        """Continue token ids, (rows, tokens), with options of transformers' `generate`, and return what that does."""
        return self.base.model.generate(
            **inputs, max_new_tokens=room, pad_token_id=self.pad, eos_token_id=self.ends or None,
            logits_processor=[self.choice], stopping_criteria=[_Stop(self)], return_dict_in_generate=True,
            # What draws and what penalizes is `choice`, a row at a time.
            do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None, min_p=None, repetition_penalty=1.0,
            **options,
        )  # fmt: skip

    def text(self, new: Sequence[int]) -> tuple[str, bool]:
        """The text of an answer's ids, cut where it ends, and whether it has ended."""
        end = next((place for place, token in enumerate(new) if token in self.ends), None)
        text: str = self.base.tokenizer.decode(new[:end], skip_special_tokens=True)
        stops = [place for stop in self.sampling.stop if (place := text.find(stop)) >= 0]
        return (text[: min(stops)], True) if stops else (text, end is not None)


class _Choice:
    """Chooses each row's next token by the row alone: its own ids without padding, and its own random numbers."""

    def __init__(self, padding: Sequence[int], numbers: Sequence[int], sampling: Sampling, own: Any):
        self.padding = padding
        self.penalty = _first(sampling.repetition_penalty, own.repetition_penalty, 1.0)
        self.streams = [random.Random(f"{sampling.seed} {number}") for number in numbers] if sampling.draws else []
        top_k, top_p = _first(sampling.top_k, own.top_k, 0), _first(sampling.top_p, own.top_p, 1.0)
        min_p = _first(sampling.min_p, own.min_p, 0.0)
        self.warpers = [TemperatureLogitsWarper(float(_first(sampling.temperature, own.temperature, 1.0) or 1.0))]
        self.warpers += [TopKLogitsWarper(top_k)] if top_k else []
        self.warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
        self.warpers += [MinPLogitsWarper(min_p)] if min_p else []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # (rows, tokens), (rows, vocabulary)
        if self.penalty != 1:
            scores = scores.clone()
            for row, start in enumerate(self.padding):
                seen = input_ids[row, start:].unique()
                before = scores[row, seen]
                scores[row, seen] = torch.where(before < 0, before * self.penalty, before / self.penalty)
        if not self.streams:
            return scores
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        below = scores.double().softmax(dim=-1).cumsum(dim=-1)
        drawn = torch.tensor([[stream.random()] for stream in self.streams], dtype=below.dtype, device=below.device)
        chosen = torch.searchsorted(below, drawn * below[:, -1:], right=True).clamp(max=below.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


class _Stop:
    """Ends a row at a text to stop at, and the program where a signal asks it to."""

    def __init__(self, batch: _Batch):
        self.batch = batch
        # A token is a byte of a character at least, and some tokens are no text at all.
        self.tail = max([4 * len(stop) + 8 for stop in batch.sampling.stop], default=0)

    def __call__(self, input_ids: Tensor, scores: Any, **more: Any) -> Tensor:
        safe_point()
        ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        if self.tail:
            new = input_ids[:, self.batch.width :][:, -self.tail :].tolist()
            texts = self.batch.base.tokenizer.batch_decode(new, skip_special_tokens=True)
            ended[:] = torch.tensor([any(stop in text for stop in self.batch.sampling.stop) for text in texts])
        return ended


def _pads_well(base: Base, prompts: Sequence[Sequence[int]], ready: Ready) -> bool:
    """Whether a prompt, the shortest, has the same next token beside the longest as alone."""
    shortest, longest = min(prompts, key=len, default=()), max(prompts, key=len, default=())
    if len(shortest) == len(longest):
        return True
    if base.model.generation_config.no_repeat_ngram_size:  # which takes padding for text
        return False
    logits = []
    for together in ([shortest], [shortest, longest]):
        batch = _Batch(base, together, range(len(together)), Sampling(), ())
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
