"""Patterns, templates and tokenizers, which are programs of a kind."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.corpus.cases import (
    REDOS,
    adapter,
    case,
    change_json,
    sparse,
    template,
)


@case("checkpoint", "field target_modules.*does not end in time")
def pattern_without_end(folder: Path) -> None:
    adapter(folder, target_modules=REDOS)


@case("checkpoint", "field rank_pattern.*does not end in time")
def pattern_of_a_rank_without_end(folder: Path) -> None:
    adapter(folder, rank_pattern={REDOS: 4})


_RECURSION = "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n > 0 else 'x' }}{% endmacro %}{{ f(64) }}"
_DOUBLING = "{% set n = namespace(x='a') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
_TEMPLATES: dict[str, tuple[str, str]] = {
    "class": ("{{ ''.__class__.__mro__ }}", "reaches for Python's"),
    "globals": ("{{ cycler.__init__.__globals__.os.system('touch EXECUTED') }}", "reaches for Python's"),
    "attribute_filter": ("{{ ()|attr('__class__')|attr('__base__') }}", "reaches for Python's"),
    "item": ("{{ messages['__class__'] }}", "reaches for Python's"),
    "spliced": ("{{ ((''|attr('_' ~ '_class_' ~ '_'))|attr('mr' ~ 'o'))() }}", "reaches for what"),
    "format": ("{{ '{0.__class__.__mro__}'.format(messages).foo() }}", "reaches for what"),
    "range": ("{% for i in range(10**9) %}x{% endfor %}", "takes too much"),
    "range_of_a_number": ("{% for i in range(1000000000) %}x{% endfor %}", "counts to"),
    "nested_ranges": (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "does not end in time",
    ),
    "product": ("{{ 'a' * 10**10 }}", "takes too much"),
    "power": ("{{ 9**(9**9) }}", "does not end in time|takes too much"),
    "recursion": (_RECURSION, "does not end in time"),
    "doubling": (_DOUBLING, "takes too much"),
    "include": ("{% include '/etc/passwd' %}", "reaches for another file"),
    "import": ("{% import '/etc/passwd' as x %}", "reaches for another file"),
    "extends": ("{% extends '/etc/passwd' %}", "reaches for another file"),
    "syntax": ("{% if %}", "is no chat template"),
    "nested": ("{% if 1 %}" * 3000, "is no chat template|nested"),
    "list_of_lists": ("{{ ([0] * 999999) * 999999 }}", "takes too much|does not end"),
    "padding": ("{{ 'a'.ljust(9**11) }}", "takes too much"),
}
for _name, (_text, _words) in _TEMPLATES.items():
    case("base", f"chat_template.jinja {_words}", f"template_{_name}")(lambda base, text=_text: template(base, text))


@case("base", r"tokenizer_config.json, field chat_template.* reaches for Python's")
def template_in_the_configuration(base: Path) -> None:
    change_json(base / "tokenizer_config.json", chat_template="{{ ''.__class__ }}")


@case("base", r"field chat_template\[1\] reaches for Python's")
def template_among_named_ones(base: Path) -> None:
    named = [{"name": "default", "template": "x"}, {"name": "tool_use", "template": "{{ ''.__class__ }}"}]
    change_json(base / "tokenizer_config.json", chat_template=named)


@case("base", "field chat_template: not a text")
def template_is_no_text(base: Path) -> None:
    change_json(base / "tokenizer_config.json", chat_template=[{"name": "default", "template": 7}])


@case("base", "additional.jinja reaches for Python's")
def template_in_a_folder(base: Path) -> None:
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "additional.jinja").write_text("{{ ''.__class__ }}")


@case("base", "chat_template.jinja.*bytes, more than")
def template_of_a_gigabyte(base: Path) -> None:
    sparse(base / "chat_template.jinja", 1 << 30)


@case("checkpoint", "chat_template.jinja reaches for Python's")
def template_of_a_checkpoint(folder: Path) -> None:
    adapter(folder)
    template(folder, "{{ ''.__class__ }}")


@case("base", "tokenizer.json (fails|takes|does not|is no)")
def tokenizer_that_pads_for_ever(base: Path) -> None:
    padding = {
        "strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2,
        "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    change_json(base / "tokenizer.json", padding=padding)


@case("base", "tokenizer.json (does not end in time|is no tokenizer|fails)")
def tokenizer_with_a_pattern_without_end(base: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a+)+(a+)+(a+)+$"}, "behavior": "Isolated", "invert": False}
    change_json(base / "tokenizer.json", pre_tokenizer=split)


@case("base", "tokenizer.json (fails|does not end in time|is no)")
def tokenizer_that_grows(base: Path) -> None:
    grow = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 4
    change_json(base / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": grow})


@case("base", "tokenizer.json is no tokenizer")
def tokenizer_that_is_none(base: Path) -> None:
    (base / "tokenizer.json").write_text('{"model": 1}')


@case("base", "tokenizer.json.*bytes, more than")
def tokenizer_of_a_gigabyte(base: Path) -> None:
    sparse(base / "tokenizer.json", 1 << 30)
