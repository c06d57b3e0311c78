"""Chat templates, rendered as transformers renders them, but within bounds: they come from strangers, as weights do.

Jinja's sandbox keeps a template from the machine, not from its time and memory: loops in loops, or a text doubled forty
times, take days or gigabytes. Here every turn of a loop, operation, filter and call is counted, and what each makes is
measured, before it is made where it could be much larger than what it is made of.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_STEPS = 500_000
MOST_CHARACTERS = 5_000_000
"""Of any value, the whole conversation included."""
MOST_IN_ALL = 200_000_000
"""Characters of all values together."""
MOST_SECONDS = 0.5
"""Of this thread; a long conversation takes some thousandths."""
TEMPLATE_LIMIT = 200_000
MOST_BITS = 4096  # of a number

# What makes a text whose length is a product: of its texts' lengths and its numbers.
_FACTORS = {
    "replace", "join", "center", "ljust", "rjust", "zfill", "expandtabs", "indent", "tojson", "wordwrap", "batch", "slice",
    "translate", "xmlattr", "format",
}  # fmt: skip
_WIDE = re.compile(r"\d{6}|\*")  # a width in a format, or one that is given elsewhere


class CostlyTemplate(Exception):
    """A template that goes beyond the bounds; says which."""


class _Budget:
    """What rendering has taken so far."""

    def __init__(self) -> None:
        self.steps = 0
        self.characters = 0
        self.until = time.thread_time() + MOST_SECONDS

    def step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise CostlyTemplate(f"it takes over {MOST_STEPS:,} steps")
        if self.steps % 16 == 0 and time.thread_time() > self.until:
            raise CostlyTemplate(f"it takes over {MOST_SECONDS} seconds")

    def made(self, value: Any) -> Any:
        """Count a value that was made, and give it back."""
        self.characters += _size(value)
        if self.characters > MOST_IN_ALL:
            raise CostlyTemplate(f"it makes over {MOST_IN_ALL:,} characters")
        return value


_budget: ContextVar[_Budget] = ContextVar("_budget")


def render_template(template: str, **given: Any) -> str:
    """Render a chat template.

    Args:
        template: Its text.
        given: What it is told, such as `messages`; plain values alone.

    Raises:
        CostlyTemplate: it takes more steps, time or memory than any conversation needs.
        Exception: whatever the template itself raises.
    """
    if len(template) > TEMPLATE_LIMIT:
        raise CostlyTemplate(f"it has {len(template):,} characters, over the limit of {TEMPLATE_LIMIT:,}")
    token = _budget.set(_Budget())
    try:
        return _compiled(template).render(**given)
    except MemoryError:
        raise CostlyTemplate("it takes more memory than there is") from None
    finally:
        _budget.reset(token)


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    return _Environment().from_string(template)


class _Generator(CodeGenerator):
    """Writes `a ~ b`, which the sandbox does not watch, as a call."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Environment(ImmutableSandboxedEnvironment):
    """The environment of transformers, with every operation counted and measured."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)
    code_generator_class = _Generator

    def __init__(self) -> None:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        like = _compile_jinja_template("").environment
        extensions = [type(extension) for extension in like.extensions.values()]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=_within)
        self.filters = {name: _counted_filter(name, filter_) for name, filter_ in like.filters.items()}
        self.filters["counted"] = _counted
        self.globals = {name: value for name, value in like.globals.items() if name != "lipsum"}

    def _generate(self, source: nodes.Template, *arguments: Any, **options: Any) -> str:
        for loop in source.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "counted", [], [], None, None, lineno=loop.lineno)
        source.set_environment(self)
        return super()._generate(source, *arguments, **options)

    def concat(self, parts: Iterable[str]) -> str:
        """Put together the parts of the output, a macro or a block."""
        kept, size = [], 0
        for part in parts:
            size += len(part)
            if size > MOST_CHARACTERS:
                raise CostlyTemplate(f"it writes over {MOST_CHARACTERS:,} characters")
            kept.append(part)
        _budget.get().characters += size
        return "".join(kept)

    def joined(self, parts: Sequence[Any]) -> str:
        """Put together the parts of a `~`."""
        _budget.get().step()
        return self.concat(str(_within(part)) for part in parts)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute what a template writes with an operator."""
        _budget.get().step()
        _check_operands(operator, left, right)
        return _budget.get().made(super().call_binop(context, operator, left, right))

    def call(self, context: Any, what: Any, /, *arguments: Any, **named: Any) -> Any:
        """Call what a template calls."""
        _budget.get().step()
        name, owner = getattr(what, "__name__", ""), getattr(what, "__self__", None)
        if name in _FACTORS and isinstance(owner, str):
            arguments = tuple(map(_listed, arguments))
            _check_product([owner, *arguments, *named.values()])
        for argument in arguments:
            _within(argument)
        return _budget.get().made(super().call(context, what, *arguments, **named))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Give `str.format`, where `value` is it, so that it does not write wide fields."""
        inner = super().wrap_str_format(value)
        if inner is None:
            return None
        text = value.__self__

        @wraps(inner)
        def bounded(*arguments: Any, **named: Any) -> str:
            if _WIDE.search(text) or text.count("{") != text.count("{}") + text.count("{0}"):
                _check_product([text, *arguments, *named.values()])
            if _WIDE.search(text):
                raise CostlyTemplate("it formats a text in a very wide field")
            return inner(*arguments, **named)

        return bounded


def _counted_filter(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)
    def bounded(*arguments: Any, **named: Any) -> Any:
        budget = _budget.get()
        budget.step()
        arguments = tuple(map(_listed, arguments)) if name in _FACTORS else arguments
        plain = [value for value in (*arguments, *named.values()) if isinstance(value, (str, int, list, tuple, dict))]
        if name == "format" and plain and _WIDE.search(str(plain[0])):
            raise CostlyTemplate("it formats a text in a very wide field")
        if name in _FACTORS:
            _check_product(plain)
        for value in plain:
            _within(value)
        return budget.made(filter_(*arguments, **named))

    return bounded


@pass_context
def _counted(context: Any, values: Any) -> Iterator[Any]:
    """The values that a loop goes through, each a step."""
    budget = _budget.get()
    for value in values:
        budget.step()
        yield value


def _listed(value: Any) -> Any:
    """What can be gone through once, or is not yet there, as a list that can be measured; anything else as it is."""
    return list(_counted(None, value)) if isinstance(value, (Iterator, range)) else value


def _check_operands(operator: str, left: Any, right: Any) -> None:
    if operator == "%" and isinstance(left, str):
        if _WIDE.search(left):
            raise CostlyTemplate("it formats a text in a very wide field")
        _within(right)
    elif operator == "*" and not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
        _check_product([left, right])
    elif isinstance(left, int) and isinstance(right, int) and operator in ("*", "**"):
        bits = left.bit_length() * max(right, 0) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MOST_BITS:
            raise CostlyTemplate("it computes a number of thousands of digits")
    elif operator == "+" and not isinstance(left, (int, float)) and _size(left) + _size(right) > MOST_CHARACTERS:
        raise CostlyTemplate(f"it makes a value of over {MOST_CHARACTERS:,} characters")


def _check_product(factors: Iterable[Any]) -> None:
    product = 1
    for factor in factors:
        product *= max(1, abs(factor) if isinstance(factor, int) else _size(factor))
        if product > 10 * MOST_CHARACTERS:
            raise CostlyTemplate(f"it makes a value that may have over {MOST_CHARACTERS:,} characters")


def _within(value: Any) -> Any:
    """A value, if it is not too large written out.

    Raises:
        CostlyTemplate: it is.
    """
    _size(value)
    return value


def _size(value: Any) -> int:
    """The characters and parts of a value, each as often as it would be written.

    Raises:
        CostlyTemplate: they are more than `MOST_CHARACTERS`.
    """
    size, stack = 0, [value]
    while stack:
        item = stack.pop()
        size += len(item) if isinstance(item, str) else 1
        if size > MOST_CHARACTERS:
            raise CostlyTemplate(f"it makes a value of over {MOST_CHARACTERS:,} characters")
        if isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
    return size
