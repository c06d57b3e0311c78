"""Bases of adapters that were loaded, so that adapters of one base share it."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary

from adapterhub_lite.base.loading import Base
from adapterhub_lite.storage.manifest import BaseRecord


class LoadedBases:
    """Bases that adapters use; one that no adapter uses any more is gone."""

    def __init__(self) -> None:
        self._bases: WeakValueDictionary[tuple[str, ...], Base] = WeakValueDictionary()

    def shared(self, reference: str, record: BaseRecord, dtype: str, device: str, load: Callable[..., Base]) -> Base:
        """The base of another adapter, where it is the recorded one and in one piece; else one that is loaded now."""
        key = (reference, record.quantization, dtype, device)
        base = self._bases.get(key)
        if base is None or base.fingerprint != record.fingerprint or base.shards is not None:
            base = load(reference, quantization=record.quantization, dtype=dtype, device=device)
            self._bases[key] = base
        return base
