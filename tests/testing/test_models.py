"""The tiny models: small, the same every time, and fit for what the checks ask of them."""

from __future__ import annotations

import pytest
import torch

from adapterhub_lite.base.describe import example_inputs
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.testing import TINY_MODELS, TinyModel, tiny_base, tiny_tokenizer
from adapterhub_lite.testing.bench import Bench, outputs
from adapterhub_lite.testing.snapshot import differences, snapshot

EVERY = pytest.mark.parametrize("model", TINY_MODELS, ids=lambda model: model.name)


@EVERY
def test_it_is_tiny(model: TinyModel) -> None:
    base = model.base()
    assert base.parameters < 100_000
    assert len(list(base.model.modules())) < 200, "making them is what takes time"
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


@EVERY
def test_its_weights_are_the_same_every_time(model: TinyModel) -> None:
    """Of a seed, wherever the caller's random state is, which is left alone."""
    torch.manual_seed(1)
    first = model.base()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again, other = model.base(), model.base(seed=1)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint.weights != other.fingerprint.weights


@EVERY
def test_quantized_it_is_nearly_the_same(model: TinyModel) -> None:
    """NF4 loses about a tenth of a normal weight; more would mean that it is stored in the wrong order."""
    dense, quantized = model.base(), model.base(quantization="nf4")
    assert quantized.quantization == "nf4"
    before, after = dense.view("x"), quantized.view("x")
    for path in dense.map.linears:
        assert after.is_quantized(path)
        wanted, weight = before.weight(path), after.weight(path)
        wanted = wanted if wanted.shape == weight.shape and model.name != "conv1d" else wanted.T
        assert float((wanted - weight).norm() / wanted.norm()) < 0.12


def test_the_decoder_has_what_it_is_for() -> None:
    base = tiny_base("decoder")
    assert base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight
    site = base.view("causal-lm").attention[0]
    assert (site.heads, site.kv_heads) == (4, 2)
    assert base.map.causal
    assert tiny_base("conv1d").map.linears


def test_every_model_has_attention_to_extend() -> None:
    for model in TINY_MODELS:
        assert len(model.base().view("x").attention) == 2


def test_bfloat16() -> None:
    base = tiny_base("vision", dtype=torch.bfloat16)
    assert base.dtype == torch.bfloat16
    assert outputs(base, example_inputs(base.model)).isfinite().all()


def test_a_model_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no tiny model 'bert'; there are: decoder, conv1d, vision, series, encoder"):
        tiny_base("bert")
    with pytest.raises(ConfigError, match="not 'int8'"):
        tiny_base("encoder", quantization="int8")


def test_the_tokenizer() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("one good nonsense")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "one", "good", "<unk>"]


def test_a_snapshot_sees() -> None:
    """Each of the things that an adapter must leave as it was."""
    base = tiny_base("series")
    model = base.model
    before = snapshot(model)
    assert differences(before, snapshot(model)) == []
    first = next(iter(model.parameters()))
    first.data.flatten()[0] += 1e-6
    next(iter(model.buffers())).add_(1)
    model.register_forward_hook(lambda *_: None)
    model.requires_grad_(True)
    model.train()
    model.config._attn_implementation = "eager"
    changes = " ".join(differences(before, snapshot(model)))
    for word in (
        "parameter ",
        "buffer ",
        "forward_hooks",
        "requires_grad",
        "training mode",
        "attention implementation",
    ):
        assert word in changes


def test_each_problem_can_be_batched() -> None:
    from zoo import GOOD

    for model in TINY_MODELS:
        bench = Bench(GOOD, None, model)
        attachment = bench.attach(model.base())
        batch = bench.batch(attachment)
        assert len(next(iter(batch.values()))) == 8
        assert bench.loss(attachment) > 0
