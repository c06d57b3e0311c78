"""What training did to a language model: its answers before and after, and its loss from token to token of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from adapterhub_lite.adapter.generate import alone, generate_texts
from adapterhub_lite.adapter.inputs import prompts_of
from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.pages.render import cut
from adapterhub_lite.reporting.known import Known
from adapterhub_lite.tasks.task import Batch, encode, rows_of
from adapterhub_lite.training.evaluate import evaluating

PROMPTS, TOKENS, FEWEST_TOKENS = 3, 48, 8
EXAMPLES, AT_ONCE = 32, 2
BORDERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Positions of tokens that are put together: those up to the first, from there to the second, and so on."""
MOST_LETTERS = 400


def loss_by_position(known: Known, data: Dataset) -> dict[str, Any] | None:
    """The mean loss of tokens by their place among those that are learnt, with the adapter and of the bare base.

    As many held-out examples are run as there is time for.
    """
    attachment, base = known.adapter.attachment, known.adapter.base
    encoded = encode(known.task, data.select(range(min(EXAMPLES, len(data)))), base).examples
    sums = {"bare": [0.0] * (len(BORDERS) + 1), "adapted": [0.0] * (len(BORDERS) + 1)}
    counts, done = [0] * (len(BORDERS) + 1), 0

    def add(name: str, losses: Tensor, rows: list[int]) -> None:
        for part in losses.double().cpu().split(rows):
            for place, loss in enumerate(part.tolist(), start=1):
                sums[name][_bucket(place)] += loss

    bare: Callable[[Batch], Tensor] = partial(known.task.target_losses, base, None)
    with evaluating(base.model):
        for start in range(0, len(encoded), AT_ONCE):
            if done and known.seconds_left < 0:
                break
            some = encoded[start : start + AT_ONCE]
            batch = {key: value.to(base.device) for key, value in known.task.collate(some, base).items()}
            rows = [example.rows for example in some]
            add("adapted", attachment.target_losses(batch), rows)
            with attachment.without():
                add("bare", bare(batch), rows)
            for number in rows:
                for place in range(1, number + 1):
                    counts[_bucket(place)] += 1
            done += len(some)
    buckets = [
        {
            "from": 1 if i == 0 else BORDERS[i - 1] + 1,
            "to": BORDERS[i] if i < len(BORDERS) else None,
            "tokens": n,
            "bare": sums["bare"][i] / n,
            "adapted": sums["adapted"][i] / n,
        }
        for i, n in enumerate(counts)
        if n
    ]
    total = max(1, sum(counts))
    means = {name: sum(values) / total for name, values in sums.items()}
    return {"examples": done, "tokens": sum(counts), **means, "buckets": buckets} if done else None


def answers(known: Known, data: Dataset) -> list[dict[str, Any]]:
    """Answers to a few held-out prompts, of the bare base and with the adapter, beside the answer that was wanted.

    The likeliest token each time; first a short one is made, by which time is judged.
    """
    adapter, base, task = known.adapter, known.adapter.base, known.task
    some = data.select(range(min(PROMPTS, len(data))))
    try:
        ids, where = prompts_of(task, base, some)
        short = Sampling(max_new_tokens=2)
        before = known.seconds_left
        with adapter.attachment.at_work():
            generate_texts(base, ids[:1], short, ends=task.end_ids(base), ready=adapter.attachment.ready, where=where)
        spent = before - known.seconds_left
        # Two tokens of one prompt took that long; all prompts at once take little more, and both models answer.
        tokens = min(TOKENS, int(known.seconds_left / max(1e-6, 1.5 * spent)))
        if tokens < FEWEST_TOKENS:
            known.left_out.append(
                "answers before and after would take longer than the report may; `adapterhub-lite report --data` shows them"
            )
            return []
        sampling = Sampling(max_new_tokens=tokens)
        with adapter.attachment.at_work():
            after = generate_texts(
                base, ids, sampling, ends=task.end_ids(base), ready=adapter.attachment.ready, where=where
            )
        with adapter.attachment.without():
            bare = generate_texts(base, ids, sampling, ends=task.end_ids(base), ready=alone, where=where)
    except AdapterHubError as error:
        known.left_out.append(f"no answers are shown: {error}")
        return []
    wanted = _wanted(known, some)
    return [
        {
            "row": number + 1,
            "prompt": cut(base.tokenizer.decode(ids[row]), MOST_LETTERS),
            "wanted": cut(wanted.get(row, ""), MOST_LETTERS),
            "bare": bare[row],
            "adapted": after[row],
            "tokens": tokens,
        }
        for row, number in enumerate(rows_of(some)[: len(ids)])
    ]


def _wanted(known: Known, data: Dataset) -> dict[int, str]:
    """The text that is learnt of each row; of rows of several examples that of the last one."""
    encoded = known.task.encode(data, known.adapter.base)
    places = encoded.rows if encoded.rows is not None else range(len(encoded.examples))
    wanted = {}
    for row, example in zip(places, encoded.examples, strict=True):
        ids, learnt = known.task.token_labels(example) or ([], [])
        own = [token for token, label in zip(ids, learnt, strict=True) if label is not None]
        wanted[row] = known.adapter.base.tokenizer.decode(own, skip_special_tokens=True)
    return wanted


def _bucket(place: int) -> int:
    return next((i for i, border in enumerate(BORDERS) if place <= border), len(BORDERS))
