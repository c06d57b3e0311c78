"""`adapterhub-lite sign`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath


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
