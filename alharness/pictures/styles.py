"""What a strategy looks like: one colour, dashes and marker, in every figure of every report."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from alharness.files import read_toml
from alharness.pictures.charts import COLOURS, MARKERS, STYLES

#: The baseline is always the same: grey, so that every other colour stands for a method.
BASELINE_COLOUR = "#666666"

#: Places before a pair of colour and dashes repeats.
N_PLACES = len(COLOURS) * len(STYLES)


def line_styles(names: Iterable[str], *, baseline: str) -> dict[str, dict[str, Any]]:
    """Colour, dashes and marker of strategies or indices, whoever stands beside them.

    Names in ``colours.toml`` have its places. Any other one has the place that it hashes to; where that
    is taken, the next free one.

    Args:
        names: what is drawn.
        baseline: which of them is drawn in grey.
    """
    reserved = _reserved()
    free = range(len(reserved), N_PLACES)
    places: dict[str, int] = {}
    # In order of names, so that who gives way to whom does not depend on the order of the runs.
    for name in sorted(set(names) - {baseline}):
        if name in reserved:
            places[name] = reserved[name]
            continue
        start = int.from_bytes(sha256(name.encode()).digest()[:4], "big") % len(free)
        ahead = [*free[start:], *free[:start]]
        places[name] = next((place for place in ahead if place not in places.values()), ahead[0])
    grey = {"color": BASELINE_COLOUR, "linestyle": "-", "marker": "None"}
    return {baseline: grey} | {
        name: {
            "color": COLOURS[place % len(COLOURS)],
            # Another style for every strategy, and another marker where colours repeat.
            "linestyle": STYLES[place % len(STYLES)],
            "marker": MARKERS[place % len(MARKERS)],
        }
        for name, place in places.items()
    }


@cache
def _reserved() -> dict[str, int]:
    names = read_toml(Path(__file__).with_name("colours.toml"))["strategies"]
    return {name: place for place, name in enumerate(names)}
