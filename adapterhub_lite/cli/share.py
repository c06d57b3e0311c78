"""The verbs that hand adapters to others: `pack`, `unpack`, `push`, `pull` and `sign`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath
from adapterhub_lite.names import human_size

Folder = Annotated[str, typer.Argument(metavar="DIR", help="Where the adapter goes.")]


def pack(
    adapter: AdapterPath,
    out: Annotated[str, typer.Argument(metavar="OUT.adapter.zip", help="File to write.")],
) -> None:
    """Put an adapter into one file, for mail or an object store; the other verbs read it as it is."""
    from adapterhub_lite.storage.bundle import pack as write

    path = write(Path(adapter), Path(out))
    typer.echo(f"{path} ({human_size(path.stat().st_size)})")


def unpack(
    bundle: Annotated[str, typer.Argument(metavar="FILE", help="A bundle made by `pack`.")], folder: Folder
) -> None:
    """Check a bundle and write the adapter in it to a folder."""
    from adapterhub_lite.storage.bundle import unpack as read

    manifest = read(Path(bundle), Path(folder))
    typer.echo(f"{folder}: {manifest.strategy.name} for {manifest.task.name} on {manifest.base.reference}")


def push(
    adapter: AdapterPath,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Model repository; made if need be.")],
    private: Annotated[bool, typer.Option("--private", metavar="", help="Make it private, if it is made.")] = False,
    card: Annotated[bool, typer.Option("--card", metavar="", help="Replace the model card that is there.")] = False,
) -> None:
    """Upload an adapter to a hub, with a model card. Log in first: `hf auth login`, or set HF_TOKEN."""
    from adapterhub_lite.exchange.hub import push as upload

    typer.echo(upload(Path(adapter), repository, private=private, card=card))


def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="Model repository.")],
    folder: Folder,
) -> None:
    """Download an adapter from a hub and verify it."""
    from adapterhub_lite.exchange.hub import pull as download

    manifest = download(repository, Path(folder))
    typer.echo(f"{folder}: {manifest.strategy.name} for {manifest.task.name} on {manifest.base.reference}")


def sign(
    adapter: AdapterPath,
    key: Annotated[str, typer.Option(metavar="FILE", help="Elliptic-curve private key in a PEM file.")],
) -> None:
    """Sign an adapter, so that `verify --key` with the public key can tell who made it.

    A key is made by `openssl ecparam -name prime256v1 -genkey -noout -out key.pem`, its public half by
    `openssl ec -in key.pem -pubout -out key.pub`. The password of a key is read from ADAPTERHUB_KEY_PASSWORD.
    """
    from adapterhub_lite.storage.signing import sign as write

    typer.echo(str(write(Path(adapter), Path(key), os.environ.get("ADAPTERHUB_KEY_PASSWORD"))))
