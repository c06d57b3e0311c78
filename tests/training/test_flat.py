"""Texts in one row without padding are computed as they are in padded rows, or they are padded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapterhub_lite.base.attention import AttentionCall, extensible_attention, plain_attention
from adapterhub_lite.base.flat import BLOCKS, Blocks, Texts
from adapterhub_lite.base.loading import adopt
from adapterhub_lite.data.batches import ROW, parts_of
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.testing.tokenizer import WORDS, tiny_tokenizer
from adapterhub_lite.training import flat
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.flat import flattened
from tests.reading import load_data

STRATEGIES: dict[str, dict[str, Any]] = {"lora": {"rank": 4}, "prefix": {"length": 3}, "full": {}}


@pytest.fixture(scope="module")
def labelled() -> Any:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(12)]
    return load_data([{"text": text, "label": "abc"[row % 3]} for row, text in enumerate(texts)], "text-classification")


@contextmanager
def attached(engine: Any, base: Any, data: Any, strategy: str, settings: dict[str, Any]) -> Iterator[Any]:
    task, provided = engine.task_for(base, data, {}), engine.strategy_shelf.resolve(strategy)
    torch.manual_seed(0)
    options = engine.strategy_shelf.configure(provided, settings)
    attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
    with torch.no_grad():
        for name, parameter in attachment.parameters.items():
            if "lora_B" in name:
                parameter.normal_(std=0.05)  # at zero, it would hide the gradient of the other factor
    try:
        yield attachment, task.encode(data, base).examples
    finally:
        attachment.detach()


def loss_and_gradients(attachment: Attachment, examples: Any) -> tuple[Tensor, dict[str, Tensor]]:
    batch = attachment.task.collate(examples, attachment.base)
    loss = attachment.loss(batch, float(len(examples)))
    tensors = attachment.tensors
    gradients = torch.autograd.grad(loss, list(tensors.values()))
    return loss.detach(), dict(zip(tensors, gradients, strict=True))


def one_row(attachment: Attachment, examples: Any, say: Any = pytest.fail, known: bool | None = None) -> Any:
    return flattened(attachment.base, attachment.task, examples, attachment, learns=True, known=known, say=say)


def both(attachment: Attachment, examples: Any) -> tuple[Any, Any]:
    """Loss and gradients in padded rows, and in one row; dropout off."""
    with attachment.training():
        attachment.base.model.eval()
        padded = loss_and_gradients(attachment, examples)
        with one_row(attachment, examples) as holds:
            assert holds
            attachment.base.model.eval()
            return padded, loss_and_gradients(attachment, examples)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", ["encoder", "decoder", "conv1d"])
def test_losses_and_gradients_are_those_of_padded_rows(
    engine: Any, labelled: Any, model: str, strategy: str, implementation: str
) -> None:
    """With absolute and rotary positions, seeing both sides and one; with fewer heads of keys than of queries."""
    base = tiny_base(model)
    base.model.set_attn_implementation(implementation)
    with attached(engine, base, labelled, strategy, STRATEGIES[strategy]) as (attachment, examples):
        padded, row = both(attachment, examples)
    assert abs(float(padded[0] - row[0])) < 1e-6 * float(padded[0])
    largest = max(float(gradient.norm()) for gradient in padded[1].values())
    for name, gradient in padded[1].items():
        assert float((row[1][name] - gradient).norm()) < 2e-6 * largest, name


def test_in_half_precision_they_differ_by_rounding(engine: Any, labelled: Any) -> None:
    base = tiny_base("encoder", dtype=torch.bfloat16)
    with attached(engine, base, labelled, "lora", {"rank": 4}) as (attachment, examples):
        padded, row = both(attachment, examples)
    assert abs(float(padded[0] - row[0])) < 0.01 * float(padded[0])
    one, other = (torch.cat([gradient.flatten() for gradient in side[1].values()]) for side in (padded, row))
    assert float((one - other).norm() / one.norm()) < 0.03


@pytest.mark.parametrize(("causal", "kv_heads"), [(False, 4), (True, 4), (True, 2)])
def test_attention_is_that_of_each_text_alone(causal: bool, kv_heads: int) -> None:
    """Against softmax(s Q K^T) V written out for each text, in double precision; an extension is asked for each block."""
    torch.manual_seed(0)
    lengths = [3, 90, 1, 4, 88, 3]
    query, key, value = (
        torch.randn(1, heads, sum(lengths), 8, dtype=torch.float64, requires_grad=True)
        for heads in (4, kv_heads, kv_heads)
    )
    mask = torch.ones(1, 1, 1, sum(lengths), dtype=torch.bool)
    blocks = Blocks(lengths, torch.device("cpu"))
    setattr(mask, BLOCKS, blocks)
    assert 1 < len(blocks.shapes) < len(lengths)
    called: list[AttentionCall] = []
    module = nn.Module()
    module.is_causal, module.num_key_value_groups = causal, 4 // kv_heads
    module._adapterhub_extension = called.append
    output, _ = extensible_attention(module, query, key, value, mask, scaling=0.3)
    assert len(called) == len(blocks.shapes)

    def alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (states.repeat_interleave(4 // kv_heads, dim=1) for states in (k, v))
        scores = 0.3 * q @ k.transpose(2, 3)
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[2:]).triu(1).bool(), -torch.inf)
        return (scores.softmax(dim=-1) @ v).transpose(1, 2)

    parts = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    wanted = torch.cat([alone(*part) for part in parts], dim=1)
    torch.testing.assert_close(output, wanted, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(wanted)
    given, known = (torch.autograd.grad((states * direction).sum(), (query, key, value)) for states in (output, wanted))
    torch.testing.assert_close(given, known, rtol=1e-12, atol=1e-12)


def test_plain_attention_is_that_of_torch() -> None:
    """In fp32, where rounding hides nothing; it is used in half precision. With a mask and more heads of queries than of keys."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, heads, 7, 8) for heads in (4, 2, 2))
    mask = (torch.arange(7) < torch.tensor([[7], [3], [1]]))[:, None, None]
    wanted = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=True)
    added = torch.zeros(mask.shape).masked_fill(~mask, -1e9)
    for given in (mask, added):
        output = plain_attention(AttentionCall(query, key, value, given, False), 0.0, 0.3)
        torch.testing.assert_close(output, wanted.transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_rows_and_back() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    texts = Texts(mask, first=2)
    ids = torch.arange(12).view(3, 4)
    inputs = texts.inputs({"input_ids": ids})
    assert inputs["input_ids"].tolist() == [[0, 1, 4, 5, 6, 7, 8]]
    assert inputs["position_ids"].tolist() == [[2, 3, 2, 3, 4, 5, 2]]
    assert texts.segments.tolist() == [[1, 1, 2, 2, 2, 2, 3]]
    assert torch.equal(texts.rows(inputs["input_ids"][..., None])[..., 0], ids * mask)
    assert texts.places(torch.tensor([1, 5, 8])).tolist() == [1, 3, 6]


def test_parts_have_few_tokens_and_all_examples_in_order() -> None:
    draw = random.Random(0)
    for _ in range(50):
        lengths = [draw.randint(1, 900) for _ in range(draw.randint(1, 40))]
        most = draw.randint(1, 40)
        parts = parts_of(lengths, most, ROW)
        assert [position for part in parts for position in part] == list(range(len(lengths)))
        assert max(map(len, parts)) <= most
        assert max(sum(lengths[position] for position in part) for part in parts) < 1.5 * ROW + max(lengths)
    assert parts_of([16] * 32, 32, ROW) == [list(range(32))]


def test_in_half_precision_a_weak_leak_is_found_as_well(engine: Any, labelled: Any) -> None:
    """A little of all tokens of the row, which changes features by hardly more than rounding does."""
    base, said = tiny_base("encoder", dtype=torch.bfloat16), list[str]()

    def leak(_: Any, args: Any, output: Tensor) -> Tensor:
        return output + 0.02 * output.mean(dim=1, keepdim=True)

    base.model.get_submodule(base.map.layers[0]).register_forward_hook(leak)
    with attached(engine, base, labelled, "lora", {"rank": 4}) as (attachment, examples):
        with attachment.training(), one_row(attachment, examples, said.append) as holds:
            assert not holds
        assert "texts see each other" in said[0]


def test_texts_longer_than_a_window_are_padded(engine: Any, labelled: Any) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tiny_tokenizer()), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=48, sliding_window=6, initializer_range=0.2,
    )  # fmt: skip
    base = adopt(MistralForCausalLM(config), tiny_tokenizer(), reference="windowed")
    with attached(engine, base, labelled, "lora", {"rank": 4}) as (attachment, examples):
        short = [example for example in examples if example.length <= 6]
        assert 1 < len(short) < len(examples)
        with attachment.training(), one_row(attachment, short) as holds:
            attachment.base.model.eval()
            assert holds
            given = [loss_and_gradients(attachment, some)[0] for some in (examples, short)]
        wanted = [loss_and_gradients(attachment, some)[0] for some in (examples, short)]
    torch.testing.assert_close(given, wanted, rtol=1e-6, atol=0)


def mixing(base: Any) -> Any:
    """A model that looks at the token before, wherever it stands: the first one of a text sees the last of another."""

    def mix(_: Any, args: Any, output: Tensor) -> Tensor:
        return output + 0.5 * torch.cat([torch.zeros_like(output[:, :1]), output[:, :-1]], dim=1)

    base.model.get_input_embeddings().register_forward_hook(mix)
    return base


def relative() -> Any:
    from transformers import MPNetConfig, MPNetModel

    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(tiny_tokenizer()), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=48, initializer_range=0.2,
    )  # fmt: skip
    return adopt(MPNetModel(config, add_pooling_layer=False), tiny_tokenizer(), reference="relative")


@pytest.mark.parametrize("make", [lambda: mixing(tiny_base("encoder")), relative], ids=["mixing", "relative"])
def test_a_model_for_which_it_is_not_exact_is_padded(
    engine: Any, labelled: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole run, which is the same to the bit as one that never tries."""
    config = TrainConfig(steps=3, batch_size=6, learning_rate=1e-2)

    def run() -> list[float]:
        adapter = engine.train(make(), labelled, strategy="lora", settings={"rank": 4}, config=config)
        tensors = {name: tensor.detach().clone() for name, tensor in adapter.attachment.tensors.items()}
        adapter.detach()
        return tensors

    tried = run()
    monkeypatch.setattr(flat._Trial, "suits", lambda *_: "not wanted")
    never = run()
    assert all(torch.equal(tensor, never[name]) for name, tensor in tried.items())


def test_an_adapter_that_sees_rows_is_found_out_though_it_starts_at_nothing(
    engine: Any, labelled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It adds what it makes of the first token of each row to all of them: at zero nothing, but for its gradient."""
    said: list[str] = []
    with attached(engine, tiny_base("encoder"), labelled, "lora", {"rank": 4}) as (attachment, examples):
        weight = nn.Parameter(torch.zeros(64, 64))
        view, size = attachment.view, attachment.base.map.hidden_size
        weight = nn.Parameter(torch.zeros(size, size))
        view.after(attachment.base.map.layers[0], lambda states: states + states[:, :1] @ weight)
        attachment.parameters["rows"] = weight
        with attachment.training(), one_row(attachment, examples, said.append) as holds:
            assert not holds
            assert attachment.base.flat is None
        assert len(said) == 1
        assert "gradients differ by" in said[0]
        # What came out at the start of a run holds for the whole of it.
        with attachment.training(), one_row(attachment, examples, known=False) as holds:
            assert not holds


def test_the_base_attends_as_before_afterwards(engine: Any, labelled: Any) -> None:
    base = tiny_base("encoder")
    with attached(engine, base, labelled, "lora", {"rank": 4}) as (attachment, examples):
        with attachment.training(), one_row(attachment, examples):
            assert base.flat is not None
        assert base.flat is None
        assert base.model.config._attn_implementation == "sdpa"


def test_layers_are_told_of_the_row(engine: Any, labelled: Any) -> None:
    base, told = tiny_base("encoder"), []
    with attached(engine, base, labelled, "lora", {"rank": 4}) as (attachment, examples):
        attachment.view.after(attachment.base.map.layers[0], lambda states: told.append(states.shape) or states)
        with attachment.training(), one_row(attachment, examples, known=True):
            attachment.logits(attachment.task.collate(examples, base))
            context = attachment.view.context
        tokens = sum(example.length for example in examples)
        assert told[-1][:2] == (1, tokens) == context.segments.shape == context.positions.shape
        assert int(context.segments.max()) == len(examples) - 1
        assert int(context.positions.max()) == max(example.length for example in examples) - 1
