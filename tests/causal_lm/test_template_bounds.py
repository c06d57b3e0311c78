"""Chat templates that cost time or memory are stopped at once; all others are rendered as transformers renders them."""

from __future__ import annotations

import copy
import resource
import time
from typing import Any

import pytest

from adapterhub_causal_lm.manner import rendered
from adapterhub_causal_lm.template import CostlyTemplate, render_template
from adapterhub_lite.errors import DataError, NotSupportedError

CHAT = [
    {"role": "system", "content": "Be  brief.\n"}, {"role": "user", "content": "Is it <raining>? \u00e9"},
    {"role": "assistant", "content": "<think>\nno\n</think>\n\nIt is not."}, {"role": "user", "content": "100 % sure?"},
]  # fmt: skip
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}"
COSTLY = {
    "loops in loops": LOOP + "{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "loops that write": LOOP + "{{ messages[0].content }}{% endfor %}{% endfor %}",
    "a text times a number": "{{ 'a' * 10000000000 }}",
    "a text times a product": "{% set n = 99999 * 99999 %}{{ 'a' * n }}",
    "a list times a number": "{{ ([1] * 10000000000) | length }}",
    "a number times a text": "{{ 10000000000 * 'a' }}",
    "doubled by tildes": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubled by plus": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "lists of lists": (
        "{% set n = namespace(x=['a']) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}"
    ),
    "lists of lists as JSON": (
        "{% set n = namespace(x=['a']) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}"
    ),
    "a block in a block": (
        "{% set x %}{% for i in range(99999) %}aaaaaaaaaa{% endfor %}{% endset %}"
        "{% set y %}{% for i in range(99999) %}{{ x }}{% endfor %}{% endset %}{{ y }}"
    ),
    "many blocks": "".join(f"{{% set x{i} = 'a' * 4900000 %}}" for i in range(200)),
    "a wide format": "{{ '%9999999999d' % 1 }}",
    "a width given elsewhere": "{{ '%*d' % (9999999999, 1) }}",
    "the filter format": "{{ '%9999999999d' | format(1) }}",
    "the method format": "{{ '{:>9999999999}'.format(1) }}",
    "a width within a width": "{{ '{:>{w}}'.format(1, w=9999999999) }}",
    "center": "{{ 'a' | center(9999999999) }}",
    "ljust": "{{ 'a'.ljust(9999999999) }}",
    "zfill": "{{ 'a'.zfill(9999999999) }}",
    "expandtabs": "{{ '\t'.expandtabs(9999999999) }}",
    "indent": "{{ ('a\n' * 1000) | indent(999999999) }}",
    "indented JSON": "{{ messages | tojson(indent=9999999999) }}",
    "replace": "{% set x = 'a' * 99999 %}{{ x | replace('a', x) }}",
    "the method replace": "{% set x = 'a' * 99999 %}{{ x.replace('a', x) }}",
    "join": "{% set x = 'a' * 99999 %}{{ range(99999) | join(x) }}",
    "join of what is to come": "{% set x = 'a' * 99999 %}{{ range(99999) | map('string') | join(x) }}",
    "the method join of a range": "{% set x = 'a' * 99999 %}{{ x.join(range(99999) | map('string')) }}",
    "the method join": "{% set x = 'a' * 99999 %}{{ x.join(x) }}",
    "map": "{{ range(99999) | map('center', 99999) | join }}",
    "batch": "{{ [1] | batch(9999999999, 'x') | list }}",
    "powers": "{{ 9 ** (9 ** 9) }}",
    "numbers": "{% set n = namespace(x=3) %}{% for i in range(99999) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "macros": ("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}"),
    "a loop that calls itself": ("{% for x in range(999) recursive %}{{ loop(range(999)) }}{% endfor %}"),
    "lorem": "{{ lipsum(n=99999999) }}",
    "a long template": "a" * 200_001,
}


def render_chat(messages: list[dict[str, str]], tokenizer: Any, *, reply: bool) -> str:
    given = {"tools": None, "documents": None, **tokenizer.special_tokens_map}
    return rendered(tokenizer.get_chat_template(), messages, given, reply=reply)[0]


@pytest.mark.parametrize("kind", COSTLY)
def test_costly_templates(kind: str, base: Any) -> None:
    tokenizer = copy.deepcopy(base("tiny-llama").tokenizer)
    tokenizer.chat_template = COSTLY[kind]
    render_template("", messages=CHAT)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.thread_time()
    with pytest.raises(
        (NotSupportedError, DataError), match=r"chat template of this base's tokenizer (is not ren|refuses)"
    ):
        render_chat(CHAT, tokenizer, reply=True)
    assert time.thread_time() - started < 3, "under a second on an idle machine"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 < 400e6


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ 1 % 0 }}", "ZeroDivisionError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ messages[0].content.nothing.more }}", "has no attribute"),
        ("{% if %}", "Expected an expression"),
        ("{" * 1 + "% include 'x' %}", "loader"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|no attribute|undefined"),
        ("{{ 'a' | no_such }}", "No filter named"),
        ("{{ raise_exception('only users') }}", "only users"),
        ("{{ (" + "(" * 3000 + "1" + ")" * 3000 + ") }}", "RecursionError|nested|MemoryError|too many"),
        ("{{ 2.0 ** 9999 }}", "OverflowError"),
    ],
)
def test_templates_that_fail(template: str, said: str, base: Any) -> None:
    tokenizer = copy.deepcopy(base("tiny-llama").tokenizer)
    tokenizer.chat_template = template
    with pytest.raises((DataError, NotSupportedError), match=f"chat template .* (refuses|rendered).*({said})"):
        render_chat(CHAT, tokenizer, reply=False)


TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim "
        "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "thinking": (
        "{%- set ns = namespace(last=0, multi=true) %}{%- for m in messages[::-1] %}{%- set i = (messages|length - 1) - "
        "loop.index0 %}{%- if ns.multi and m.role == 'user' %}{%- set ns.multi = false %}{%- set ns.last = i %}{%- endif %}"
        "{%- endfor %}{%- for m in messages %}{%- if '</think>' in m.content and loop.index0 < ns.last %}"
        "{{- m.content.split('</think>')[-1].lstrip('\n') }}{%- else %}{{- bos_token ~ m.content ~ loop.last ~ loop.length "
        "}}{%- endif %}{%- endfor %}"
    ),
    "macros": (
        "{% macro show(m, depth=1) -%}[{{ m.role|upper }}:{{ '  ' * depth }}{{ m.content|replace('<', '&lt;')|indent(2) }}]"
        "{%- endmacro %}{% for m in messages if m.role != 'system' %}{{ show(m, depth=loop.index) }}{% else %}none{% endfor %}"
        "{% set text %}{{ messages | tojson(indent=2) }}{% endset %}{{ text }}{{ '%s-%d' % ('a', 3) }}{{ '{}'.format(1) }}"
    ),
    "generation": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}"
        "{% endgeneration %}{% elif loop.first %}{% continue %}{% else %}{{ m.content }}{% endif %}"
        "{% if loop.index > 3 %}{% break %}{% endif %}{% endfor %}"
    ),
    "filters": (
        "{{ messages | map(attribute='role') | unique | sort | join(', ') }}{{ messages | selectattr('role', 'equalto', "
        "'user') | list | length }}{{ messages | groupby('role') | list | length }}{{ tools is none }}{{ x | default('y') }}"
        "{% for k, v in messages[0].items() %}{{ loop.cycle('a', 'b') }}{{ k }}{{ v | first }}{% endfor %}"
        "{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | list | string | length }}"
    ),
    "numbers": "{{ 7 // 2 }}{{ 7 / 2 }}{{ 2 ** 8 }}{{ 7 % 4 }}{{ 3 * 4 - 1 }}{{ [1] + [2] }}{{ messages|length is odd }}",
}  # fmt: skip


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("reply", [False, True])
def test_sound_templates_are_rendered_as_by_transformers(kind: str, reply: bool, base: Any) -> None:
    tokenizer = copy.deepcopy(base("tiny-llama").tokenizer)
    tokenizer.chat_template = TEMPLATES[kind]
    wanted = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=reply)
    assert render_chat(CHAT, tokenizer, reply=reply) == wanted
    assert len(wanted) > 15


def test_a_long_conversation_is_within_the_bounds(base: Any) -> None:
    tokenizer = base("smollm2-4").tokenizer
    chat = [
        {"role": ("user", "assistant")[i % 2], "content": "word " * 400} for i in range(1000)
    ]  # two million characters
    assert render_chat(chat, tokenizer, reply=True) == tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True
    )


def test_what_one_rendering_takes_is_not_counted_for_the_next() -> None:
    for _ in range(3):
        assert render_template("{% for i in range(90000) %}{% for j in [1, 2] %}{% endfor %}{% endfor %}a") == "a"
    with pytest.raises(CostlyTemplate, match="over 500,000 steps"):
        render_template("{% for i in range(90000) %}{% for j in [1, 2, 3, 4, 5] %}{% endfor %}{% endfor %}a")
