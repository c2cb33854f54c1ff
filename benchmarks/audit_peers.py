"""Who agrees with whom: methods that several libraries implement, asked on the same view.

``python benchmarks/audit_peers.py --out docs/audit.md`` writes the page. A view is one cycle of the embedded
digits before a network with dropout; all get the same predictions, features, committee and labels. Below it
stands what ``alharness check`` says of every published strategy: minutes, for some train many models a query.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits

from alharness import conformance, registry
from alharness.availability import Availability
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner
from alharness.learners.settings import LearnerSettings
from alharness.pool import ArrayPool
from alharness.strategy import CycleView

#: Libraries whose strategies have a name here.
FAMILIES = ("skactiveml", "modal", "baal", "small-text")
#: Items of the pool, labels of the three cycles, items asked.
N, CYCLES, SIZE = 300, (20, 40, 60), 15


class Pair(NamedTuple):
    """Ours and a published strategy of the same method.

    Attributes:
        ours, theirs: names for ``--strategy``.
        method: theirs, where one class holds several (``strategy.method``).
        verdict: who is right where picks differ, by the paper's rule; empty where they must be equal.
    """

    ours: str
    theirs: str
    method: str = ""
    verdict: str = ""


PAIRS = [
    Pair("margin", "skactiveml:UncertaintySampling", "margin_sampling"),
    Pair("margin", "modal:margin_sampling"),
    Pair("margin", "small-text:BreakingTies"),
    Pair("max-entropy", "skactiveml:UncertaintySampling", "entropy"),
    Pair("max-entropy", "modal:entropy_sampling"),
    Pair("max-entropy", "small-text:PredictionEntropy"),
    Pair("least-confidence", "skactiveml:UncertaintySampling", "least_confident"),
    Pair("least-confidence", "modal:uncertainty_sampling"),
    Pair("least-confidence", "small-text:LeastConfidence"),
    Pair("core-set", "skactiveml:CoreSet"),
    Pair(
        "core-set",
        "small-text:GreedyCoreset",
        verdict="theirs scales features to length one; Sener and Savarese (2018) do not",
    ),
    Pair("bald", "skactiveml:GreedyBALD"),
    Pair("bald", "baal:BALD"),
    Pair("qbc", "skactiveml:QueryByCommittee", "vote_entropy"),
    Pair(
        "batch-bald",
        "skactiveml:BatchBALD",
        verdict="equal while the joint entropy is exact (some first picks), then both draw outcomes",
    ),
    Pair(
        "batch-bald",
        "baal:BatchBALD",
        verdict="**theirs is wrong**: the largest BALD score, its own first pick, is never answered",
    ),
    Pair(
        "badge",
        "skactiveml:Badge",
        verdict="both draw by k-means++; theirs can ask about copies of an item twice (issue 586)",
    ),
]


@cache
def _trained(n_labelled: int) -> tuple[ArrayPool, LabelledSet, Learner]:
    values, classes = load_digits(return_X_y=True)
    images = (values[:N] * 15).astype("uint8").reshape(N, 1, 8, 8)
    pool = ArrayPool(images, device="cpu")
    labelled = LabelledSet(torch.arange(n_labelled), torch.from_numpy(classes[:n_labelled]))
    settings = LearnerSettings(kind="mlp", dropout=0.3, min_steps=60)
    learner = learner_factory(settings)(pool.item_shape, 10, pool.device)
    learner.fit(labelled, pool, seed=0)
    return pool, labelled, learner


def view(n_labelled: int, seed: int = 0) -> CycleView:
    """A cycle with so many labels, fresh."""
    pool, labelled, learner = _trained(n_labelled)
    available = Availability(pool.n, labelled.indices)
    return CycleView(
        pool=pool,
        labelled=labelled,
        learner=learner,
        n_classes=10,
        cycle=0,
        seed=seed,
        available=available,
    )


def ask(name: str, n_labelled: int, method: str = "") -> list[int]:
    """Pool indices in the order of choice.

    Raises:
        UserError: the library is not installed.
    """
    strategy = registry.resolve_strategy(name, **({"method": method} if method else {}))
    strategy.identity()  # says in one line that a library is not here
    return [int(index) for index in strategy.select(view(n_labelled), SIZE).touched]


def rows() -> Iterator[str]:
    """Rows of the page's table."""
    for pair in PAIRS:
        theirs = pair.theirs + (f" ({pair.method})" if pair.method else "")
        try:
            shared = [
                len(set(ask(pair.ours, n)) & set(ask(pair.theirs, n, pair.method))) for n in CYCLES
            ]
        except UserError as error:
            yield f"| `{pair.ours}` | `{theirs}` | not asked: {str(error).split(' (')[0]} | |"
            continue
        told = " / ".join(str(n) for n in shared)
        yield f"| `{pair.ours}` | `{theirs}` | {told} | {pair.verdict or 'equal'} |"


def name_to_ask(family: str, name: str) -> str:
    """How a peer is asked here: those that train many models for one query about a part of the pool."""
    fault = registry.strategy_class(family).peers[name].fault  # type: ignore[attr-defined]
    return ("subset:15:" if "subset:" in fault else "") + f"{family}:{name}"


def checks() -> Iterator[str]:
    """Rows of the second table: the contract's verdict on every peer, or why it cannot be asked."""
    for family in FAMILIES:
        for peer, known in registry.strategy_class(family).peers.items():  # type: ignore[attr-defined]
            name = name_to_ask(family, peer)
            if known.cannot:
                yield f"| `{name}` | not asked | {known.cannot} |"
                continue
            try:
                found = registry.find_strategy(name)
                results = conformance.check_strategy(found.cls, **found.keywords())
            except UserError as error:
                yield f"| `{name}` | not asked | {str(error).splitlines()[0]} |"
                continue
            failed = [result for result in results if result.outcome == "fail"]
            passed = sum(result.outcome == "pass" for result in results)
            told = "; ".join(f"{result.name}: {_short(result.detail)}" for result in failed)
            yield f"| `{name}` | {passed} passed, {len(failed)} failed | {told} |"


def _short(detail: str) -> str:
    """Why a check failed, as a cell of a table: without the place in this machine's files."""
    sentence = detail.splitlines()[0].partition(";")[0].replace("|", "/")
    return re.sub(r" \((?:/|\w+/)[^)]*\)", "", sentence)


def page() -> str:
    """The page as Markdown."""
    head = (
        "# Who agrees with whom\n\n"
        f"Methods that several libraries implement, asked on the same view: {N} of the embedded digits, a\n"
        f"network with dropout, {' / '.join(map(str, CYCLES))} labels. How many of {SIZE} items\n"
        "ours and theirs share, and, where they differ, who is right by the paper's rule. Made by\n"
        "`benchmarks/audit_peers.py`; `tests/peers` holds the equal ones and shows each\n"
        "fault. `typiclust` and `prob-cover` look at features of their own:\n"
        "`tests/reference/test_peers.py` compares their rules on equal rows.\n\n"
        "| ours | published | same items | |\n|---|---|---|---|\n"
    )
    checked = (
        "\n\n## What `alharness check` says of them\n\n"
        "Each is held to the contract like anybody's plug-in. It may fail here and still be run; what a run\n"
        "watches (counts, items, the classifier, randomness) is refused there, too.\n\n"
        "| published | checks | |\n|---|---|---|\n"
    )
    tables = "\n".join(rows()) + checked + "\n".join(checks())
    return head + tables + f"\n\nVersions: {', '.join(_versions())}.\n"


def _versions() -> Iterator[str]:
    for name in ("scikit-activeml", "modAL-python", "baal", "small-text", "torch"):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} absent"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the page of who agrees with whom.")
    parser.add_argument("--out", type=Path, default=Path("docs/audit.md"))
    parser.parse_args().out.write_text(page(), encoding="utf-8")
