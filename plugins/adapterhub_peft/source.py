"""PEFT's methods and their options, read from the source of the installed PEFT without importing it.

Importing PEFT takes seconds; parsing the forty files of its configurations takes hundredths of one, and follows whatever
version is installed. What a file says in a way that is not understood here is left out, never guessed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Union


class Unreadable(Exception):
    """An expression that cannot be turned into a type or value without running PEFT."""


@dataclass(frozen=True)
class Option:
    """One field of a PEFT configuration."""

    name: str
    type: Any
    """The Python type, or None where it is one that cannot be written in YAML."""
    default: Any
    help: str
    parts: tuple[Option, ...] = ()
    """The fields of the configuration that is the value of this one."""


@dataclass(frozen=True)
class Method:
    """One method, as PEFT registers it."""

    name: str
    config: str
    """Name of its configuration class."""
    options: tuple[Option, ...]
    """All fields but those of `PeftConfig` itself, in PEFT's order."""
    prompt_learning: bool
    """It makes virtual tokens, which are not put into the model's layers."""


def read_methods() -> list[Method]:
    """Every method that the installed PEFT registers, by name; none where PEFT is not installed."""
    spec = find_spec("peft")
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(spec.submodule_search_locations[0])
    classes: dict[str, ast.ClassDef] = {}
    registered: dict[str, str] = {}
    for path in (
        root / "config.py",
        *sorted((root / "tuners").glob("*.py")),
        *sorted((root / "tuners").glob("*/*.py")),
    ):
        if path.name in ("config.py", "lycoris_utils.py"):
            classes |= {node.name: node for node in _parse(path).body if isinstance(node, ast.ClassDef)}
        elif path.name == "__init__.py":
            registered |= dict(_registrations(_parse(path)))
    methods = []
    for name, config in sorted(registered.items()):
        ancestors = _ancestors(config, classes)
        if ancestors:
            options = {option.name: option for cls in reversed(ancestors) for option in _options(cls, classes)}
            learns_prompt = any(cls.name == "PromptLearningConfig" for cls in ancestors)
            methods.append(Method(name, config, tuple(options.values()), learns_prompt))
    return methods


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _registrations(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Pairs of name and configuration class from `register_peft_method(name=..., config_cls=..., ...)`."""
    for call in ast.walk(module):
        if not isinstance(call, ast.Call) or getattr(call.func, "id", None) != "register_peft_method":
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        name, config = given.get("name"), given.get("config_cls")
        if isinstance(name, ast.Constant) and isinstance(config, ast.Name):
            yield str(name.value), config.id


def _ancestors(name: str, classes: Mapping[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The class and those it comes from, up to but without `PeftConfig`."""
    ancestors = []
    while name in classes and name != "PeftConfig":
        ancestors.append(classes[name])
        bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name)]
        name = bases[0] if bases else ""
    return ancestors


def _options(cls: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> Iterator[Option]:
    for node in cls.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        given = _field_arguments(node.value)
        if getattr(given.get("init"), "value", None) is False:
            continue  # nobody can set it
        default: Any
        try:
            if "default_factory" in given:
                default = {"dict": {}, "list": []}[getattr(given["default_factory"], "id", "")]
            else:
                default = ast.literal_eval(given["default"])
            kind = _type(node.annotation)
        except (Unreadable, KeyError, ValueError):
            default, kind = None, None
        if kind is not None and default is None:
            kind = kind | None  # some fields are None by default though their type does not say so
        parts = _parts(node.annotation, classes) if kind is None else ()
        yield Option(node.target.id, kind, default, _help(given.get("metadata")), parts)


def _parts(annotation: ast.expr, classes: Mapping[str, ast.ClassDef]) -> tuple[Option, ...]:
    """The fields of the first class in an annotation that is a configuration itself: of `KasaConfig | None`, its two."""
    names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name) and node.id.endswith("Config")]
    return tuple(_options(classes[names[0]], classes)) if names and names[0] in classes else ()


def _field_arguments(value: ast.expr | None) -> dict[str, ast.expr]:
    """The arguments of `field(default=..., metadata=...)`, or the bare default."""
    if isinstance(value, ast.Call) and getattr(value.func, "id", None) == "field":
        return {keyword.arg: keyword.value for keyword in value.keywords if keyword.arg}
    return {} if value is None else {"default": value}


def _help(metadata: ast.expr | None) -> str:
    try:
        return " ".join(str(ast.literal_eval(metadata)["help"]).split()) if metadata is not None else ""
    except (ValueError, KeyError, TypeError):
        return ""


SCALARS: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "None": None, "dict": dict[str, Any]}


def _type(node: ast.expr) -> Any:
    """The type that an annotation names, of those that YAML can write.

    Raises:
        Unreadable: for any other.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _type(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Name) and node.id in SCALARS:
        return SCALARS[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right])
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inside = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        match node.value.id:
            case "Optional":
                return _union([*inside, ast.Constant(None)])
            case "Union":
                return _union(inside)
            case "Literal":
                return Literal[tuple(ast.literal_eval(value) for value in inside)]
            case "list" | "List":
                return list[_type(inside[0])]  # type: ignore[misc]
            case "dict" | "Dict":
                return dict[_type(inside[0]), _type(inside[1])]  # type: ignore[misc]
    raise Unreadable(ast.unparse(node))


def _union(members: list[ast.expr]) -> Any:
    types: list[Any] = []
    unknown = []
    for member in members:
        try:
            types.append(_type(member))
        except Unreadable as error:
            unknown.append(error)
    # A name beside `str` is an enumeration of strings; a class beside anything else needs an object to be made.
    if unknown and str not in types:
        raise unknown[0]
    return Union[tuple(types)]  # noqa: UP007 (the members are known only here)
