"""Signatures: who made an adapter. Hashes say that nothing has changed since it was saved, not by whom that was.

The signature is a file in the adapter, `model.sig`, of the OpenSSF model signing format, which other tools verify:

    model_signing verify key my-adapter --signature my-adapter/model.sig --public_key key.pub

It covers the manifest and every file the manifest lists. Keys are elliptic-curve keys in PEM files:

    openssl ecparam -name prime256v1 -genkey -noout -out key.pem && openssl ec -in key.pem -pubout -out key.pub
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import AdapterCorruptError, ConfigError, NotSupportedError
from adapterhub_lite.storage.disk import replacing_file
from adapterhub_lite.storage.layout import MANIFEST, MAX_SIGNATURE_BYTES, SIGNATURE
from adapterhub_lite.storage.plain import read_plain
from adapterhub_lite.storage.store import read_adapter


def sign(adapter: Path, key: Path, password: str | None = None) -> Path:
    """Sign the verified adapter at `adapter` and return the path of its signature, which replaces one that is there.

    Args:
        adapter: Its folder.
        key: A PEM file with an elliptic-curve private key.
        password: Of the key, if it has one.

    Raises:
        NotSupportedError: the package `model-signing` is not installed.
        AdapterNotFoundError, AdapterCorruptError: no adapter, or not as it was saved.
        ConfigError: the key cannot be used.
        StorageError: the signature cannot be written.
    """
    _require()
    from model_signing import signing

    _check_key(key, "PRIVATE KEY")
    encoded: Any = password.encode() if password else None  # declared as text, and handed on to where bytes are needed
    with _signed_files_alone(adapter) as (folder, place):
        made = folder.parent / SIGNATURE
        try:
            config = signing.Config().use_elliptic_key_signer(private_key=key, password=encoded)
            config.sign(folder, made)
        except Exception as error:  # the package raises what its own dependencies raise
            raise ConfigError(f"cannot sign with {key}: {_line(error)}; see `adapterhub-lite sign --help`") from error
        data = made.read_bytes()
    target = place / SIGNATURE
    temporary = place.with_name(f".{place.name}.staging-{secrets.token_hex(8)}")
    with replacing_file(target, temporary):
        temporary.write_bytes(data)
    return target


def verify_signature(adapter: Path, key: Path) -> str:
    """Check that the adapter at `adapter` was signed with the key whose public half is in `key`; return a line on it.

    Raises:
        NotSupportedError: the package `model-signing` is not installed.
        AdapterCorruptError: no signature, one by another key, or one of other files.
        ConfigError: the key cannot be used.
    """
    _require()
    from model_signing import verifying

    _check_key(key, "PUBLIC KEY")
    with _signed_files_alone(adapter) as (folder, place):
        signature = folder.parent / SIGNATURE
        if not (place / SIGNATURE).exists():
            raise AdapterCorruptError(
                f"{place / SIGNATURE}: there is none, so the adapter is not signed; ask its maker"
            )
        # The same bytes are verified and looked into below.
        signature.write_bytes(read_plain(place / SIGNATURE, MAX_SIGNATURE_BYTES))
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)
            signed = _signed_names(signature.read_bytes())
        except Exception as error:
            raise AdapterCorruptError(
                f"{place / SIGNATURE}: not a signature of this adapter by {key} ({_line(error)}); ask its maker"
            ) from error
        # The format lets a signer leave files out; the one that vouches for all others must not be.
        if MANIFEST not in signed:
            raise AdapterCorruptError(f"{place / SIGNATURE}: does not cover {MANIFEST}; ask its maker")
    return f"signed with the key of {key.name}, {len(signed)} files"


def is_available() -> bool:
    """Tell whether the package `model-signing` is installed."""
    from importlib.util import find_spec

    return find_spec("model_signing") is not None


def _require() -> None:
    if not is_available():
        raise NotSupportedError("signatures need the package model-signing: pip install 'adapterhub-lite[sign]'")


@contextmanager
def _signed_files_alone(adapter: Path) -> Iterator[tuple[Path, Path]]:
    """Give a copy of an adapter with nothing in it but what its manifest lists, and the folder it came from."""
    stored = read_adapter(adapter)
    place = stored.tensors.parent
    with tempfile.TemporaryDirectory(prefix="adapterhub-sign-") as name:
        folder = Path(name, place.name)
        folder.mkdir()
        for file in (MANIFEST, *stored.manifest.files):
            shutil.copyfile(place / file, folder / file, follow_symlinks=False)
        read_adapter(folder)
        yield folder, place


def _check_key(key: Path, kind: str) -> None:
    try:
        text = key.read_text(encoding="ascii")[:10_000]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--key {key}: cannot be read ({_line(error)}); give a PEM file") from None
    if kind not in text:
        raise ConfigError(
            f"--key {key}: no {kind.lower()} in PEM form; signing takes the private key, verifying the public"
        )


def _signed_names(signature: bytes) -> list[str]:
    """The files a signature covers; to be read only once the signature has been verified."""
    payload: Any = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    return [resource["name"] for resource in payload["predicate"]["resources"]]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
