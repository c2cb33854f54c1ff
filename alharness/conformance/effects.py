"""What a parameter or a seed does: whether any other value of it shows in what a strategy does.

Used by ``alharness check`` for anybody's plug-in and by the tests of ours.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import torch
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alharness.conformance.scene import QUERY_SIZE, Bench, Scene
from alharness.engine.seat import Seat
from alharness.errors import UserError
from alharness.strategy import CycleView

#: Key of ``json_schema_extra`` with which a parameter says where its effect is seen, if not here.
SEEN_ELSEWHERE = "seen_elsewhere"


def seen_elsewhere(field: FieldInfo) -> str:
    """Why no query of a small made-up problem can show the parameter; empty where nothing is said."""
    extra = field.json_schema_extra
    return str(extra.get(SEEN_ELSEWHERE, "")) if isinstance(extra, dict) else ""


def deeds(seat: Seat, view: CycleView, size: int) -> tuple[Any, ...]:
    """All that a selection shows: whom or what it asks about, its figures, its pictures, its work."""
    query = seat.select(view, size)
    asked = {
        field.name: value.cpu().numpy().tobytes() if isinstance(value, torch.Tensor) else value
        for field in fields(query)
        if field.name not in ("arrays", "diagnostics")
        for value in [getattr(query, field.name)]
    }
    arrays = {key: np.asarray(array).tobytes() for key, array in query.arrays.items()}
    return asked, dict(query.diagnostics), arrays, dict(view.work.counts)


class Tried:
    """What a strategy does under other values of its parameters, each asked once, by one classifier."""

    def __init__(self, bench: Bench, scene: Scene) -> None:
        self.bench, self.learner = bench, scene.learner
        #: The values that a strategy of the bench has.
        self.usual: dict[str, Any] = dict(scene.strategy.parameters)
        self._model = bench.strategy_class.Parameters
        self._found: dict[str, tuple[Any, ...] | None] = {}

    def values(self, name: str) -> list[Any]:
        """Other values of a parameter, alone."""
        return list(other_values(self._model, name, self.usual[name]))

    def shows(self, name: str) -> bool:
        """Whether another value changes something: by itself, or beside another value of another parameter.

        A step size shows where steps are taken, and the best of many steps where they overshoot.
        """
        beside = (
            {},
            *({other: v} for other in self.usual if other != name for v in self.values(other)),
        )
        return any(
            before is not None and after is not None and before != after
            for given in beside
            for before in [self._deeds(given)]
            for value in self.values(name)[: None if not given else 2]
            for after in [self._deeds({**given, name: value})]
        )

    def _deeds(self, given: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """None where the parameters exclude each other."""
        key = repr(sorted(given.items()))
        if key not in self._found:
            other = replace(self.bench, parameters={**self.bench.parameters, **given})
            try:
                scene = other.scene(learner=self.learner)
                self._found[key] = deeds(scene, scene.view(), QUERY_SIZE)
            except UserError:
                self._found[key] = None
        return self._found[key]


def other_values(model: type[BaseModel], name: str, value: Any) -> Iterator[Any]:
    """Further values of a parameter that its declaration allows, those that change most first.

    None for a text or a type of the author's own: nobody can guess a second one.
    """
    annotation = model.model_fields[name].annotation
    kinds = [annotation]
    if get_origin(annotation) in (types.UnionType, Union):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    kind = kinds[0]
    if get_origin(kind) is Literal:
        yield from (other for other in get_args(kind) if other != value)
    elif kind is bool:
        yield not value
    elif kind in (int, float):
        yield from _numbers(model.model_fields[name], value, whole=kind is int)


def _numbers(field: FieldInfo, value: Any, *, whole: bool) -> Iterator[float]:
    """The ends of what is allowed, and numbers on both sides of the usual one."""
    limits: Mapping[str, Any] = {
        end: getattr(limit, end)
        for limit in field.metadata
        for end in ("ge", "gt", "le", "lt")
        if hasattr(limit, end)
    }
    usual = value if value is not None else 1
    if whole:
        tried = [limits.get("ge", usual // 2), 2 * usual + 1, usual + 1, usual - 1]
    else:
        tried = [0.5 * usual, 3 * usual, limits.get("ge", 0.1 * usual), 0.3, 1.0, 3.0]
    for number in dict.fromkeys(tried):
        above = number >= limits.get("ge", -np.inf) and number > limits.get("gt", -np.inf)
        below = number <= limits.get("le", np.inf) and number < limits.get("lt", np.inf)
        if above and below and number != value:
            yield number
