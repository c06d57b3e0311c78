"""Adapters that PEFT wrote give here what they give there, and those written here give there what they give here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.errors import AdapterHubError, ConfigError, NotSupportedError
from adapterhub_lite.merging.export import export_peft
from adapterhub_lite.merging.from_peft import import_peft

# Remarks of PEFT while it makes the adapters to be imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
    pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning"),
    pytest.mark.filterwarnings("ignore:The following rank_pattern keys did not match:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning"),
    pytest.mark.filterwarnings("ignore:Adapter 'default'. . LoRA tensor.* have invalid shape"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]

IDS = torch.arange(3, 15)[None]


def model_of(reference: str, kind: str = "CausalLM") -> Any:
    import transformers

    return getattr(transformers, f"AutoModelFor{kind}").from_pretrained(reference).eval()


@pytest.fixture
def in_peft(references: Any, tmp_path: Path) -> Callable[..., tuple[Path, torch.Tensor]]:
    """Make an adapter with PEFT alone, every number of it random, and save it; gives its folder and logits."""
    import peft

    def make(name: str, config: Any) -> tuple[Path, torch.Tensor]:
        torch.manual_seed(0)
        model = peft.get_peft_model(model_of(references(name)), config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            logits = model(IDS).logits
        model.save_pretrained(tmp_path / "theirs")
        return tmp_path / "theirs", logits

    return make


def logits_here(engine: Any, path: Path, base: Any) -> torch.Tensor:
    adapter = engine.load_adapter(path, base=base)
    adapter.use()
    with torch.no_grad():
        logits = base.model(IDS).logits
    adapter.detach()
    return logits


def logits_there(path: Path, reference: str) -> torch.Tensor:
    from peft import PeftModel

    with torch.no_grad():
        return PeftModel.from_pretrained(model_of(reference), path).eval()(IDS).logits


def lora(**options: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 6, "target_modules": "all-linear", **options})


LORA = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "names": {"target_modules": ["q_proj", "down_proj"]},
    "regular expression": {"target_modules": r".*layers\.[02]\..*(q|up)_proj"},
    "some layers": {"target_modules": ["v_proj"], "layers_to_transform": [1]},
    "ranks by layer": {"rank_pattern": {"q_proj": 2, r"layers.1.mlp.up_proj": 7}},
    "scales by layer": {"alpha_pattern": {"k_proj": 32}, "use_rslora": True, "rank_pattern": {"o_proj": 1}},
    "ranks by layer, dora": {"rank_pattern": {"q_proj": 2}, "use_dora": True},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "gaussian": {"init_lora_weights": "gaussian"},
}


@pytest.mark.parametrize("kind", LORA)
def test_lora_there_and_back(kind: str, engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path) -> None:
    folder, theirs = in_peft("tiny-llama", lora(**LORA[kind]))
    base = load(references("tiny-llama"))
    made = import_peft(engine, folder, tmp_path / "ours", base=base)
    assert (made.strategy, made.task) == ("lora", "causal-lm")
    scale = theirs.abs().max()
    assert (logits_here(engine, tmp_path / "ours", base) - theirs).abs().max() <= 1e-6 * scale
    export_peft(tmp_path / "ours", tmp_path / "back", engine)
    assert {p.name for p in (tmp_path / "back").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    for path in ("ours", "back"):  # ours opens in PEFT as it is
        assert (logits_there(tmp_path / path, references("tiny-llama")) - theirs).abs().max() <= 1e-6 * scale


def test_conv1d(engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path) -> None:
    folder, theirs = in_peft("tiny-gpt2", lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, use_dora=True))
    base = load(references("tiny-gpt2"))
    import_peft(engine, folder, tmp_path / "ours", base=base)
    assert (logits_here(engine, tmp_path / "ours", base) - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert (logits_there(tmp_path / "ours", references("tiny-gpt2")) - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases(bias: str, engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path) -> None:
    options = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "rank_pattern": {"h.0.attn.c_attn": 3}}
    folder, theirs = in_peft("tiny-gpt2", lora(bias=bias, **options))
    base = load(references("tiny-gpt2"))
    import_peft(engine, folder, tmp_path / "ours", base=base)
    assert (logits_here(engine, tmp_path / "ours", base) - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert (logits_there(tmp_path / "ours", references("tiny-gpt2")) - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert config["bias"] == bias
    assert sorted(config["rank_pattern"].values()) == [3]
    one_too_few = {**json.loads((folder / "adapter_config.json").read_text()), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(one_too_few))
    with pytest.raises(AdapterHubError, match=r"bias"):
        import_peft(engine, folder, tmp_path / "again", base=base)


@pytest.mark.parametrize("method", ["IA3", "LNTuning", "OFT", "LoHa"])
def test_other_methods(method: str, engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path) -> None:
    import peft

    options = {
        "IA3": {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
        "LNTuning": {"target_modules": ["input_layernorm"]},
        "OFT": {"target_modules": ["q_proj"], "oft_block_size": 8},
        "LoHa": {"target_modules": ["q_proj", "up_proj"], "r": 4},
    }[method]
    folder, theirs = in_peft("tiny-llama", getattr(peft, f"{method}Config")(task_type="CAUSAL_LM", **options))
    base = load(references("tiny-llama"))
    made = import_peft(engine, folder, tmp_path / "ours", base=base)
    assert made.strategy.startswith("peft:")
    assert (logits_here(engine, tmp_path / "ours", base) - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    export_peft(tmp_path / "ours", tmp_path / "back", engine)
    back = logits_there(tmp_path / "back", references("tiny-llama"))
    assert (back - theirs).abs().max() <= 1e-6 * theirs.abs().max()


def test_adalora_after_it_has_shared_out_its_ranks(engine: Any, load: Any, references: Any, tmp_path: Path) -> None:
    """Each layer is left with a rank of its own, some with none; the scale stays that of the first rank."""
    import peft
    from safetensors.torch import load_file

    for name, targets in (("tiny-llama", ["q_proj", "v_proj", "down_proj"]), ("tiny-gpt2", ["c_attn"])):
        torch.manual_seed(0)
        config = peft.AdaLoraConfig(
            task_type="CAUSAL_LM", target_modules=targets, init_r=6, target_r=2, total_step=12, tinit=1, tfinal=4,
            lora_alpha=5, fan_in_fan_out=name == "tiny-gpt2",
        )  # fmt: skip
        model = peft.get_peft_model(model_of(references(name)), config).train()
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
        for step in range(12):
            logits = model(IDS).logits
            torch.nn.functional.cross_entropy(logits[0, :-1], IDS[0, 1:]).backward()
            optimizer.step()
            model.base_model.update_and_allocate(step)
            optimizer.zero_grad()
        folder = tmp_path / f"theirs-{name}"
        model.save_pretrained(folder)
        theirs = logits_there(folder, references(name))
        saved = load_file(folder / "adapter_model.safetensors")
        assert len({len(tensor) for key, tensor in saved.items() if key.endswith("lora_A")}) > 1
        base = load(references(name))
        made = import_peft(engine, folder, tmp_path / f"ours-{name}", base=base)
        assert made.strategy == "lora"
        scale = theirs.abs().max()
        assert (logits_here(engine, tmp_path / f"ours-{name}", base) - theirs).abs().max() <= 1e-6 * scale
        assert (logits_there(tmp_path / f"ours-{name}", references(name)) - theirs).abs().max() <= 1e-6 * scale


FIXED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vera": ("VeraConfig", "tiny-llama", {"target_modules": ["q_proj", "v_proj"], "r": 8}),
    "vblora": ("VBLoRAConfig", "tiny-llama", {"target_modules": ["q_proj"], "vector_length": 16, "num_vectors": 16}),
    "randlora": ("RandLoraConfig", "tiny-llama", {"target_modules": ["q_proj", "v_proj"], "r": 4}),
    "shira": ("ShiraConfig", "tiny-llama", {"target_modules": ["q_proj", "v_proj"], "r": 4}),
    "pvera": ("PveraConfig", "tiny-llama", {"target_modules": ["q_proj", "v_proj"], "r": 8}),
    "frod": ("FrodConfig", "tiny-llama", {"target_modules": ["q_proj", "v_proj"]}),
    "tinylora": ("TinyLoraConfig", "tiny-llama", {"target_modules": ["q_proj", "v_proj"]}),
    "supertuning": ("SupertuningConfig", "tiny-llama", {"target_modules": ["q_proj", "v_proj"]}),
    "glora": ("GloraConfig", "tiny-llama", {"target_modules": ["q_proj", "v_proj"]}),
    "tokens": ("TrainableTokensConfig", "tiny-llama", {"target_modules": ["embed_tokens"], "token_indices": [3, 5]}),
    "tied tokens": ("TrainableTokensConfig", "tiny-gpt2", {"target_modules": ["wte"], "token_indices": [3, 5]}),
}


@pytest.mark.parametrize("kind", FIXED)
def test_what_does_not_train_stays_as_the_file_has_it(
    kind: str, engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    """As PEFT saves by default; and with other fixed tensors in the file than would be made anew."""
    import peft
    from safetensors.torch import load_file, save_file

    cls, name, options = FIXED[kind]
    folder, theirs = in_peft(name, getattr(peft, cls)(task_type="CAUSAL_LM", **options))
    base = load(references(name))
    made = import_peft(engine, folder, tmp_path / "ours", base=base)
    assert made.strategy.startswith("peft:")
    scale = theirs.abs().max()
    assert (logits_here(engine, tmp_path / "ours", base) - theirs).abs().max() <= 1e-6 * scale
    export_peft(tmp_path / "ours", tmp_path / "back", engine)
    for path in ("ours", "back"):
        assert (logits_there(tmp_path / path, references(name)) - theirs).abs().max() <= 1e-6 * scale
    saved = load_file(folder / "adapter_model.safetensors")
    random = {key for key in saved if any(part in key for part in ("vera_A", "vera_B", "randlora_A", "randlora_B"))}
    if random:
        save_file(
            {key: 1.5 * t if key in random else t for key, t in saved.items()}, folder / "adapter_model.safetensors"
        )
        other = logits_there(folder, references(name))
        assert (other - theirs).abs().max() > 1e-3 * scale
        import_peft(engine, folder, tmp_path / "other", base=base)
        assert (logits_here(engine, tmp_path / "other", base) - other).abs().max() <= 1e-6 * scale


def test_copies_that_should_be_one_tensor_and_differ_are_refused(
    engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    import peft
    from safetensors.torch import load_file, save_file

    config = peft.RandLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=4)
    folder, _ = in_peft("tiny-llama", config)
    saved = load_file(folder / "adapter_model.safetensors")
    copy = next(key for key in saved if key.endswith("layers.1.self_attn.v_proj.randlora_B"))
    save_file({**saved, copy: saved[copy] + 1}, folder / "adapter_model.safetensors")
    with pytest.raises(NotSupportedError, match=r"one and the same as .* in the file another"):
        import_peft(engine, folder, tmp_path / "ours", base=load(references("tiny-llama")))
    assert not (tmp_path / "ours").exists()


def test_prefix_with_rotary_positions(engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path) -> None:
    from peft import PrefixTuningConfig

    folder, theirs = in_peft("tiny-llama", PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
    base = load(references("tiny-llama"))
    made = import_peft(engine, folder, tmp_path / "ours", base=base)
    assert made.strategy == "prefix"
    ours = logits_here(engine, tmp_path / "ours", base)
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    export_peft(tmp_path / "ours", tmp_path / "back", engine, base=base)
    back = logits_there(tmp_path / "back", references("tiny-llama"))
    assert (back - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    with torch.no_grad():
        base.activate(None)
        assert (base.model(IDS).logits - theirs).abs().max() > 1e-2


def test_prefix_with_learnt_positions_is_refused(
    engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    from peft import PrefixTuningConfig

    folder, _ = in_peft("tiny-gpt2", PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
    with pytest.raises(NotSupportedError, match="positions are not merely relative"):
        import_peft(engine, folder, tmp_path / "ours", base=load(references("tiny-gpt2")))
    assert not (tmp_path / "ours").exists()


def test_classifier_on_a_decoder(engine: Any, references: Any, load: Any, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    inner = AutoModelForSequenceClassification.from_pretrained(references("tiny-llama"), num_labels=3)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"])
    model = peft.get_peft_model(inner, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "theirs")
    base = load(references("tiny-llama"))
    text = "my card is not here"
    with torch.no_grad():
        theirs = model(base.tokenizer(text, return_tensors="pt")["input_ids"]).logits.softmax(dim=-1)[0]
    with pytest.raises(ConfigError, match="3 outputs; name them with --labels"):
        import_peft(engine, tmp_path / "theirs", tmp_path / "ours", base=base)
    import_peft(engine, tmp_path / "theirs", tmp_path / "ours", base=base, labels=["a", "b", "c"])
    ours = engine.load_adapter(tmp_path / "ours", base=base)
    probabilities = list(ours.predict([text])[0].probabilities.values())
    assert probabilities == pytest.approx(theirs.tolist(), abs=1e-6)
    ours.detach()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"bias": "some"}, "bias='some' cannot be represented here"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' changed the base"),
        ({"trainable_token_indices": [1, 2]}, r"trainable_token_indices=\[1, 2\]"),
        ({"a_new_option": 3}, "a_new_option=3"),
        ({"peft_type": "SOMETHING"}, "'something' is provided by no installed strategy"),
        ({"task_type": "QUESTION_ANS"}, "task type QUESTION_ANS has no task here"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(
    change: dict[str, Any], why: str, engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path
) -> None:
    folder, _ = in_peft("tiny-llama", lora(target_modules=["q_proj"]))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(AdapterHubError, match=why):
        import_peft(engine, folder, tmp_path / "ours", base=load(references("tiny-llama")))
    assert not (tmp_path / "ours").exists()


def test_other_base_is_refused(engine: Any, in_peft: Any, load: Any, references: Any, tmp_path: Path) -> None:
    folder, _ = in_peft("tiny-llama", lora())
    with pytest.raises(AdapterHubError, match=r"fits no weight matrix|has no place"):
        import_peft(engine, folder, tmp_path / "ours", base=load(references("tiny-gpt2")))


def test_pickles_and_our_own_adapters_are_refused(
    engine: Any, in_peft: Any, load: Any, references: Any, adapt: Any, tmp_path: Path
) -> None:
    base = load(references("tiny-llama"))
    folder, _ = in_peft("tiny-llama", lora())
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(NotSupportedError, match="pickle"):
        import_peft(engine, folder, tmp_path / "ours", base=base)
    with pytest.raises(NotSupportedError, match="already"):
        import_peft(engine, adapt("tiny-llama", "causal-lm", rank=4), tmp_path / "ours", base=base)


def test_classifier_exports_its_head_beside(engine: Any, adapt: Any, references: Any, tmp_path: Path) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModel

    notes = export_peft(adapt("tiny-bert", "text-classification", rank=2), tmp_path / "out", engine)
    assert "head.safetensors" in notes[0]
    assert set(load_file(tmp_path / "out" / "head.safetensors")) == {"weight", "bias"}
    assert all("head" not in name for name in load_file(tmp_path / "out" / "adapter_model.safetensors"))
    PeftModel.from_pretrained(
        AutoModel.from_pretrained(references("tiny-bert"), add_pooling_layer=False), tmp_path / "out"
    )


def test_strategy_without_a_peft_form_is_refused(engine: Any, adapt: Any, tmp_path: Path) -> None:
    with pytest.raises(NotSupportedError, match="'linear_probe', which PEFT has no form of"):
        export_peft(adapt("tiny-llama", "causal-lm", "linear_probe"), tmp_path / "out", engine)
    with pytest.raises(NotSupportedError, match="positions are not merely relative"):
        export_peft(adapt("tiny-gpt2", "causal-lm", "prefix"), tmp_path / "out", engine)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("targets", [["embed_tokens", "q_proj"], ["lm_head", "q_proj"]])
@pytest.mark.parametrize("computes_in", ["float32", "bfloat16"])
@pytest.mark.parametrize("saved_in", ["float32", "bfloat16"])
def test_the_untouched_embedding_in_a_file_is_known_whatever_is_computed_in(
    targets: list[str], computes_in: str, saved_in: str, engine: Any, in_peft: Any, references: Any, tmp_path: Path
) -> None:
    """PEFT saves it beside an update of it. A trained one, by however little, is still refused."""
    from safetensors.torch import load_file, save_file

    folder, _ = in_peft("tiny-llama", lora(target_modules=targets))
    file = folder / "adapter_model.safetensors"
    weight = next(key for key in load_file(file) if key.endswith(".base_layer.weight"))
    saved = load_file(file)
    saved[weight] = saved[weight].to(getattr(torch, saved_in))
    save_file(saved, file)
    import_peft(engine, folder, tmp_path / "ours", base=references("tiny-llama"), dtype=computes_in, device="cpu")
    saved[weight][5, 0] *= 1 + 2**-7
    save_file(saved, file)
    with pytest.raises(NotSupportedError, match="is no part of a LoRA update"):
        import_peft(engine, folder, tmp_path / "no", base=references("tiny-llama"), dtype=computes_in, device="cpu")
