"""Where prepared bases and encoded features are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The folder of the cache: `ADAPTERHUB_CACHE`, or the user's cache folder. Everything in it can be deleted."""
    chosen = os.environ.get("ADAPTERHUB_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("adapterhub_lite"))
