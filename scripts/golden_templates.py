#!/usr/bin/env python3
"""Makes templates/tests/data/environment.json: small templates and what transformers' own Jinja environment makes of them;
and templates/tests/data/conversations.json: the same for whole conversations, with the built-in templates and with some
that use what published ones use.

Needs `pip install transformers jinja2` (tested with the versions that the file records); no torch. Run it from the root of
the project after adding a snippet below; the tests only read the file.
"""

import json
import re
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

OUT = Path("templates/tests/data/environment.json")
OUT_CONVERSATIONS = Path("templates/tests/data/conversations.json")
BUILTIN = Path("templates/src")

# What every snippet may use. Messages have the shape that the Rust side takes.
VARS = {
    "messages": [
        {"role": "system", "content": "You are terse.  "},
        {"role": "user", "content": "Grüße, \"you\" & 'me' <b>\n\ttab\\ 🙂"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"x": 1, "a": [True, None, 1.5, "é"]}}},
        ]},
        {"role": "tool", "content": "ok", "name": "f", "tool_call_id": "c1", "zeta": 1, "extra": {"k": []}},
        {"role": "assistant", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}],
    "numbers": [3, 1, 2, 10, -4],
    "floats": [1.0, 0.1, 1e16, 1e15, 1.5e-7, 0.0001, 123456789.125, -0.0, 1e22, 2.5e300],
    "words": ["alpha", "Beta", "gamma delta", ""],
    "mapping": {"b": 1, "a": {"z": [1, 2], "y": None}, "c d": "e"},
    "empty_list": [],
    "empty_map": {},
    "yes": True,
    "no": False,
    "nothing": None,
    "text": "  Hello, World! it's a_test-case  ",
    "lines": "one\ntwo\r\nthree\n\nfive\n",
    "date_string": "26 Jul 2024",
}

SNIPPETS = r"""
{{ yes }} {{ no }} {{ nothing }} {{ undefined_name }}|
{{ [yes, nothing, 1, 1.0, 'a', "it's", 'q"q'] }}
{{ mapping }} {{ empty_list }} {{ empty_map }} {{ words }} {{ messages[1] }}
{{ messages[2].tool_calls }}
{{ floats }} {{ floats|tojson }}
{% for f in floats %}{{ f }} {{ f|string }} {{ f ~ '' }};{% endfor %}
{{ messages[1].content|tojson }} {{ messages|tojson }}
{{ tools|tojson(indent=2) }}
{{ tools|tojson(indent=4) }}
{{ mapping|tojson(sort_keys=true) }} {{ mapping|tojson(separators=(',', ':')) }}
{{ mapping|tojson(indent=2, sort_keys=true) }}
{{ mapping|tojson(ensure_ascii=true) }} {{ messages[1].content|tojson(ensure_ascii=true) }}
{{ empty_list|tojson(indent=2) }} {{ empty_map|tojson(indent=2) }} {{ [[], {}]|tojson(indent=1) }}
{{ '<a href="x">&amp;</a>'|tojson }} {{ "\u007f\u0001\b"|tojson }}
{{ undefined_name|tojson }}
{{ {1: 2, none: 3}|tojson }} {{ {true: 4}|tojson }}
{{ nothing|tojson }} {{ yes|tojson }} {{ 1|tojson }} {{ 'x'|tojson }} {{ 1.0|tojson }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'b'] ~ undefined_name }}
{{ 'a' + 'b' * 3 + 'c' }} {{ 1 + 2 * 3 ~ 4 }} {{ 1 - 2 - 3 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 3 }}
{{ 'a' + 1 }}
{{ 'a' + none }}
{{ 'a' + undefined_name }}
{{ undefined_name + 1 }}
{{ [1] + [2, 3] }} {{ [0] * 3 }} {{ ([1] + [2])|length }} {{ ('a' + 'bc')|length }} {{ 'a' + 'bc'|upper }}
{{ yes + 1 }} {{ 1.5 + 1 }} {{ 3 * 1.5 }} {{ 10 - 2.5 }} {{ 5.0 // 2 }} {{ 5.5 % 2 }}
{{ '%s-%d' % ('a', 3) }} {{ '%s' % 'x' }} {{ '%.2f' % 1.234 }} {{ '%05d|%x' % (42, 255) }}
{{ 'a' 'b' }}
{{ numbers[1:] }} {{ numbers[:-1] }} {{ numbers[::-1] }} {{ numbers[::2] }} {{ numbers[-2:] }} {{ numbers[3:0:-1] }} {{ numbers[:0:-1] }} {{ numbers[0:2:-1] }} {{ numbers[10:] }}
{{ 'hello'[::-1] }} {{ 'hello'[1:3] }} {{ 'hello'[-3:] }} {{ 'hello'[:-1] }} {{ ''[::-1] }} {{ 'hello'[4:1:-2] }} {{ 'hello'[0] }} {{ 'hello'[-1] }}
{{ empty_list[::-1] }} {{ empty_list[1:] }} {{ numbers[1:][0] }} {{ numbers[::-1][1:][0] }} {{ messages[1:]|length }}
{{ messages[::-1][0].role }} {{ (messages|length) - 1 }} {{ numbers[numbers|length - 1:] }}
{{ numbers[1:3] is sequence }} {{ numbers[1:3] is iterable }} {{ numbers[1:3] is string }}
{{ undefined_name[1:] }}
{{ none[1:] }}|{{ 5[:1] }}|
{{ mapping[:1] }}
{{ numbers[1 if yes else 2:] }} {{ numbers[:2 + 1] }}
{{ undefined_name.attribute }}
{{ undefined_name['key'] }}
{{ messages[0].missing }}|{{ messages[0]['missing'] }}|
{{ messages[0].missing.deeper }}
{{ messages[99].role }}
{{ undefined_name|length }} {{ undefined_name|trim }}| {{ undefined_name|list }} {{ undefined_name|join(',') }}| {{ undefined_name|upper }}|
{% for x in undefined_name %}x{% else %}none{% endfor %}
{% if undefined_name %}a{% elif nothing %}b{% elif empty_list %}c{% elif '' %}d{% elif 0 %}e{% elif 0.0 %}f{% elif empty_map %}g{% else %}h{% endif %}
{{ undefined_name is defined }} {{ undefined_name is undefined }} {{ undefined_name is none }} {{ nothing is none }} {{ nothing is defined }} {{ not undefined_name }}
{{ undefined_name == none }} {{ undefined_name == undefined_other }} {{ none == none }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' == 'a' }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1} }}
{{ 'x' in undefined_name }} {{ 'a' in 'abc' }} {{ 'a' in mapping }} {{ 'z' not in mapping }} {{ 3 in numbers }} {{ 'role' in messages[0] }}
{{ undefined_name() }}
{{ undefined_name.method() }}
{{ nothing.strip() }}
{{ messages[2].content.strip() }}
{{ text.unknown_method() }}
{{ 1|unknown_filter }}
{{ 1 is unknown_test }}
{{ mapping is mapping }} {{ words is mapping }} {{ 'a' is mapping }} {{ mapping is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ none is iterable }} {{ undefined_name is iterable }}
{{ 'a' is string }} {{ 1 is string }} {{ 'a' is sequence }} {{ mapping is sequence }} {{ words is sequence }} {{ 1 is sequence }}
{{ 1 is number }} {{ true is number }} {{ 1.5 is number }} {{ 'a' is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.5 is float }} {{ true is boolean }} {{ 1 is boolean }} {{ yes is true }} {{ no is false }} {{ 1 is true }}
{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 'a' is in ['a'] }} {{ 1 is not none and 2 is not none }} {{ 'a' is eq 'a' }} {{ 'a' is equalto('b') }} {{ raise_exception is callable }} {{ 1 is callable }}
{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcab'.rstrip('ab') }}|{{ '\x1f\u00a0a\u3000'.strip() }}|
{{ text.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ '  a  b  c '.split(none, 1) }} {{ '  a  b  c '.rsplit(none, 1) }} {{ 'a b'.split(sep=' ') }} {{ ''.split() }} {{ ''.split(',') }} {{ 'abc'.split('bc') }} {{ 'a b c'.split(maxsplit=1) }}
{{ 'a'.split('') }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ 'a\n\nb'.splitlines() }} {{ ''.splitlines() }} {{ 'a\u2028b\x0bc'.splitlines() }}
{{ text.startswith('  H') }} {{ text.endswith('x') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith('b', 0, 2) }}
{{ 'aXbXc'.replace('X', '-') }} {{ 'aXbXc'.replace('X', '-', 1) }} {{ 'abc'.replace('', '.') }} {{ 'aXbXc'|replace('X', '-') }} {{ 'aXbXc'|replace('X', '-', 1) }}
{{ text.upper() }} {{ text.lower() }} {{ text.title() }} {{ 'hELLO wORLD'.capitalize() }} {{ "they're bill's".title() }} {{ 'straße'.upper() }} {{ 'aB'.swapcase() }}
{{ text|upper }} {{ text|lower }} {{ text|title }} {{ 'hELLO'|capitalize }} {{ "they're bill's a-b (c) [d] x_y"|title }} {{ 1|upper }} {{ none|lower }} {{ true|string|lower }}
{{ 'hello'.find('l') }} {{ 'hello'.find('z') }} {{ 'hello'.rfind('l') }} {{ 'héllo'.find('l') }} {{ 'hello'.index('e') }} {{ 'hello'.count('l') }} {{ 'hello'.find('l', 3) }} {{ 'aaa'.count('') }} {{ 'hello'.find('l', -2) }} {{ 'hello'.count('l', 0, 3) }}
{{ 'hello'.index('z') }}
{{ ', '.join(words) }} {{ ''.join(['a', 'b']) }}
{{ ', '.join([1, 2]) }}
{{ words|join(', ') }} {{ [1, none, true, 1.5]|join('-') }} {{ messages|join(' ', attribute='role') }} {{ words|join }} {{ 'abc'|join('.') }}
{{ 'a'.isdigit() }} {{ '12'.isdigit() }} {{ ''.isdigit() }} {{ 'ab'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' '.isspace() }} {{ 'AB1'.isupper() }} {{ 'ab'.islower() }}
{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}|{{ 'ab'.center(5, '*') }}|{{ 'abc'.center(6, '*') }}|{{ '-7'.zfill(4) }}|
{{ 'a-b-c'.partition('-') | list }} {{ 'a-b-c'.rpartition('-') | list }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }}
{{ '{} {0}'.format('a') }}
{{ '{} and {}'.format('a', 1) }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x}={{{y}}}'.format(x=1, y=[2]) }}
{{ mapping.items() | list }} {{ mapping.keys() | list }} {{ mapping.values() | list }} {{ mapping.get('b') }} {{ mapping.get('q') }} {{ mapping.get('q', 'd') }} {{ mapping|items|list }} {{ mapping|length }}
{% for k, v in mapping.items() %}{{ k }}={{ v }};{% endfor %} {% for k, v in mapping|dictsort %}{{ k }} {% endfor %} {% for k in mapping %}{{ k }}{% endfor %}
{% for k, v in mapping|items %}{{ loop.index }}{{ k }}={{ v }}{{ ',' if not loop.last }}{% endfor %}
{{ numbers.index(2) }} {{ numbers.count(3) }}
{{ numbers.append(4) }}
{% set _ = numbers.append(4) %}
{{ mapping.update({'a': 1}) }}
{{ mapping.pop('a') }}
{{ numbers|batch(2)|list }} {{ numbers|batch(2, 'x')|list }} {{ numbers|slice(3)|list }} {{ numbers|slice(3, 0)|list }} {{ numbers|slice(7)|list }} {{ '%5d|%-4s|%03d'|format(1, 'a', 7) }}
{% set ns = namespace(a=1, b=[]) %}{% for x in numbers %}{% set ns.a = ns.a + x %}{% set ns.b = ns.b + [x] %}{% endfor %}{{ ns.a }} {{ ns.b }}
{% set x = 1 %}{% for i in numbers %}{% set x = i %}{% endfor %}{{ x }} {% if yes %}{% set x = 5 %}{% endif %}{{ x }}
{% set captured %}a{{ 1 }}b{% endset %}{{ captured|upper }} {{ captured is string }}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}
{% for i in numbers if i > 1 %}{{ i }}{{ loop.last }}{% else %}none{% endfor %} {{ range(3)|list }} {{ range(5, 0, -2)|list }} {{ range(1, 4)|list }} {{ range(0)|list }}
{% for a in [1, 2] %}{% for b in [3, 4] %}{{ loop.index }}{{ a }}{{ b }} {% endfor %}{% endfor %}
{% macro greet(name, greeting='Hi') %}{{ greeting }}, {{ name }}!{% endmacro %}{{ greet('Ann') }} {{ greet('Bob', greeting='Yo') }} {{ greet(greeting='Hey', name='C') }} {{ greet('x')|upper }}
{% macro outer() %}[{{ caller() }}]{% endmacro %}{% call outer() %}inner{% endcall %}
{% macro tree(n) %}{{ n }}{% if n > 0 %}{{ tree(n - 1) }}{% endif %}{% endmacro %}{{ tree(5) }}
{% macro m(x) %}{% if x is mapping %}{% for k, v in x.items() %}{{ k }}:{{ m(v) }},{% endfor %}{% elif x is iterable and x is not string %}[{% for v in x %}{{ m(v) }} {% endfor %}]{% else %}{{ x }}{% endif %}{% endmacro %}{{ m(mapping) }}
{%- for m in messages -%}{{ m.role }}{%- endfor -%}
{% generation %}a {{ 1 + 1 }}{% endgeneration %} {%- generation -%} b {%- endgeneration -%} c
{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}
{% set y = 1 %}{% generation %}{% set y = 2 %}{{ y }}{% endgeneration %}{{ y }}
{% raw %}{{ not + rendered }} {% if %}{% endraw %} after
{#- comment with {{ braces + }} and {% tags %} -#} text {# another #}
{{ raise_exception('no ' ~ 1 + 1 ~ ' go') }}
{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{{ 'yes' if yes else 'no' }} {{ 'yes' if no }}| {{ (1, 2)[0] }} {{ {'a': 1}.a }} {{ {'a': 1}['a'] }} {{ [1, [2, 3]][1][0] }} {{ mapping['c d'] }} {{ mapping.a.z[0] }}
{{ numbers|sort }} {{ words|sort }} {{ numbers|min }} {{ numbers|max }} {{ numbers|sum }} {{ numbers|first }} {{ numbers|last }} {{ numbers|reverse|list }} {{ [1, 1, 2]|unique|list }} {{ 'abc'|reverse }} {{ 'abc'|list }} {{ 'abc'|first }}
{{ messages|map(attribute='role')|list }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|rejectattr('role', 'eq', 'user')|map(attribute='role')|join(',') }} {{ words|map('upper')|list }} {{ words|select|list }} {{ numbers|select('odd')|list }} {{ numbers|reject('gt', 2)|list }} {{ messages|selectattr('tool_calls', 'defined')|list|length }}
{{ messages|selectattr('role', 'equalto', 'system')|map(attribute='content')|first }}| {{ (messages|selectattr('role', 'in', ['tool'])|list)[0].name }}
{{ undefined_name|default('d') }} {{ ''|default('d') }}| {{ ''|default('d', true) }} {{ none|default('d') }} {{ none|default('d', boolean=true) }} {{ undefined_name|d(1) }}
{{ '3'|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ 3.9|int }} {{ '2.5'|float }} {{ 2|float }} {{ 2.567|round(1) }} {{ 2.5|round }} {{ 3.5|round }} {{ 2|round }} {{ 2.675|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ 2.19|round(1, method='floor') }} {{ 1234|round(-2) }} {{ -3|abs }} {{ '3.7'|int }}
{{ lines|indent }}|{{ lines|indent(2, true) }}|{{ lines|indent(width=1, blank=true) }}|{{ 'a\nb'|indent('> ') }}
{{ '<b>&"\''|e }} {{ '<b>'|safe }} {{ '<b>'|escape }} {{ text|trim }}| {{ 'xax'|trim('x') }} {{ text|length }} {{ text|wordcount }} {{ 5|string ~ 'a' }} {{ '%s, %s'|format('a', 1) }}
{{ messages|length > 2 and messages[0]['role'] == 'system' }} {{ 1 < 2 < 3 }} {{ not (yes and no) or no }} {{ 'a' < 'b' }} {{ 2 >= 2 }} {{ 1 != 2 }}
{{ -1 }} {{ -numbers[0] }} {{ +1 }} {{ 1 + -1 }} {{ 2 - -2 }} {{ 1_000 }} {{ 1.5e3 }} {{ 10 // 3 * 3 }} {{ 2 * 3 % 4 }} {{ -7 // 2 }}
{{ "a\tb\nc" }} {{ 'it\'s' }} {{ "\u00e9\x41" }} {{ 'a\\b' }}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set c = (1, 2) %}{{ c[1] }} {% with q = 5 %}{{ q + 1 }}{% endwith %}
{% filter upper %}abc {{ 1 }}{% endfilter %} {% set up | upper %}def{% endset %}{{ up }}
{{ dict(a=1, b=2) }} {{ dict(a=1)['a'] }} {{ namespace(x=1).x }}
{{ messages[0].content|trim + '!' }} {{ messages[0].content.strip() + ' ' + messages[1].role }} {{ 'a' ~ 'b' == 'ab' }} {{ ('a' ~ 'b')|upper ~ 'c' }}
{{ messages[2].tool_calls[0].function.arguments|tojson }} {{ messages[2].tool_calls[0].function.arguments }} {{ messages[2].tool_calls[0].function.arguments.a[2] }}
{{ messages[4].content[0]['type'] }} {{ messages[4].content|map(attribute='text')|join }} {{ messages[4].content is string }} {{ messages[4].content is iterable }}
{% for part in messages[4].content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %} {{ messages[4].content|selectattr('type', 'equalto', 'text')|map(attribute='text')|list }}
{{ messages[3].zeta }} {{ messages[3].extra }} {{ messages[3]['name'] }} {{ messages[3] }}
{{ (messages[0].role ~ ':') * 2 }} {{ 'ab' * 0 }}| {{ 2 * 'ab' }} {{ [1, 2] * 2 }}
{% include 'other' %}
{{ {'a': 1, 'b': [1, 2, {'c': none}]}|tojson }} {{ {'a': 1, **mapping} }}
{{ x.y.z if x is defined else 'no x' }} {{ (undefined_name or {}).get('a', 3) }} {{ (undefined_name | default({})).a }}|
{{ 'a' if messages[0].content is string and messages[0].content | length > 3 else 'b' }} {{ messages | last }}
{{ "tab\there" | tojson }} {{ "line\nbreak" | string | tojson }} {{ [1, 2] | string }} {{ mapping | string | length }}
""".strip("\n").split("\n")

# Snippets of several lines: white space around blocks.
SNIPPETS += [
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%- if yes -%}\n  b\n  {%- endif -%}\nc\n\n",
    "{% for i in [1, 2] %}\n  {{ i }}\n{% endfor %}\n",
    "  {# comment #}\n  x {# c #} y\n{% set z = 1 %}\n\n z",
    "  {%+ if yes %}keep{% endif %}\n{{ 1 }}\n\n",
    "{{ 'a' +\n 'b' ~\n 'c' }}\n{% set long = [\n 1,\n 2\n][\n 1:] %}{{ long }}",
    "\n\n{{ 1 }}\n\n",
    "{% if yes -%}   \n  a{% else %}b{% endif %}\n",
    "{% raw -%}  {{ x }}  {%- endraw %}|\n",
    "{% generation %}\n  a\n{% endgeneration %}\nb\n",
    "\r\n{% if yes %}\r\nwindows\r\n{% endif %}\r\n",
]


# Whole templates: the ways in which published ones walk over a conversation.
WALKS = {
    "alternating": """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('user and assistant must take turns, message ' ~ loop.index0 ~ ' does not') }}{% endif %}
{% if message['role'] == 'user' %}{{ '<U>' + message['content'] | trim }}{% else %}{{ '<A>' + message['content'].strip() + eos_token }}{% endif %}
{% endfor %}{% if add_generation_prompt %}{{ '<A>' }}{% endif %}""",
    "system first": """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system_message = 'Be kind.' %}
    {%- set rest = messages %}
{%- endif %}
{{- bos_token + '[' + system_message + ']\n' }}
{%- for message in rest %}
    {{- message.role.upper() ~ ': ' ~ (message.content if message.content is string else message.content | map(attribute='text') | join(' + ')) }}
    {%- if not loop.last %}{{- '\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\nASSISTANT:' }}{%- endif %}
""",
    "reasoning": """{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
    {%- set words = message.content or '' %}
    {%- if '</think>' in words and loop.index0 < ns.last %}{% set words = words.split('</think>')[-1].lstrip('\n') %}{% endif %}
    {{- '<' + message.role + '>' + words + '\n' }}
{%- endfor %}
{{- '<assistant>' + ('<think>\n\n</think>\n' if enable_thinking is defined and not enable_thinking else '') if add_generation_prompt }}""",
    "tools": """{%- macro show(tool) %}{{ tool.function.name }}({% for name, kind in tool.function.parameters.properties|items %}{{ name }}: {{ kind.type }}{{ ', ' if not loop.last }}{% endfor %}){% endmacro -%}
{%- if tools %}{{ 'Tools:\n' }}{% for tool in tools %}{{ '* ' ~ show(tool) ~ '\n' ~ tool | tojson(indent=2) ~ '\n' }}{% endfor %}{% endif %}
{%- for message in messages %}
{{ message.role }}|{{ message.content if message.content is not none else '-' }}
{%- for call in message.tool_calls or [] %}|{{ call.function.name }}{{ call.function.arguments }}{{ call.function.arguments | tojson }}{% endfor %}
{%- if message.role == 'tool' and (loop.last or messages[loop.index0 + 1].role != 'tool') %} END{% endif %}
{%- endfor %}
{% if add_generation_prompt %}assistant|{% endif %}""",
}

CALL = [{"id": "c1", "type": "function", "function": {"name": "move", "arguments": {"to": "Küche \"2\"", "fast": True}}}]
CONVERSATIONS = {
    "one": [{"role": "user", "content": "Hello, robot!"}],
    "turns": [
        {"role": "user", "content": "Where are you?"}, {"role": "assistant", "content": "In the hall."},
        {"role": "user", "content": "  Come here. \n"}, {"role": "assistant", "content": " Coming.\n"},
        {"role": "user", "content": "Übergib mir 'den' <b>Schlüssel</b> 🔑"},
    ],
    "told": [
        {"role": "system", "content": "You drive a robot.\n"}, {"role": "user", "content": "Go!"},
        {"role": "assistant", "content": "<think>\nWhere to?\n</think>\n\nWhere?"}, {"role": "user", "content": "North"},
    ],
    "two in a row": [
        {"role": "user", "content": "Stop."}, {"role": "user", "content": [{"type": "text", "text": "No,"}, {"type": "text", "text": "go on."}]},
    ],
    "calls": [
        {"role": "system", "content": "Call."}, {"role": "user", "content": "To the kitchen"},
        {"role": "assistant", "content": None, "tool_calls": CALL}, {"role": "tool", "content": "ok", "name": "move"},
        {"role": "tool", "content": "there", "name": "move"}, {"role": "assistant", "content": "I am there."},
    ],
}
TOOLS = [{"type": "function", "function": {"name": "move", "description": "Drives <somewhere>.", "parameters": {
    "type": "object", "properties": {"to": {"type": "string"}, "fast": {"type": "boolean"}}, "required": ["to"]}}}]


def builtins() -> dict[str, str]:
    """The sources of the built-in templates, put together as builtin.rs does it."""
    read = lambda name: (BUILTIN / "builtin" / f"{name}.jinja").read_text()
    parts = {"plain": ["text", ""], "tools": ["text", "tools", ""], "turns": ["text", "", "turns"]}
    entries = re.findall(r'"([\w.-]+)": (plain|tools|turns) "([\w.-]+)"', (BUILTIN / "builtin.rs").read_text())
    return {name: "".join(read(part or file) for part in parts[kind]) for name, kind, file in entries}


def conversations() -> list[dict]:
    cases = []
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    for name, source in {**WALKS, **builtins()}.items():
        template = _compile_jinja_template(source)
        for conversation, messages in CONVERSATIONS.items():
            ask, tools = conversation != "calls", TOOLS if conversation == "calls" else None
            case = {"template": name, "conversation": conversation, "ask": ask, "tools": bool(tools)}
            try:
                case["rendered"] = template.render(
                    messages=json.loads(json.dumps(messages)), tools=tools, documents=None, add_generation_prompt=ask, **tokens
                )
            except (jinja2.exceptions.TemplateError, TypeError) as error:
                case["error"] = f"{type(error).__name__}: {error}"
            cases.append(case)
    return cases


def main() -> None:
    cases = []
    for template in SNIPPETS:
        case = {"template": template}
        try:
            case["rendered"] = _compile_jinja_template(template).render(**json.loads(json.dumps(VARS)))
        except jinja2.exceptions.TemplateError as error:
            case["error"] = f"{type(error).__name__}: {error}"
        except (TypeError, ValueError, KeyError) as error:
            case["error"] = f"{type(error).__name__}: {error}"
        cases.append(case)
    versions = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    write = lambda file, data: file.write_text(json.dumps({"versions": versions, **data}, ensure_ascii=False, indent=1) + "\n")
    write(OUT, {"vars": VARS, "cases": cases})
    errors = sum("error" in case for case in cases)
    print(f"{len(cases)} snippets, {errors} of them errors -> {OUT}")
    whole = conversations()
    write(OUT_CONVERSATIONS, {"templates": WALKS, "conversations": CONVERSATIONS, "tools": TOOLS, "cases": whole})
    print(f"{len(whole)} conversations -> {OUT_CONVERSATIONS}")


if __name__ == "__main__":
    main()
