"""Options of a verb made from the pydantic models that they fill: a field cannot lack its option, help or default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.markup import escape

from adapterhub_lite.cli.options import parse_columns, parse_settings
from adapterhub_lite.names import Flag
from adapterhub_lite.plugins.shelf import checked_options

_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_METAVARS: dict[Any, str] = {bool: "", int: "N", float: "NUMBER", str: "NAME"}


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb as typer takes it: each parameter that stands for a model becomes an option for each field of the model.

    A parameter of the type of a model gets the model, filled. One of the type `Annotated[dict[str, Any], Model]` gets
    a dictionary, nested like the model, of the options that were given; a run file may then supply the others.
    """
    parameters = inspect.signature(verb, eval_str=True).parameters
    models = {name: _model_of(parameter.annotation) for name, parameter in parameters.items()}
    shown: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        model = models[name]
        shown += [parameter.replace(kind=_KEYWORD)] if model is None else [_option(*field) for field in _fields(model)]

    def call(**values: Any) -> None:
        arguments: dict[str, Any] = {}
        for name, parameter in parameters.items():
            model = models[name]
            if model is None:
                arguments[name] = values[name]
            else:
                given = _given(model, values)
                arguments[name] = checked_options(model, given, "options") if parameter.annotation is model else given
        verb(**arguments)

    call.__doc__ = verb.__doc__
    # Typer reads the options from these two.
    call.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return call


def flag_of(name: str, field: FieldInfo) -> str:
    """The option of a field, such as `--batch-size`."""
    return _flag(field).name or f"--{name.replace('_', '-')}"


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a parameter stands for, if it stands for one."""
    last = annotation.__metadata__[-1] if get_origin(annotation) is Annotated else annotation
    return last if isinstance(last, type) and issubclass(last, BaseModel) else None


def _fields(model: type[BaseModel], panel: str | None = None) -> Iterator[tuple[str, FieldInfo, str | None]]:
    """Every field with its name and the panel it is listed in: fields of a model within have a panel of their own."""
    for name, field in model.model_fields.items():
        within = _model_of(field.annotation)
        if within is None:
            yield name, field, panel
        else:
            yield from _fields(within, field.description)


def _given(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values of all options, those that were given for the fields of a model."""
    given: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        within, value = _model_of(field.annotation), values.get(name)
        if within is not None:
            value = _given(within, values) or None
        elif value and get_origin(field.annotation) is dict:
            of_text = get_args(field.annotation)[1] is str
            value = parse_columns(value) if of_text else parse_settings(value, flag_of(name, field))
        if value is not None and value != []:
            given[name] = value
    return given


def _option(name: str, field: FieldInfo, panel: str | None) -> inspect.Parameter:
    """The option of a field; its value is None where it is not given."""
    kind: Any = next((kind for kind in (bool, int, float) if kind in _parts(field)), str)
    if get_origin(field.annotation) is dict or field.annotation == list[str]:
        kind = list[str]
    option = typer.Option(
        flag_of(name, field),
        metavar=_flag(field).metavar or _METAVARS.get(kind),
        help=escape(_help(field)),
        rich_help_panel=panel,
    )
    return inspect.Parameter(name, _KEYWORD, default=None, annotation=Annotated[kind | None, option])


def _help(field: FieldInfo) -> str:
    """The help of an option: the description of its field, the choices and the default."""
    choices = next((get_args(part) for part in _parts(field) if get_origin(part) is Literal), ())
    which = "Any of" if get_origin(field.annotation) is list else "One of"
    said = f"{field.description} {which} {', '.join(choices)}." if choices else field.description
    if field.is_required():
        return f"{said} [needed here or in --config]"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, bool):
        default = "on" if default else "off"
    elif isinstance(default, float):
        default = f"{default:g}"
    elif default is None or default == []:
        default = "none"
    return f"{said} [default: {_flag(field).unset or default}]"


def _flag(field: FieldInfo) -> Flag:
    return next((extra for extra in field.metadata if isinstance(extra, Flag)), Flag())


def _parts(field: FieldInfo) -> tuple[Any, ...]:
    """The type of a field and the types it is made of: `float | None`, float and None."""
    return (field.annotation, *get_args(field.annotation))
