"""Answers to many prompts: each the one it gets alone from transformers, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.adapter import generate as module
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.base.loading import Base
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import DataError, TrainingError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing import tiny_base
from adapterhub_lite.training.config import TrainConfig
from tests.training.test_protocols import plugins_with

PROMPTS = [
    "one two three", "ten", "five six", "one two three four five six seven eight nine ten one two", "nine eight seven",
    "two", "three two one ten nine", "six six six six",
]  # fmt: skip
FEW = TrainConfig(steps=12, batch_size=8, learning_rate=0.02)


@pytest.fixture(
    scope="module", params=["decoder-lora", "decoder-prefix", "conv1d-lora", "conv1d-prefix", "decoder-full"]
)
def writer(request: pytest.FixtureRequest, engine: Engine) -> Adapter:
    base, _, strategy = request.param.partition("-")
    return engine.train(tiny_base(base), completions(), strategy=strategy, config=FEW)


def alone(adapter: Adapter, prompt: str, new: int = 10) -> str:
    """What transformers gives for a prompt by itself, greedily and without a cache."""
    base = adapter.base
    adapter.use()
    ids = adapter.attachment.task.prompt_ids(prompt, base)
    given = torch.tensor([ids])
    output = base.model.generate(
        input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=new, do_sample=False, use_cache=False,
        pad_token_id=base.tokenizer.pad_token_id,
    )  # fmt: skip
    text: str = base.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
    return text.strip()


def test_every_answer_of_a_batch_is_the_one_alone(writer: Adapter) -> None:
    wanted = [alone(writer, prompt) for prompt in PROMPTS]
    assert len(set(wanted)) > 2
    assert writer.generate(PROMPTS, max_new_tokens=10) == wanted
    assert writer.generate(PROMPTS, max_new_tokens=10, at_once=3) == wanted
    assert [writer.generate(prompt, max_new_tokens=10) for prompt in PROMPTS] == wanted


def test_pieces_are_the_whole(writer: Adapter) -> None:
    for options in ({}, {"temperature": 1.0, "seed": 4}, {"stop": ["en", "four"]}, {"repetition_penalty": 1.8}):
        pieces = list(writer.stream(PROMPTS[0], max_new_tokens=12, **options))
        assert "".join(pieces) == writer.generate(PROMPTS[0], max_new_tokens=12, **options)
        assert "" not in pieces


def test_something_else_may_run_between_two_pieces(writer: Adapter) -> None:
    whole = writer.generate(PROMPTS[3], max_new_tokens=12)
    pieces = []
    for piece in writer.stream(PROMPTS[3], max_new_tokens=12):
        pieces.append(piece)
        writer.generate(PROMPTS[1], max_new_tokens=2)
        writer.base.activate(None)
    assert "".join(pieces) == whole
    writer.use()


def test_what_is_drawn_depends_on_seed_and_row_alone(writer: Adapter) -> None:
    options: dict[str, Any] = {"max_new_tokens": 10, "temperature": 1.5, "seed": 7}
    before = torch.get_rng_state()
    drawn = writer.generate(PROMPTS, **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert writer.generate(PROMPTS, **options, at_once=1) == drawn
    assert writer.generate(PROMPTS[:3], **options) == drawn[:3]
    assert writer.generate(PROMPTS[0], **options) == drawn[0]
    assert writer.generate(PROMPTS, **{**options, "seed": 8}) != drawn
    assert len(set(writer.generate([PROMPTS[0]] * 12, **options))) > 3


@pytest.fixture(scope="module")
def counter(engine: Engine) -> Adapter:
    return engine.train(tiny_base("decoder"), completions(), strategy="lora", config=FEW)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.6},
        {"min_p": 0.2},
        {"top_k": 6, "top_p": 0.7, "temperature": 2.0},
    ],
)
def test_draws_are_as_often_as_transformers_would_draw_them(counter: Adapter, options: dict[str, Any]) -> None:
    base, n = counter.base, 3000
    counter.use()
    ids = torch.tensor([counter.attachment.task.prompt_ids("one two", base)])
    with torch.no_grad():
        scores = base.model(input_ids=ids).logits[0, -1:].float()
    own = Sampling(**({"temperature": 1.0} | options))
    asked = [module.Prompt(ids[0].tolist(), own, 1, number) for number in range(n)]
    choice = module._Choice(ids.shape[1], asked, base.model.generation_config)
    drawn = choice(ids.expand(n, -1), scores.expand(n, -1)).argmax(dim=-1).bincount(minlength=scores.shape[1]) / n
    # Written out: temperature, then the k likeliest, then those of probability p together, then those of a share.
    scaled = scores[0] / options.get("temperature", 1.0)
    order = scaled.argsort(descending=True)[: options.get("top_k")]
    chances = scaled[order].softmax(dim=0)
    kept = chances.cumsum(dim=0) - chances < options.get("top_p", 1.0)
    kept &= chances >= options.get("min_p", 0.0) * chances[0]
    expected = torch.zeros_like(drawn)
    expected[order[kept]] = chances[kept] / chances[kept].sum()
    assert set(drawn.nonzero().flatten().tolist()) <= set(expected.nonzero().flatten().tolist())
    assert float((drawn - expected).abs().max()) < 4.5 * (0.25 / n) ** 0.5


def test_a_penalty_looks_at_the_prompt_and_not_at_its_padding(counter: Adapter) -> None:
    base = counter.base
    for prompt, answer in zip(
        PROMPTS, counter.generate(PROMPTS, max_new_tokens=8, repetition_penalty=1.7), strict=True
    ):
        ids = torch.tensor([counter.attachment.task.prompt_ids(prompt, base)])
        output = base.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
            repetition_penalty=1.7, pad_token_id=base.tokenizer.pad_token_id,
        )  # fmt: skip
        assert base.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip() == answer


def test_what_the_base_suggests_holds_where_nothing_is_said(counter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    own = counter.base.model.generation_config
    greedy = counter.generate(PROMPTS, max_new_tokens=8)
    penalized = counter.generate(PROMPTS, max_new_tokens=8, repetition_penalty=1.7)
    drawn = counter.generate(PROMPTS, max_new_tokens=8, temperature=1.2, top_k=4)
    assert len({str(answers) for answers in (greedy, penalized, drawn)}) == 3
    for name, value in {"do_sample": True, "temperature": 1.2, "top_k": 4}.items():
        monkeypatch.setattr(own, name, value)
    assert counter.generate(PROMPTS, max_new_tokens=8) == greedy  # nothing is drawn unless it is asked for
    assert counter.generate(PROMPTS, max_new_tokens=8, temperature=1.2) == drawn
    assert counter.generate(PROMPTS, max_new_tokens=8, top_k=4) == drawn
    monkeypatch.setattr(own, "repetition_penalty", 1.7)
    assert counter.generate(PROMPTS, max_new_tokens=8) == penalized
    assert counter.generate(PROMPTS, max_new_tokens=8, repetition_penalty=1.0) == greedy


def test_an_answer_ends_at_a_text(counter: Adapter) -> None:
    whole = [alone(counter, prompt, 12) for prompt in PROMPTS]
    stops = ["four", "n"]
    wanted = []
    for text in whole:
        places = [text.find(stop) for stop in stops if stop in text]
        wanted.append(text[: min(places)].strip() if places else text)
    assert wanted != whole
    assert counter.generate(PROMPTS, max_new_tokens=12, stop=stops) == wanted


def test_batches_are_halved_where_memory_runs_out(counter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, generate, sizes = counter.generate(PROMPTS, max_new_tokens=6), counter.base.model.generate, []

    def small(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("out of memory")
        return generate(**given)

    monkeypatch.setattr(counter.base.model, "generate", small)
    most = 2
    assert counter.generate(PROMPTS, max_new_tokens=6) == wanted
    assert sizes[2:] == [8, 4, 2, 2, 2, 2]
    most = 0
    with pytest.raises(TrainingError, match="out of memory answering a single example"):
        counter.generate([PROMPTS[0]], max_new_tokens=6)


def test_prompts_at_the_end_of_what_the_base_reads(engine: Engine) -> None:
    # Its positions are a table, which has no row for a token too many.
    base = tiny_base("conv1d")
    adapter = engine.train(base, completions(), strategy="lora", config=FEW)
    reads = module.reach(base)
    # Words of this tokenizer are a token each, after the one that a text begins with.
    prompts = ["one", "two " * (reads - 4), "three two", "four " * (reads - 2), "five " * (reads - 4)]
    assert adapter.generate(prompts, max_new_tokens=8) == [adapter.generate(one, max_new_tokens=8) for one in prompts]
    with pytest.raises(DataError, match=rf"prompt 2 has {reads + 1} tokens, and .* reads {reads} with the answer"):
        adapter.generate(["one", "two " * reads], max_new_tokens=8)


def test_a_base_that_padding_disturbs_answers_one_length_at_a_time(
    counter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, generate, widths = counter.generate(PROMPTS, max_new_tokens=6), counter.base.model.generate, []

    def blind(**given: Any) -> Any:
        widths.append(given["input_ids"].shape)
        return generate(**{**given, "attention_mask": torch.ones_like(given["input_ids"])})

    monkeypatch.setattr(counter.base.model, "generate", blind)
    assert counter.generate(PROMPTS, max_new_tokens=6) == wanted
    lengths = [len(counter.attachment.task.prompt_ids(prompt, counter.base)) for prompt in PROMPTS]
    assert sorted(tuple(shape) for shape in widths[2:]) == sorted((lengths.count(n), n) for n in set(lengths))


def test_added_tokens_and_layers_that_ask_for_the_prompt() -> None:
    """A layer that adds to each token what depends on its place, and on the number of tokens of the prompt."""

    class Places:
        def attach(self, view: Any, config: Any) -> Any:
            view.add_tokens(["<alpha>", "<beta>"])

            def add(hidden: torch.Tensor) -> torch.Tensor:
                context = view.context
                if context is None or context.positions is None:
                    return hidden
                scale = context.lengths[:, None, None] / 4.0
                if hidden.shape[1] == context.positions.shape[1]:
                    scale = scale + context.positions[:, :, None] / 2.0
                return hidden * (1 + scale.to(hidden.dtype))

            view.before(view.map.layers[0], add)
            shift = torch.nn.Parameter(torch.zeros(view.map.hidden_size))
            view.after(view.map.layers[0], lambda hidden: hidden + shift)
            return {"shift": shift}

    engine = Engine(plugins_with(Places), Silent())
    adapter = engine.train(tiny_base("decoder"), completions(), strategy="own", config=FEW)
    prompts = ["one <beta> two", "<alpha>", *PROMPTS]
    wanted = [adapter.generate(prompt, max_new_tokens=8) for prompt in prompts]
    assert len(set(wanted)) > 2
    assert adapter.generate(prompts, max_new_tokens=8) == wanted
    assert "".join(adapter.stream(prompts[0], max_new_tokens=8)) == wanted[0]


def test_an_empty_list_has_no_answers(counter: Adapter) -> None:
    assert counter.generate([]) == []


def test_a_chat_ends_at_the_token_that_ends_its_turns(base: Callable[..., Base], engine: Engine) -> None:
    loaded = base("tiny-llama")
    rows = [{"messages": [{"role": "user", "content": "help"}, {"role": "assistant", "content": "card"}]}]
    task = engine.task_for(loaded, engine.load_data(rows, "causal-lm"))
    assert loaded.tokenizer.convert_ids_to_tokens(task.end_ids(loaded)) == ["<|im_end|>"]


MANNERS: list[dict[str, Any]] = [
    {"max_new_tokens": 12}, {"max_new_tokens": 3}, {"max_new_tokens": 9, "temperature": 1.5, "seed": 3},
    {"max_new_tokens": 12, "stop": ["en", "four"]}, {"max_new_tokens": 7, "repetition_penalty": 1.8},
    {"max_new_tokens": 10, "temperature": 0.7, "top_p": 0.8, "seed": 11},
]  # fmt: skip


@pytest.mark.parametrize("turn", [1, 4, 100])
def test_prompts_of_a_batch_are_answered_each_in_its_own_manner(writer: Adapter, turn: int) -> None:
    wanted = [writer.generate(prompt, **manner) for prompt, manner in zip(PROMPTS, MANNERS, strict=False)]
    task, base = writer.attachment.task, writer.base
    with base.lock:
        writer.use()
        asked = [
            module.Prompt(task.prompt_ids(prompt, base), Sampling(**manner), manner["max_new_tokens"])
            for prompt, manner in zip(PROMPTS, MANNERS, strict=False)
        ]
        batch = module.Batch(base, asked, task.end_ids(base))
    more, pieces = True, [""] * len(asked)
    while more:
        with base.lock:
            writer.use()
            more = batch.advance(turn)
        base.activate(None)  # something else may run between two turns
        for row in range(len(asked)):
            assert batch.said(row).startswith(pieces[row])
            pieces[row] = batch.said(row)
    assert pieces == wanted
    assert all(batch.done)
    assert all(size <= prompt.room for size, prompt in zip(batch.sizes, asked, strict=True))
    assert all(size == p.room for cut, size, p in zip(batch.cut, batch.sizes, asked, strict=True) if cut)
    writer.use()
