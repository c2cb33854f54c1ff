"""Every installed strategy on the pretended device: it runs, stops, goes on, and asks as on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretended_cuda import pretended_cuda
from tiny import assert_similar, course, run, spec

from alharness import registry
from alharness_strategies.adba import BoundaryLearner

#: Their images are coloured, digits are not: the conformance's device check has a problem for them.
COLOURED = ("asal-rgb", "asal-rgb-random-latent", "asal-rgb-rerank")
#: Needs a file of weights, and is another one's sibling: tests/reference/test_asal_vgg.py.
WITH_WEIGHTS = ("asal-vgg",)
STRATEGIES = [
    f"{name}:{cls.example}" if cls.takes else name
    for name in registry.names(registry.STRATEGIES)
    # Published strategies compute in NumPy, whatever the device: tests/peers asks them.
    if not hasattr(cls := registry.strategy_class(name), "module")
    and name not in COLOURED + WITH_WEIGHTS
]


#: Strategies that see the classifier's network: by its features, its gradients, its loss.
WITH_NETWORK = ("max-entropy", "badge", "core-set", "typiclust", "learning-loss", "asal-cls")


def cases() -> list[object]:
    """Every strategy with both classifiers; what shows nothing new of a device is marked slow."""
    found = []
    for name in STRATEGIES:
        for learner in ("linear", "cnn"):
            variant = name.endswith(("-rerank", "-random-latent"))
            is_slow = variant or (learner == "cnn" and name not in WITH_NETWORK)
            marks = [pytest.mark.slow] if is_slow else []
            found.append(pytest.param(name, learner, marks=marks, id=f"{name}-{learner}"))
    return found


@pytest.mark.parametrize(("name", "learner"), cases())
def test_stopped_and_continued_it_asks_as_on_the_cpu(
    name: str, learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundaryLearner, "STEPS", 10)
    on_cpu = run(spec(name, learner, "cpu"), tmp_path / "cpu")
    with pretended_cuda():
        there = spec(name, learner, "cuda")
        run(there, tmp_path / "cuda", max_cycles=1)
        on_device = run(there, tmp_path / "cuda")
    assert on_device.is_finished()
    assert_similar(on_cpu, on_device)


def test_an_uninterrupted_run_is_the_same_to_the_bit(tmp_path: Path) -> None:
    with pretended_cuda():
        wanted = spec("asal-cls", "cnn", "cuda")
        whole = run(wanted, tmp_path / "whole")
        run(wanted, tmp_path / "parts", max_cycles=1)
        parts = run(wanted, tmp_path / "parts")
    assert course(whole) == course(parts)


@pytest.mark.parametrize("residency", ["device", "host"])
def test_where_the_pool_lies_changes_nothing(residency: str, tmp_path: Path) -> None:
    settings = {"pool": {"residency": residency}}
    with pretended_cuda():
        usual = run(spec("max-entropy", "cnn", "cuda"), tmp_path / "usual")
        other = run(spec("max-entropy", "cnn", "cuda", **settings), tmp_path / "other")
    assert other.facts().task.residency == residency
    assert course(usual) == course(other)
