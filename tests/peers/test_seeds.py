"""A run's seed moves the published strategies that are random, no others, and nothing else moves any.

What follows the seed stands below by name: a peer whose next version begins or ceases to draw fails here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from alharness import registry
from alharness.strategy import CycleView
from alharness_strategies.peers import PeerStrategy

View = Callable[..., CycleView]

#: Peers that draw; those that ask a committee follow the seed besides, by its samples of dropout.
RANDOM = {
    "skactiveml": {
        "RandomSampling", "TypiClust", "ProbCover", "Badge", "Falcun", "DropQuery", "Clue",
        "MonteCarloEER", "Quire", "CostEmbeddingAL",
    },
    "modal": set(),
    "baal": set(),
    "small-text": {"RandomSampling", "LightweightCoreset", "EmbeddingKMeans"},
}  # fmt: skip


def known(family: str) -> type[PeerStrategy]:
    cls = registry.strategy_class(family)
    assert issubclass(cls, PeerStrategy)
    return cls


def asked() -> Iterator[object]:
    """Every peer that can be asked; one that trains many models for a query takes half a minute."""
    for family in RANDOM:
        for name, peer in known(family).peers.items():
            if not peer.cannot:
                slow = "subset:" in peer.fault
                yield pytest.param(family, name, marks=pytest.mark.slow if slow else ())


def answer(view: CycleView, family: str, name: str, globally: int) -> list[int]:
    """Its query in order, while the global generators stand at a seed of ours."""
    part = "subset:15:" if "subset:" in known(family).peers[name].fault else ""
    torch.manual_seed(globally)
    np.random.seed(globally)  # noqa: NPY002  # the state that foreign code draws from
    random.seed(globally)
    strategy = registry.resolve_strategy(f"{part}{family}:{name}")
    found: list[int] = strategy.select(view, 8).touched.tolist()
    return found


@pytest.mark.parametrize(("family", "name"), asked())
def test_another_seed_moves_what_is_random_and_only_that(
    family: str, name: str, view: View
) -> None:
    cls = known(family)
    pytest.importorskip(cls.module.split(".")[0], reason=cls.install)
    one = answer(view(40), family, name, 0)
    assert answer(view(40), family, name, 1) == one, "it follows the global generators"
    others = [answer(view(40, seed), family, name, 0) for seed in (1, 2)]
    drawn = name in RANDOM[family] or cls.peers[name].needs == "committee"
    # A part of the pool is drawn whoever looks at it.
    drawn = drawn or "subset:" in cls.peers[name].fault
    assert any(other != one for other in others) == drawn


def test_what_is_said_to_be_random_is_there() -> None:
    for family, names in RANDOM.items():
        assert names <= set(known(family).peers)
