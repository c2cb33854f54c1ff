"""What a setting is told apart by, in the keys of runs and artefacts and in protocol fingerprints."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel


def identity(model: BaseModel) -> dict[str, Any]:
    """What tells a setting apart from another, as plain values: what keys and fingerprints hash.

    A field that is marked ``json_schema_extra={"added": VERSION}`` is left out while it has its default,
    so that a new setting does not rename every run that was made before there was one. Where the default
    is another than what was computed before (a new recipe), ``before`` says what that was, and it is the
    value that is left out: old runs keep their keys, new ones get others.
    """
    values = model.model_dump(mode="json")
    for name, added, unnamed in _fields(type(model)):
        value = getattr(model, name)
        # Old runs had no such field; hashed with its default they would all get new names.
        if added and value == unnamed:
            del values[name]
        elif isinstance(value, BaseModel):
            values[name] = identity(value)
    return values


@cache
def _fields(model: type[BaseModel]) -> list[tuple[str, bool, Any]]:
    """Name of each field, whether it was added, and with which value it is then left out."""
    found = []
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        added = isinstance(extra, dict) and "added" in extra
        unnamed = extra.get("before", field.default) if isinstance(extra, dict) else None
        found.append((name, added, unnamed))
    return found


def before(model: type[BaseModel]) -> dict[str, Any]:
    """What settings of a recipe mean by not being recorded: the arithmetic from before there was a choice."""
    found = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "before" in extra:
            found[name] = extra["before"]
    return found
