"""Where several libraries implement one method, the same view gives the same items.

Theirs are asked through the plug-ins of this distribution; two peers at least per method where two have it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from alharness import registry
from alharness.strategy import CycleView

pytest.importorskip("skactiveml", reason="pip install 'alharness[peers]'")

View = Callable[..., CycleView]

#: ours -> published ones that answer alike, with the learner's features or predictions.
SAME = [
    ("margin", "skactiveml:UncertaintySampling", "margin_sampling"),
    ("margin", "modal:margin_sampling", ""),
    ("margin", "small-text:BreakingTies", ""),
    ("max-entropy", "modal:entropy_sampling", ""),
    ("max-entropy", "small-text:PredictionEntropy", ""),
    ("least-confidence", "skactiveml:UncertaintySampling", ""),
    ("least-confidence", "modal:uncertainty_sampling", ""),
    ("least-confidence", "small-text:LeastConfidence", ""),
    ("core-set", "skactiveml:CoreSet", ""),
    ("bald", "skactiveml:GreedyBALD", ""),
    ("bald", "baal:BALD", ""),
    ("qbc", "skactiveml:QueryByCommittee", "vote_entropy"),
]


def ask(name: str, view: CycleView, size: int, method: str = "") -> list[int]:
    """Pool indices in the order of choice; a peer that is not installed is skipped."""
    plugin = registry.find_strategy(name)
    module = getattr(plugin.cls, "module", None)
    if module is not None:
        pytest.importorskip(module.split(".")[0], reason=str(getattr(plugin.cls, "install", "")))
    parameters = {"method": method} if method else {}
    query = plugin.make(**parameters).select(view, size)
    return [int(index) for index in query.touched]


@pytest.mark.parametrize(("ours", "theirs", "method"), SAME)
@pytest.mark.parametrize("n_labelled", [20, 40, 60])
def test_the_same_items(ours: str, theirs: str, method: str, n_labelled: int, view: View) -> None:
    mine = ask(ours, view(n_labelled), 15)
    other = ask(theirs, view(n_labelled), 15, method)
    assert sorted(mine) == sorted(other)
