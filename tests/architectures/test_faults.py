"""Faults that bases of many kinds had: each is built tiny, saved to a folder, and loaded as a user does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adapterhub_lite.base.trial import run_once
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.tasks.text import reach
from adapterhub_lite.training.config import TrainConfig
from benchmarks.architectures.tiny import write_tiny

CONFIG = TrainConfig(steps=2, batch_size=4)
PAIRS = [
    {"text": "my card", "pair": "the bill", "label": "a"},
    {"text": "one two", "pair": "my road", "label": "b"},
] * 2


@pytest.fixture
def built(engine: Any, tmp_path: Path) -> Callable[[str], Any]:
    """Load a tiny random model of a type."""

    def load(kind: str) -> Any:
        write_tiny(kind, tmp_path / kind)
        return engine.load_base(tmp_path / kind, dtype="float32", device="cpu")

    return load


def test_a_model_that_was_shown_a_random_part_sees_the_whole(built: Any) -> None:
    base = built("vit_mae")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        first, second = (base.model(pixel_values=pixels).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape[1] == 1 + (32 // base.model.config.patch_size) ** 2


def test_what_is_random_at_inference_is_refused_with_the_module_named(references: Any) -> None:
    from transformers import AutoTokenizer, BertModel

    class Noise(nn.Module):
        def forward(self, hidden: torch.Tensor, *args: Any) -> torch.Tensor:
            return hidden + torch.randn_like(hidden)

    folder = references("tiny-bert")
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    model.encoder.layer[1].output.LayerNorm = Noise()
    with pytest.raises(NotSupportedError, match=r"something else each time.*'encoder\.layer\.1\.output\.LayerNorm'"):
        run_once(model, AutoTokenizer.from_pretrained(folder), 32)


def test_a_model_that_changes_itself_is_refused_or_kept_from_it(built: Any) -> None:
    with pytest.raises(NotSupportedError, match=r"IBertModel changes its own 'embeddings\.embeddings_act1\.x_min'"):
        built("ibert")
    model = built("rwkv").model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids, outputs = torch.tensor([[5, 6, 7]]), []
    with torch.no_grad():
        for training in (False, True, False):
            outputs.append(model.train(training)(input_ids=ids)[0])
    assert torch.equal(outputs[0], outputs[2])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    plain = type(model).from_pretrained(model.name_or_path, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(outputs[0], plain(input_ids=ids)[0], atol=1e-6, rtol=1e-6)


def test_texts_of_one_length_are_run_together_where_padding_is_seen(built: Any) -> None:
    from adapterhub_lite.tasks.text import hidden_states, pad_tokens

    base = built("fnet")
    assert base.map.sees_padding
    rows = [[2, 9, 3], [2, 9, 11, 12, 3], [2, 14, 3]]
    with torch.no_grad():
        together = hidden_states(base, pad_tokens(rows, 0))
        for row, made in zip(rows, together, strict=True):
            alone = base.model(input_ids=torch.tensor([row])).last_hidden_state[0]
            torch.testing.assert_close(made[: len(row)], alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("kind", "tokens"), [("roberta", 512), ("xlnet", 1 << 30), ("bert", 512)])
def test_the_longest_text_is_what_the_positions_are_for(engine: Any, tmp_path: Path, kind: str, tokens: int) -> None:
    from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel, XLNetConfig, XLNetModel

    from benchmarks.architectures.tiny import word_tokenizer

    size: dict[str, Any] = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = {
        "roberta": lambda: RobertaModel(
            RobertaConfig(**size, intermediate_size=16, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1)
        ),
        "bert": lambda: BertModel(BertConfig(**size, intermediate_size=16, max_position_embeddings=512)),
        "xlnet": lambda: XLNetModel(XLNetConfig(vocab_size=64, d_model=16, n_layer=1, n_head=2, d_inner=16)),
    }[kind]()
    model.save_pretrained(tmp_path)
    tokenizer = word_tokenizer(1 if kind == "roberta" else 0)
    tokenizer.model_max_length = 10**30  # a tokenizer without a limit
    tokenizer.save_pretrained(tmp_path)
    base = engine.load_base(tmp_path, dtype="float32", device="cpu")
    assert reach(base) == tokens
    rows = [{"text": " ".join(["card"] * 600), "label": "a"}, {"text": "my card", "label": "b"}]
    engine.train(base, engine.load_data(rows, "text-classification"), config=CONFIG).detach()


@pytest.mark.parametrize("kind", ["roberta", "xlnet", "bert"])
def test_pairs_with_and_without_types_of_tokens(engine: Any, built: Any, kind: str) -> None:
    base = built(kind)
    if kind == "roberta":
        base.model.config.type_vocab_size = 1
        base.model.embeddings.token_type_embeddings = nn.Embedding(1, base.map.hidden_size)
    data = engine.load_data(PAIRS, "text-classification", columns={"pair": "pair"})
    engine.train(base, data, strategy="linear_probe").detach()


def test_the_encoder_of_an_encoder_and_a_decoder_is_the_base(built: Any) -> None:
    base = built("t5")
    assert type(base.model).__name__ == "T5EncoderModel"
    assert all("decoder" not in path for path in base.map.linears)


def test_an_encoder_that_is_left_as_it_is_is_said(engine: Any, built: Any) -> None:
    base = built("bart")
    data = engine.load_data(PAIRS, "text-classification", columns={"text": "text", "label": "label"})
    adapter = engine.train(base, data, strategy="lora", config=CONFIG)
    layers = base.model.config.encoder_layers
    said = adapter.training["reach"]
    assert f"; left: {layers} encoder.layers." in said, said
    assert {path.split(".")[0] for path in base.map.linears} == {"decoder"}


@pytest.mark.parametrize(("kind", "named"), [
    ("clip", r"CLIPVisionModel\.from_pretrained"), ("siglip", r"SiglipVisionModel\.from_pretrained"),
    ("siglip2_vision_model", "pixel_attention_mask and spatial_shapes"), ("dpr", "pooler_output"),
    ("blenderbot", "a decoder that has to be given a text of its own"), ("pixtral", "one image at a time"),
])  # fmt: skip
def test_what_is_no_base_is_refused_by_name(built: Any, kind: str, named: str) -> None:
    with pytest.raises(NotSupportedError, match=named):
        built(kind)


def test_the_class_token_of_clip_is_taken(built: Any) -> None:
    assert built("clip_vision_model").map.pooling == "cls"
    assert built("aimv2_vision_model").map.pooling == "mean"  # its class token asks in a head, and is no feature


def test_weights_of_the_base_may_be_called_head(engine: Any, built: Any, pictures: Any, tmp_path: Path) -> None:
    base = built("aimv2_vision_model")
    adapter = engine.train(base, pictures, strategy="full", config=CONFIG)
    before = adapter.predict(list(pictures.inputs))
    adapter.save(tmp_path / "saved")
    adapter.detach()
    assert engine.load_adapter(tmp_path / "saved", base=base).predict(list(pictures.inputs)) == before


def test_targets_that_no_gradient_reaches_are_let_go_and_recorded(engine: Any, built: Any) -> None:
    base = built("longformer")  # whose global attention no token of a classifier has
    data = engine.load_data(PAIRS, "text-classification", columns={"text": "text"})
    adapter = engine.train(base, data, config=CONFIG)
    assert "attention.self.query," in adapter.attachment.config.targets
    assert "query_global" not in adapter.attachment.config.targets
    assert all(bool(tensor.any()) for name, tensor in adapter.attachment.tensors.items() if ".lora_B." in name)


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "falcon_h1"])
def test_what_a_kernel_passes_by_is_no_target(built: Any, kind: str) -> None:
    base = built(kind)
    assert base.map.linears
    assert not any(path.endswith((".mixer.out_proj", ".mamba.out_proj")) for path in base.map.linears)


def test_a_wrapped_convolution_is_asked_for_its_stride(engine: Any, built: Any, pictures: Any) -> None:
    base = built("mobilenet_v2")
    assert base.model.config.tf_padding
    engine.train(base, pictures, config=CONFIG).detach()


def test_features_may_be_narrower_than_layers(built: Any) -> None:
    base = built("opt")
    assert (base.map.hidden_size, base.model.config.hidden_size) == (16, 32)


def test_a_prefix_on_an_encoder_without_kernels_leaves_each_token_all_others(engine: Any, built: Any) -> None:
    """Alone a text has no mask there, and was taken for one that each token reads from the left."""
    base = built("splinter")
    data = engine.load_data(PAIRS, "text-classification", columns={"text": "text", "label": "label"})
    adapter = engine.train(base, data, strategy="prefix", settings={"init_std": 1.0}, config=CONFIG)
    texts = ["my card", "where is my new card now please"]
    alone = [adapter.predict([text])[0].probability for text in texts]
    assert [said.probability for said in adapter.predict(texts)] == pytest.approx(alone, abs=1e-6)
