"""YAML of a bounded size: aliases that stand for more than they say, and repeated keys, are refused. No torch here."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from adapterhub_lite.names import first_repeated

MOST_CHARACTERS = 100_000
MOST_VALUES = 20_000
"""Values once every alias is replaced by what it stands for."""
MOST_LEVELS = 50


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# To YAML 1.1, 010 is eight and 1:30 is ninety.
_MISREAD = re.compile(r"[-+]?0[0-9_]+|.*:.*", re.DOTALL)


class UnusableYaml(ValueError):
    """A document that is not read; says what is wrong with it and where."""


class UnboundedYaml(UnusableYaml):
    """One that is too large, or stands for too much."""


def read_yaml(text: str) -> Any:
    """What a YAML document holds.

    Raises:
        UnusableYaml: it is no YAML, too large (`UnboundedYaml`), or names a key twice.
    """
    if len(text) > MOST_CHARACTERS:
        raise UnboundedYaml(f"it has {len(text):,} characters where at most {MOST_CHARACTERS:,} are read")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except RecursionError:
        raise UnboundedYaml("it is nested too deeply") from None
    except UnusableYaml:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as a date with 99 months
        raise UnusableYaml(f"it is no YAML: {' '.join(str(error).split())[:300]}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _check(root: Node) -> None:
    """Walk through what a document stands for, as far as the bounds go: an alias leads to the same node again."""
    values, stack = 0, [(root, 0)]
    while stack:
        node, level = stack.pop()
        values += 1
        if values > MOST_VALUES:
            raise UnboundedYaml(f"it stands for over {MOST_VALUES:,} values; write it without aliases")
        if level > MOST_LEVELS:
            raise UnboundedYaml(f"line {node.start_mark.line + 1}: it is nested deeper than {MOST_LEVELS} levels")
        if isinstance(node, MappingNode):
            twice = first_repeated([key.value for key, _ in node.value if isinstance(key, ScalarNode)])
            if twice is not None:
                raise UnusableYaml(f"line {node.start_mark.line + 1}: the key {twice[:80]!r} is given twice")
            stack += [(part, level + 1) for pair in node.value for part in pair]
        elif isinstance(node, ScalarNode):
            if node.tag in _NUMBERS and _MISREAD.fullmatch(node.value):
                raise UnusableYaml(
                    f"line {node.start_mark.line + 1}: YAML takes {node.value[:40]} for another number than it looks like; "
                    "write it in decimal digits, or in quotes where it is text"
                )
        else:
            stack += [(part, level + 1) for part in node.value]
