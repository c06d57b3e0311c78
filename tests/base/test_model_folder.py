"""What the files of a base may be and say: the weights that are hashed are those that are loaded, and nothing is let in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapterhub_lite.base import fingerprint
from adapterhub_lite.base.fingerprint import file_hash, weights_hash
from adapterhub_lite.base.references import resolve
from adapterhub_lite.errors import BaseMismatchError, BaseNotFoundError

if TYPE_CHECKING:
    from adapterhub_lite.engine import Engine


@pytest.fixture
def folder(references: Callable[[str], str], tmp_path: Path) -> Path:
    """A copy of a tiny decoder, to be changed."""
    return Path(shutil.copytree(references("tiny-llama"), tmp_path / "base"))


@pytest.fixture
def remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of files of any size are remembered, in a cache of the test's own."""
    monkeypatch.setattr(fingerprint, "ALWAYS_HASHED", -1)
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))


def into_shards(folder: Path) -> list[Path]:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    return shards


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_files_of_the_index_are_the_weights(folder: Path, engine: Engine) -> None:
    shards = into_shards(folder)
    shutil.copy(shards[0], folder / "decoy.safetensors")
    wanted = sha256("".join(sha256(shard.read_bytes()) for shard in shards).encode())
    assert resolve(str(folder)).weights == shards
    assert engine.load_base(str(folder), dtype="float32").fingerprint.weights == wanted


@pytest.mark.parametrize("name", ["../outside/w.safetensors", "sub/w.safetensors", "..", "/w.safetensors", 3, "w.bin"])
def test_an_index_names_files_of_the_folder_alone(folder: Path, name: Any) -> None:
    shards = into_shards(folder)
    for place in (folder / "sub", folder.parent / "outside"):
        place.mkdir()
        shutil.copy(shards[0], place / "w.safetensors")
    index = folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text())["weight_map"]
    edit(index, weight_map={**listed, min(listed): name})
    with pytest.raises(
        BaseNotFoundError, match=r"index.json names '.*', which is no \*.safetensors file in that folder"
    ):
        resolve(str(folder))


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": null}', '{"weight_map": {}}', "{", "\ufeff"])
def test_an_index_that_is_none(folder: Path, content: str) -> None:
    into_shards(folder)
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(BaseNotFoundError, match=r"model.safetensors.index.json .*fetch .*anew"):
        resolve(str(folder))


def test_a_shard_that_is_missing(folder: Path) -> None:
    shards = into_shards(folder)
    shards[1].unlink()
    with pytest.raises(BaseNotFoundError, match=f"index.json names {shards[1].name}, which is missing"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_links_stay_in_the_folder(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(BaseNotFoundError, match=rf"{name} is a link to .*, out of the folder; copy .*cp -rL"):
        resolve(str(folder))


def test_the_layout_of_the_hub_cache_is_followed(folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        (blobs / sha256(path.name.encode())).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / sha256(path.name.encode()))
    plain = weights_hash(resolve(str(folder)))
    assert (
        weights_hash(resolve(str(snapshot)))
        == plain
        == sha256(sha256((folder / "model.safetensors").read_bytes()).encode())
    )


def test_no_name_is_believed_to_be_a_hash(folder: Path) -> None:
    weights, blobs = folder / "model.safetensors", folder / "blobs"
    content = weights.read_bytes()
    blobs.mkdir()
    weights.rename(blobs / sha256(b"what the name says"))
    weights.symlink_to(blobs / sha256(b"what the name says"))
    assert file_hash(resolve(str(folder)).weights[0]) == sha256(content)


def test_flipped_bits_are_seen_whatever_the_time_says(folder: Path, remembering: None) -> None:
    weights = folder / "model.safetensors"
    before, facts = file_hash(weights), weights.stat()
    with weights.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\x42")
    os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert file_hash(weights) == sha256(weights.read_bytes()) != before


def test_a_large_file_is_read_once_and_anew_when_asked(folder: Path, remembering: None) -> None:
    weights = folder / "model.safetensors"
    right, times = file_hash(weights), []
    digest = hashlib.file_digest

    def counted(*arguments: Any) -> Any:
        times.append(1)
        return digest(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "file_digest", counted)
        assert (file_hash(weights), len(times)) == (right, 0)
        assert (file_hash(weights, for_this_boot=True), len(times)) == (right, 1)
        assert (file_hash(weights, for_this_boot=True), len(times)) == (right, 1)
        patch.setattr(fingerprint.psutil, "boot_time", lambda: 1.0)
        assert (file_hash(weights, for_this_boot=True), len(times)) == (right, 2)
        assert (file_hash(weights, anew=True), len(times)) == (right, 3)


def test_verify_believes_no_note(
    trained: Path, references: Callable[[str], str], engine: Engine, remembering: None, tmp_path: Path
) -> None:
    """The base was changed, and a note in the cache says that it was not."""
    from adapterhub_lite.adapter.replay import verify_adapter

    copy = Path(shutil.copytree(references("tiny-bert"), tmp_path / "bert"))
    weights = copy / "model.safetensors"
    assert verify_adapter(engine, trained, base=str(copy)).ok
    right = file_hash(weights)
    loaded = engine.load_base(str(copy), dtype="float32")
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    file_hash(weights)
    notes = [note for note in (tmp_path / "cache" / "hashes").iterdir() if note.read_text() == sha256(bytes(raw))]
    for note in notes:
        note.write_text(right)
    assert file_hash(weights) == right, "the note is believed by those who only load"
    report = verify_adapter(engine, trained, base=str(copy))
    assert isinstance(report.error, BaseMismatchError)
    assert file_hash(weights) == sha256(bytes(raw)), "and the note is put right"
    report = verify_adapter(engine, trained, base=loaded)
    assert "changed after it was loaded" in str(report.error)


@pytest.mark.parametrize("where", ["quantization_config", "compression_config", "text_config"])
def test_a_base_that_is_stored_quantized_is_refused(folder: Path, where: str) -> None:
    stored = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    edit(folder / "config.json", **{where: {"quantization_config": stored} if where == "text_config" else stored})
    with pytest.raises(BaseNotFoundError, match=r"stored quantized \(bitsandbytes\).*give the unquantized model"):
        resolve(str(folder))
    edit(folder / "config.json", **{where: None})
    assert resolve(str(folder)).weights


def test_an_adapter_in_the_folder_of_a_base_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BaseNotFoundError, match=r"would put that adapter into the base; move adapter_config.json"):
        resolve(str(folder))


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the package that fetches kernels, where fetching one fails the test."""
    import transformers.modeling_utils as library
    from transformers.integrations import hub_kernels

    def fetch(*arguments: Any, **options: Any) -> Any:
        pytest.fail(f"fetched {arguments}")

    for place in (library, hub_kernels):
        for name in ("is_kernels_available", "_kernels_available"):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, lambda *arguments: True)
    for name in ("load_and_register_attn_kernel", "get_kernel", "lazy_load_kernel"):
        monkeypatch.setattr(hub_kernels, name, fetch)


KERNEL_KEYS = [
    "_attn_implementation",
    "attn_implementation",
    "_attn_implementation_internal",
    "_experts_implementation",
]


@pytest.mark.parametrize("key", KERNEL_KEYS)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ["owner/kernel", "kernels-community/flash-attn2@main:run", {"": "owner/kernel"}])
def test_no_file_names_code_of_a_hub(folder: Path, no_kernels: None, key: str, nested: bool, name: Any) -> None:
    edit(folder / "config.json", **({"text_config": {key: name}} if nested else {key: name}))
    with pytest.raises(BaseNotFoundError, match=f"config.json: '{key}' names .*, code from a hub"):
        resolve(str(folder))


@pytest.mark.parametrize("key", KERNEL_KEYS[:2])
@pytest.mark.parametrize(
    "name", ["flash_attention_2", "flash_attention_3", "paged|flash_attention_2", "deepgemm", "eager"]
)
def test_attention_that_might_be_fetched_is_not(
    folder: Path, engine: Engine, no_kernels: None, key: str, name: str
) -> None:
    edit(folder / "config.json", **{key: name})
    model = engine.load_base(str(folder), dtype="float32").model
    assert model.config._attn_implementation == ("eager" if name == "eager" else "sdpa")
