"""Every installed strategy on the pretended device: it runs, stops, goes on, and asks as on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretended_cuda import pretended_cuda
from tiny import LEARNERS, assert_similar, course, run, spec

from alharness import registry
from alharness.learners.capture import CapturedStep
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


#: Need a classifier that is a network, or an ensemble.
WITH_A_NETWORK = ("badge", "bald", "batch-bald", "learning-loss", "qbc")
#: Strategies that see the classifier's network, by its features, its gradients or its loss; those of a linear
#: model are the items themselves.
BY_NETWORK = ("badge", "core-set", "typiclust", "learning-loss", "asal-cls")

#: Share all that touches a device with another one, and are asked there by the conformance's device check
#: (test_rest_on_device.py): gaal is made from simple-gan, asal-gray searches as its siblings do, and who only
#: scores predictions, or samples of them, does it as max-entropy and bald.
SIBLINGS = (
    "simple-gan", "asal-auto", "asal-disc", "margin", "least-confidence", "subset:", "batch-bald", "qbc",
)  # fmt: skip


def cases() -> list[object]:
    """Every strategy with both classifiers; what shows nothing new of a device is marked slow."""
    found = []
    for name in STRATEGIES:
        for learner in ("linear", "cnn"):
            variant = name.endswith(("-rerank", "-random-latent")) or name.startswith(SIBLINGS)
            needless = name != "max-entropy" and (name in BY_NETWORK) != (learner == "cnn")
            is_slow = variant or needless
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


CALIBRATED = '''
import torch
from torch.nn import functional
from alharness.learners.learner import FitReport, Learner

class Calibrated(Learner):
    """Softmax regression on centred items, with a temperature: neither stands in its state."""
    seeded = False

    def fit(self, labelled, pool, *, seed):
        items, targets = labelled.training_data(pool)
        x = items.flatten(1)
        self.centre, self.temperature = x.mean(0), 0.2 + len(targets) / 100
        weight = torch.zeros(self.n_classes, x.shape[1], device=x.device, requires_grad=True)
        for _ in range(10):
            loss = functional.cross_entropy((x - self.centre) @ weight.T, targets)
            (slope,) = torch.autograd.grad(loss, weight)
            weight = (weight - slope).detach().requires_grad_()
        self.weight = weight.detach()
        return FitReport(10, float(loss.detach()), True)

    def logits(self, items):
        return (items.flatten(1) - self.centre) @ self.weight.T / self.temperature

    def features(self, items):
        return items.flatten(1)

    def state(self):
        return {"weight": self.weight}
'''
#: Shown in every suite: a search by each kind of classifier, and a strategy that only has its fits captured.
SHOWN = (
    ("asal-gray", "linear"),
    ("asal-gray", "calibrated"),
    ("max-entropy", "cnn"),
)


def graph_cases() -> list[object]:
    """Every strategy with classifiers whose state is all they are, and with one whose state is not."""
    return [
        pytest.param(name, learner, marks=[] if (name, learner) in SHOWN else [pytest.mark.slow])
        for name in STRATEGIES
        for learner in ("linear", "cnn", "calibrated")
        if learner != "calibrated" or not name.startswith(WITH_A_NETWORK)
    ]


@pytest.mark.parametrize(("name", "learner"), graph_cases())
def test_cycles_with_graphs_are_the_cycles_without(
    name: str, learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundaryLearner, "STEPS", 10)
    (tmp_path / "mine.py").write_text(CALIBRATED)
    mine = {"kind": f"{tmp_path / 'mine.py'}:Calibrated"}
    monkeypatch.setitem(LEARNERS, "calibrated", mine)
    found = []
    for how in ("captured", "eager"):
        if how == "eager":
            monkeypatch.setattr(
                CapturedStep, "__call__", lambda step, *given: step._function(*given)
            )
        with pretended_cuda() as device:
            folder = run(spec(name, learner, "cuda"), tmp_path / how)
        if how == "eager":
            assert device.counts.captures == 0
        told = [record.query.diagnostics for record in folder.records() if record.query]
        found.append((course(folder), told))
    assert len(found[0][1]) == 2
    assert found[0] == found[1]


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
