"""``--explain``: the formats of sweep files and claims files, told by the models that read them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

WIDTH = 80


def explain_option(text: Callable[[], str]) -> Callable[[Any], Any]:
    """``--explain``: show a format and stop, whatever else was typed."""

    def show(context: click.Context, option: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            click.echo(text())
            context.exit()

    return click.option(
        "--explain",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Describe the file's format, and stop.",
    )


def sweep_format() -> str:
    """What a sweep file may say."""
    from alharness.executors.sweep_files import EXAMPLE, Sweep
    from alharness.spec import SETTINGS, TOP_LEVEL, RunSpec

    names = RunSpec.model_fields
    parts = [
        "A sweep file is TOML. It expands to runs; what is finished is not run again.",
        *_keys("Keys of the file", Sweep),
        "Settings, in [base], in [[runs]] and in [profiles.NAME] (as in a file for",
        "'alharness run --config'):",
        _line("task", "name", "data set, or {name = ..., PARAMETER = ...}"),
        _line("strategy", "name", "the same for a strategy"),
        _line("initial", "name", names["initial"].description or ""),
        *(
            _line(name, _type(names[name].annotation), names[name].description or "")
            for name in TOP_LEVEL
        ),
        *(
            _line(f"{name}.NAME", "", (inspect.getdoc(names[name].annotation) or "").rstrip("."))
            for name in SETTINGS
        ),
        "  'alharness show settings' and 'alharness show NAME' list their names.",
        "",
        "In a block, a list is one run for each of its values, at any depth. A block that",
        "names a profile belongs to that profile only.",
        *_example(EXAMPLE),
    ]
    return "\n".join(parts)


def claims_format() -> str:
    """What a claims file may say."""
    from alharness.scaling.claims import EXAMPLE, MEASUREMENTS, NamedStudy, ScalingClaim

    parts = [
        "A claims file is TOML: studies that are measured, and claims that they decide.",
        *_keys("Keys of a [[claim]]", ScalingClaim),
        "Kinds of claims:",
        *(
            _line(kind, "", (inspect.getdoc(measure) or "").split("\n")[0].rstrip("."))
            for kind, measure in MEASUREMENTS.items()
        ),
        "",
        *_keys("Keys of a [[study]] (measured by 'alharness claims check --measure')", NamedStudy),
        "A claim holds when the whole 95 % interval of what was measured lies in 'accept',",
        "fails when it lies outside, and is undecided in between.",
        *_example(EXAMPLE),
    ]
    return "\n".join(parts)


def _example(text: str) -> Iterator[str]:
    yield from ("", "An example:", "", textwrap.indent(text, "  ").rstrip())


def _keys(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"{title}:"
    for name, field in model.model_fields.items():
        if field.is_required():
            told = "needed"
        else:
            default = field.get_default(call_default_factory=True, validated_data={})
            told = f"default {_value(default)}" if default not in ("", None, (), [], {}) else ""
        described = "; ".join(part for part in (field.description, told) if part)
        yield _line(field.alias or name, _type(field.annotation), described)
    yield ""


def _line(name: str, kind: str, described: str) -> str:
    """A key in columns, its description wrapped under itself."""
    start = f"  {name:<16}  {kind:<15}  "
    if not described:
        return start.rstrip()
    return textwrap.fill(described, WIDTH, initial_indent=start, subsequent_indent=" " * 37)


def _value(default: object) -> str:
    """A default as TOML writes it."""
    if isinstance(default, str):
        return f'"{default}"'
    if isinstance(default, tuple | list):
        return "[" + ", ".join(map(_value, default)) + "]"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _type(annotation: Any) -> str:
    """A field's type in a word: text, number, true or false, a list of them, a table."""
    literal = re.findall(r"'([^']*)'", str(annotation)) if "Literal" in str(annotation) else []
    if literal:
        return "|".join(literal)
    plain = re.sub(r"typing\.|<class '|'>", "", str(annotation))
    # The only fixed pair there is: what a claim accepts.
    if plain.startswith(("tuple[float, float]",)):
        return "two numbers"
    if plain.startswith(("tuple", "list")):
        inner = "tables" if "dict" in plain else "names" if "str" in plain else "numbers"
        return f"list of {inner}" if inner != "tables" else "[[...]]"
    if plain.startswith("dict"):
        return "table"
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true|false"}
    return words.get(plain.split(" ")[0], "text")
