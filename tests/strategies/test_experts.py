"""LoRA on models whose experts lie in one parameter, against PEFT: the same outputs, gradients and merged weights."""

from __future__ import annotations

import copy
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from listening import Listening
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from adapterhub_lite.base.loading import adopt
from adapterhub_lite.base.recompute import activation_checkpointing
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.merging.from_peft import import_peft
from adapterhub_lite.merging.merge import merge_adapter
from adapterhub_lite.training.config import TrainConfig

# PEFT asks transformers in a way that transformers is giving up; nothing of ours is involved.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    # It looks for ranks among modules alone, though it gives them to parameters too.
    pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match:RuntimeWarning"),
]

SIZES = {
    "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
    "num_key_value_heads": 2, "vocab_size": 120, "max_position_embeddings": 128, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
MANY = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROUTED = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "topk_group": 1,
    "first_k_dense_replace": 1,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": MANY,
    "qwen2_moe": {**MANY, "shared_expert_intermediate_size": 16, "decoder_sparse_step": 1},
    "olmoe": MANY,
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phimoe": {"num_local_experts": 4},
    "glm4_moe": {**ROUTED, "n_group": 1},
    "deepseek_v3": {
        **ROUTED, "n_group": 2, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
        "v_head_dim": 8, "num_key_value_heads": 4,
    },
    "qwen3_next": {
        **MANY, "shared_expert_intermediate_size": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
    },
}  # fmt: skip
TEXTS = [{"text": "the card is lost where is it"}, {"text": "my money is pending please help"}]
CONFIG = TrainConfig(steps=3, batch_size=2, learning_rate=1e-2)


def made(kind: str, folder: Path, tokenizer: Any, **sizes: int) -> Any:
    """Save a random model, and return it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**SIZES, **MODELS[kind], **sizes})).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        given: torch.Tensor = model(
            input_ids=tokenizer("where is my new card", return_tensors="pt")["input_ids"]
        ).logits
    return given


@pytest.mark.parametrize("kind", MODELS)
def test_experts_are_adapted_and_peft_opens_it(kind: str, base: Any, tmp_path: Path) -> None:
    tokenizer, folder = base("tiny-llama").tokenizer, str(tmp_path / "base")
    made(kind, tmp_path / "base", tokenizer)
    progress = Listening()
    engine = Engine(progress=progress)
    loaded = engine.load_base(folder, dtype="float32", device="cpu")
    before = logits(loaded.model, tokenizer)
    # A rank of its own for the name that experts and dense layers share.
    settings = {"rank": 4, "rank_pattern": {"down_proj": 2}}
    adapter = engine.train(
        loaded, engine.load_data(TEXTS, "causal-lm"), strategy="lora", settings=settings, config=CONFIG
    )
    assert all(bool(tensor.any()) for tensor in adapter.attachment.tensors.values())
    line = next(line for line in progress.lines if line.startswith("lora reached"))
    assert "gate_up_proj" not in line
    adapter.save(tmp_path / "adapter")
    ours = logits(loaded.model, tokenizer)
    adapter.detach()
    assert torch.equal(logits(loaded.model, tokenizer), before)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = logits(PeftModel.from_pretrained(plain, tmp_path / "adapter").eval(), tokenizer)
    assert (ours - before).abs().max() > 0.1
    assert torch.allclose(theirs, ours, atol=1e-5, rtol=1e-5)
    again = engine.load_adapter(tmp_path / "adapter", base=loaded)
    assert torch.equal(logits(loaded.model, tokenizer), ours)
    again.detach()
    merged = merge_adapter(engine, tmp_path / "adapter", tmp_path / "merged")
    opened = AutoModelForCausalLM.from_pretrained(merged.path, dtype=torch.float32).eval()
    assert torch.allclose(logits(opened, tokenizer), ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_pefts(
    recompute: bool, implementation: str, base: Any, put: Any, data_for: Any, tmp_path: Path
) -> None:
    """However the experts are computed: one by one, sorted, or with their weights gathered for each token."""
    tokenizer = base("tiny-llama").tokenizer
    model = made("qwen3_moe", tmp_path, tokenizer)
    model.set_experts_implementation(implementation)
    plain = copy.deepcopy(model).train()
    mounted = put(adopt(model, tokenizer), data_for("causal-lm"), "lora", {"rank": 4})
    attachment = mounted.attachment
    with torch.no_grad():
        for name, tensor in attachment.tensors.items():
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))) / 8)
    attachment.base.model.train()
    with activation_checkpointing(model, recompute):
        ours = mounted.gradients([0, 1])
    config = attachment.strategy.peft_config(attachment.view, attachment.config)
    batch = mounted.batch([0, 1])
    theirs = get_peft_model(plain, LoraConfig(**{**config, "inference_mode": False}))
    slots = {name.replace(".default", ""): p for name, p in theirs.named_parameters() if p.requires_grad}
    assert slots.keys() == ours.keys()
    with torch.no_grad():
        for name, parameter in slots.items():
            parameter.copy_(attachment.tensors[name])
    logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    targets = batch["targets"][:, 1:].flatten()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-100).backward()
    for name, parameter in slots.items():
        assert torch.allclose(ours[name], parameter.grad, atol=1e-5, rtol=1e-4), name


def test_no_sum_is_kept_for_the_backward_pass(base: Any, put: Any, data_for: Any, tmp_path: Path) -> None:
    """What autograd holds between the passes is no larger than on a base whose experts are not adapted."""
    tokenizer = base("tiny-llama").tokenizer
    loaded, data = adopt(made("mixtral", tmp_path, tokenizer), tokenizer), data_for("causal-lm")
    sums = []
    mounted = put(loaded, data, "lora", {"rank": 4})
    add = torch.baddbmm

    def watched(*args: Any, **kwargs: Any) -> torch.Tensor:
        made_now: torch.Tensor = add(*args, **kwargs)
        sums.append(weakref.ref(made_now.untyped_storage()))
        return made_now

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "baddbmm", watched)
        logits, _ = mounted.attachment.logits(mounted.batch([0, 1]))
        gc.collect()
        assert len(sums) == 4  # two layers of two parameters
        assert logits.requires_grad
        assert not [reference for reference in sums if reference() is not None]


@pytest.mark.parametrize(
    ("quantization", "inner", "why"),
    [("nf4", 12, "a matrix is no number of blocks of 64 weights"), ("int8", 16, "it stores linear layers alone")],
)
def test_experts_that_stay_as_they_are_are_said(
    quantization: str, inner: int, why: str, base: Any, tmp_path: Path
) -> None:
    """An adapter trains on them all the same."""
    hidden = 36 if inner == 12 else 64
    made("mixtral", tmp_path, base("tiny-llama").tokenizer, hidden_size=hidden, intermediate_size=inner)
    progress = Listening()
    engine = Engine(progress=progress)
    loaded = engine.load_base(str(tmp_path), quantization=quantization, dtype="float32", device="cpu")
    share = 2 * 4 * 3 * inner * hidden / loaded.parameters
    said = f"4 tensors of experts (down_proj, gate_up_proj), {share:.0%} of the weights, stay in float32 and not "
    assert f"{said}{quantization}: {why}" in progress.lines
    adapter = engine.train(loaded, engine.load_data(TEXTS, "causal-lm"), strategy="lora", config=CONFIG)
    assert all(bool(tensor.any()) for tensor in adapter.attachment.tensors.values())
    assert [name for name in adapter.attachment.tensors if "experts" in name]
    adapter.detach()


def test_what_has_no_form_for_experts(base: Any, put: Any, data_for: Any, tmp_path: Path) -> None:
    """DoRA and starts from weights leave experts alone, and are refused where these are asked for by name."""
    tokenizer = base("tiny-llama").tokenizer
    loaded = adopt(made("mixtral", tmp_path, tokenizer), tokenizer)
    for settings in ({"dora": True}, {"init": "pissa"}, {"targets": "all-linear"}):
        tensors = put(loaded, data_for("causal-lm"), "lora", {"rank": 4, **settings}).attachment.tensors
        assert not [name for name in tensors if "experts" in name]
    for settings in ({"dora": True}, {"init": "pissa"}):
        with pytest.raises(NotSupportedError, match="several experts"):
            put(loaded, data_for("causal-lm"), "lora", {"rank": 4, "targets": "down_proj", **settings})
    alone = put(loaded, data_for("causal-lm"), "lora", {"rank": 4, "targets": "down_proj"}).attachment.tensors
    assert {name.partition("experts.")[2] for name in alone} == {"lora_A.weight", "lora_B.weight"}


def test_a_method_that_peft_puts_elsewhere_is_refused(base: Any, put: Any, data_for: Any, tmp_path: Path) -> None:
    """PEFT's own LoRA would leave the dense layers of DeepSeek-V3 for its experts."""
    tokenizer = base("tiny-llama").tokenizer
    loaded = adopt(made("deepseek_v3", tmp_path, tokenizer), tokenizer)
    with pytest.raises(NotSupportedError, match="down_proj, gate_up_proj instead; use strategy lora"):
        put(loaded, data_for("causal-lm"), "peft:lora")
    assert put(loaded, data_for("causal-lm"), "peft:lora", {"targets": "attention"}).attachment.tensors


def test_what_peft_trained_on_experts_is_imported(base: Any, engine: Any, tmp_path: Path) -> None:
    tokenizer = base("tiny-llama").tokenizer
    plain = made("mixtral", tmp_path / "base", tokenizer)
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        rank_pattern={"experts.down_proj": 2}, alpha_pattern={"experts.gate_up_proj": 3}, task_type="CAUSAL_LM",
    )  # fmt: skip
    theirs = get_peft_model(copy.deepcopy(plain), config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = engine.load_base(str(tmp_path / "base"), dtype="float32", device="cpu")
    import_peft(engine, tmp_path / "theirs", tmp_path / "ours", base=loaded)
    adapter = engine.load_adapter(tmp_path / "ours", base=loaded)
    assert torch.allclose(logits(loaded.model, tokenizer), logits(theirs, tokenizer), atol=1e-5, rtol=1e-5)
    adapter.detach()
