"""Signatures, with the package model-signing where it is there.

It need not be in the environment of the tests: `pip install --target DIR model-signing`, and
ADAPTERHUB_TEST_MODEL_SIGNING=DIR.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapterhub_lite.errors import AdapterCorruptError, ConfigError, NotSupportedError
from adapterhub_lite.storage import read_adapter, signing, write_adapter
from adapterhub_lite.storage.signing import sign, verify_signature
from benchmarks.damage import sample


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.environ.get("ADAPTERHUB_TEST_MODEL_SIGNING")
    if folder:
        monkeypatch.setattr(sys, "path", [*sys.path, folder])
    if not signing.is_available():
        pytest.skip("needs model-signing: pip install --target DIR model-signing; ADAPTERHUB_TEST_MODEL_SIGNING=DIR")


@pytest.fixture
def keys(tmp_path: Path, package: None) -> tuple[Path, Path]:
    return make_keys(tmp_path, "key")


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    quiet = {"check": True, "capture_output": True}
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], **quiet)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], **quiet)
    return private, public


def test_signed_and_verified(source: Path, keys: tuple[Path, Path], run, tmp_path: Path) -> None:
    assert sign(source, keys[0]) == source / "model.sig"
    (source / "notes.txt").write_text("beside it, and not signed")
    assert "4 files" in verify_signature(source, keys[1])
    assert read_adapter(source)
    assert run("sign", source, "--key", keys[0]).code == 0
    outcome = run("verify", source, "--files-only", "--key", keys[1], "--json")
    assert outcome.code == 0, outcome.err
    assert [check["name"] for check in json.loads(outcome.out)["checks"]] == ["files", "tensors", "signature"]
    other = make_keys(tmp_path, "other")[1]
    refused = run("verify", source, "--files-only", "--key", other)
    assert refused.code == 1
    assert "not a signature of this adapter" in refused.err


def test_a_forger_with_the_right_hashes_is_found_out(source: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign(source, keys[0])
    forged = sample(tmp_path / "forged", 2)
    (forged / "model.sig").write_bytes((source / "model.sig").read_bytes())
    assert read_adapter(forged)
    with pytest.raises(AdapterCorruptError, match="Signature mismatch"):
        verify_signature(forged, keys[1])
    with pytest.raises(AdapterCorruptError, match="not signed"):
        verify_signature(sample(tmp_path / "unsigned", 1), keys[1])
    data = (source / "model.sig").read_bytes()
    document = json.loads(data)
    another = json.loads(sign(forged, keys[0]).read_bytes())
    document["dsseEnvelope"]["signatures"] = another["dsseEnvelope"]["signatures"]
    for broken in (b"", b"{}", data[:-40], json.dumps(document).encode(), b"[" * 100_000):
        (source / "model.sig").write_bytes(broken)
        with pytest.raises(AdapterCorruptError, match="not a signature") as caught:
            verify_signature(source, keys[1])
        assert "\n" not in str(caught.value)


def test_a_signature_of_other_files_with_the_same_key_does_not_count(
    source: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    from model_signing import signing as theirs

    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "run.yaml").write_bytes((source / "run.yaml").read_bytes())
    theirs.Config().use_elliptic_key_signer(private_key=keys[0]).sign(tmp_path / "theirs", source / "model.sig")
    with pytest.raises(AdapterCorruptError, match="not a signature"):
        verify_signature(source, keys[1])


def test_a_signature_travels_with_the_adapter(source: Path, keys: tuple[Path, Path], tmp_path: Path, run) -> None:
    sign(source, keys[0])
    assert run("pack", source, tmp_path / "a.adapter.zip").code == 0
    assert run("verify", tmp_path / "a.adapter.zip", "--files-only", "--key", keys[1]).code == 0
    assert run("unpack", tmp_path / "a.adapter.zip", tmp_path / "out").code == 0
    assert verify_signature(tmp_path / "out", keys[1])


def test_their_own_verifier_agrees(source: Path, keys: tuple[Path, Path]) -> None:
    from model_signing import hashing, verifying

    sign(source, keys[0])
    config = verifying.Config().use_elliptic_key_verifier(public_key=keys[1])
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[source / "model.sig"]))
    config.verify(source, source / "model.sig")
    (source / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="Signature mismatch"):
        config.verify(source, source / "model.sig")


def test_a_save_that_replaces_a_signed_adapter_takes_the_signature_away(source: Path, keys: tuple[Path, Path]) -> None:
    sign(source, keys[0])
    stored = read_adapter(source)
    write_adapter(source, tensors=stored.tensors.read_bytes(), config=stored.config, manifest=stored.manifest)
    assert not (source / "model.sig").exists()


def test_keys_that_cannot_be_used(source: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        sign(source, tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="no private key"):
        sign(source, keys[1])
    with pytest.raises(ConfigError, match="no public key"):
        verify_signature(source, keys[0])
    (tmp_path / "bad.pem").write_text("-----BEGIN PRIVATE KEY-----\nnope\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match="cannot sign with"):
        sign(source, tmp_path / "bad.pem")
    assert not (source / "model.sig").exists()


def test_a_key_with_a_password(source: Path, keys: tuple[Path, Path], tmp_path: Path, run, monkeypatch) -> None:
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:sesame", "-in", keys[0], "-out", locked],
        check=True,
        capture_output=True,
    )
    assert run("sign", source, "--key", locked).code == 2
    monkeypatch.setenv("ADAPTERHUB_KEY_PASSWORD", "sesame")
    outcome = run("sign", source, "--key", locked)
    assert outcome.code == 0, outcome.err
    assert verify_signature(source, keys[1])


def test_without_the_package_it_says_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "is_available", lambda: False)
    for attempt in (sign, verify_signature):
        with pytest.raises(NotSupportedError, match=r"pip install 'adapterhub-lite\[sign\]'"):
            attempt(source, Path("key.pem"))
