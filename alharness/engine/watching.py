"""The making of a strategy, watched: what a run does while its names become objects. Imports no torch yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alharness.strategy import Strategy


def watched(name: str, make: Callable[[], Strategy]) -> Strategy:
    """A strategy, made anew: seeds and settings that belong to everybody stay what they were.

    Args:
        name: what its user typed.
        make: calls its constructor.

    Raises:
        PluginError: its constructor changes one.
    """
    # Here, because it looks at torch's state, too: by now the names and settings of a run are sound.
    from alharness.border import call
    from alharness.border.author import Author
    from alharness.strategy import Strategy

    # What was made is the plug-in; until then its class is all there is to name.
    author, expected = Author(Strategy, name), "an instance from its constructor"
    return call.watched(author, "__init__", expected, make)
