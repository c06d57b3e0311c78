"""Configurations that name code to be run; those of an adapter never do."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.errors import AdapterCorruptError

_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")


def refuse_code(config: Any, where: str) -> None:
    """Check that nothing in a configuration makes transformers or PEFT import something.

    Raises:
        AdapterCorruptError: naming `where` and the key.
    """
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for key in _CODE:
                if item.get(key):
                    raise AdapterCorruptError(f"{where}: {key!r} asks to run code, which no adapter may; do not use it")
            # PEFT imports the module named here to find the class of the base.
            mapping = item.get("auto_mapping")
            library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
            if mapping and not (isinstance(library, str) and library.startswith("transformers.")):
                raise AdapterCorruptError(
                    f"{where}: 'auto_mapping' asks to import {str(library)[:80]!r}; do not use it"
                )
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
