"""Scores, cluster choices, the linear classifier and the paired test beside a peer in the same process.

    OMP_NUM_THREADS=1 python benchmarks/bench_kernels.py

prints CPU seconds of one thread, contestants in turns, the least and the most of the rounds. As a test it
holds the ratios (``tox -e regress``): of the least times, in one process, so that a busy machine slows both
down; a ratio that is missed is measured again twice. Peers' formulas are written here as they stand in
their code, so that nothing has to be installed; picks are equal, which the tests of each method hold.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.cluster.hierarchy import linkage
from scipy.special import xlogy
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression

from alharness import acquisition
from alharness.comparison.signed_ranks import wilcoxon_p
from alharness.learners import newton
from alharness.progress import silent
from alharness_strategies import cluster_margin, prob_cover, qbc, typiclust

N, N_CLASSES, N_SETS, K = 50_000, 10, 20, 100
#: How often a ratio may be measured.
TRIES = 3


@dataclass(frozen=True)
class Pair:
    """Two ways to one result.

    Attributes:
        ours, theirs: do it once.
        peer: whose way the other is.
        most: what our time may be of theirs.
        rounds: of which the least counts.
    """

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    peer: str
    most: float
    rounds: int = 5


def predictions(n_sets: int = N_SETS) -> torch.Tensor:
    """Log probabilities ``[S, N, C]`` of members that agree in part."""
    rng = torch.Generator().manual_seed(0)
    shared = 2 * torch.randn(1, N, N_CLASSES, generator=rng)
    own = torch.randn(n_sets, N, N_CLASSES, generator=rng)
    return (shared + own).log_softmax(dim=2)


def bald() -> Pair:
    log_p = predictions()
    p_NCS = np.ascontiguousarray(log_p.exp().numpy().transpose(1, 2, 0))  # as baal wants them

    def baal() -> Any:
        expected = -np.mean(np.sum(xlogy(p_NCS, p_NCS), axis=1), axis=-1)
        mean = np.mean(p_NCS, axis=-1)
        return -np.sum(xlogy(mean, mean), axis=1) - expected

    return Pair(lambda: acquisition.mutual_information(log_p), baal, "baal's BALD", 0.9)


def query_by_committee() -> Pair:
    log_p = predictions()
    values = log_p.numpy()

    def counts() -> Any:
        votes = values.argmax(axis=2) + np.arange(0, N * N_CLASSES, N_CLASSES)
        share = np.bincount(votes.ravel(), minlength=N * N_CLASSES) / N_SETS
        return -xlogy(share, share).reshape(N, N_CLASSES).sum(axis=1)

    return Pair(lambda: qbc.scores(log_p, K), counts, "numpy's vote counts", 1.0)


def margin() -> Pair:
    log_p = predictions(1)[0]
    p = log_p.exp().numpy()

    def sort() -> Any:
        top = np.sort(p, axis=1)
        return top[:, -2] - top[:, -1]

    return Pair(lambda: acquisition.margin(log_p), sort, "numpy's sort (baal)", 1.0)


def entropy_top() -> Pair:
    log_p = predictions(1)[0]
    p = log_p.exp().numpy()

    def numpy() -> Any:
        return np.argsort(-xlogy(p, p).sum(axis=1))[-K:]

    def ours() -> Any:
        return acquisition.top_k(acquisition.entropy(log_p), K)

    return Pair(ours, numpy, "numpy's entropy and sort", 0.6)


def spread_margins() -> Pair:
    log_p = predictions(1)[0]
    p = log_p.exp().numpy()
    rows = torch.randn(N, 64, generator=torch.Generator().manual_seed(0))
    m = 10 * K

    def ours() -> Any:
        candidates = acquisition.top_k(acquisition.margin(log_p), m)
        clusters = cluster_margin.average_linkage(rows[candidates], K)
        return cluster_margin.in_turn(clusters, K, np.random.default_rng(0))

    def scipy() -> Any:
        top = np.sort(p, axis=1)
        chosen = np.argsort(top[:, -1] - top[:, -2])[:m]
        return linkage(rows.numpy()[chosen].astype(np.float64), "average")

    # Nine tenths of both sides are one and the same call of scipy's: its noise is more than what differs.
    return Pair(ours, scipy, "scipy's linkage of the same candidates", 1.1, rounds=15)


def covered() -> Pair:
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(10_000, 50, generator=rng) * torch.linspace(2, 0.2, 50)
    some = torch.cdist(points[:200], points).flatten()
    delta = float(some.kthvalue(len(some) // 100).values)  # a hundred neighbours each
    return Pair(
        lambda: prob_cover.within(points, delta, silent),
        lambda: points @ points.T,
        "one matrix product",
        1.5,
        rounds=2,
    )


def typical() -> Pair:
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(N, 64, generator=rng)
    n_labelled, n_clusters = 10, K + 10
    strategy = typiclust.TypiClust()

    def ours() -> Any:
        clusters = typiclust.k_means(points, n_clusters, seed=0)
        return strategy.choose(points, clusters, N - n_labelled, K)

    def authors() -> Any:
        """``pycls.al.typiclust``, with a flat search in place of faiss."""
        rows = points.numpy()
        labels = MiniBatchKMeans(n_clusters, batch_size=5000, random_state=0).fit_predict(rows)
        sizes = np.bincount(labels[: N - n_labelled])
        for c in np.argsort(-sizes)[:K]:
            own = rows[np.flatnonzero(labels[: N - n_labelled] == c)]
            k = min(20, len(own) // 2)
            lengths = np.square(own).sum(axis=1)
            apart = lengths[:, None] + lengths - 2 * own @ own.T
            (1 / (np.partition(apart, k, axis=1)[:, 1 : k + 1].mean(axis=1) + 1e-5)).argmax()

    return Pair(ours, authors, "the authors' code", 1.1, rounds=1)


def signs() -> Pair:
    gaps = np.random.default_rng(0).normal(0.02, 1, 3000)

    def scipy() -> Any:
        # Counting goes with the cube of the pairs: of 3,000 it does not end in minutes.
        return stats.wilcoxon(gaps[:1000], method="exact")

    return Pair(lambda: wilcoxon_p(gaps), scipy, "scipy's exact test of 1,000", 3.0, rounds=2)


def linear(n: int, n_features: int, n_classes: int, most: float, low: float = 0.0) -> Pair:
    """Pixels in [low, 1] around a mean per class."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(n_classes, n_features)) * 0.3
    targets = rng.integers(n_classes, size=n)
    rows = np.clip((means[targets] + rng.normal(size=(n, n_features))) * 40 + 128, 0, 255)
    x = low + (1 - low) * rows.astype(np.uint8) / 255.0
    classes = torch.from_numpy(targets)

    def ours() -> Any:
        return newton.solve(torch.from_numpy(x.copy()), classes, n_classes, 1.0, 1000)

    def scikit_learn() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return LogisticRegression(tol=1e-6, max_iter=5000).fit(x, targets)

    return Pair(ours, scikit_learn, "scikit-learn, tol 1e-6", most, rounds=3)


PAIRS: dict[str, Callable[[], Pair]] = {
    "bald, 50,000 x 20 x 10": bald,
    "qbc, 50,000 x 20 x 10": query_by_committee,
    "margin, 50,000 x 10": margin,
    "entropy, top 100 of 50,000": entropy_top,
    "cluster-margin, 100 of 50,000 x 64": spread_margins,
    "prob-cover graph, 10,000 x 50": covered,
    "typiclust, 100 of 50,000 x 64": typical,
    "linear fit, 100 x 64, 10 classes": lambda: linear(100, 64, 10, 0.2),
    "linear fit, 500 x 784, 10 classes": lambda: linear(500, 784, 10, 1.0),
    "linear fit, 200 x 784, 2 classes": lambda: linear(200, 784, 2, 1.0),
    # Around 0 scikit-learn's own steps are a tenth as many: benchmarks/results/speed.md counts both.
    "linear fit in [-1, 1], 100 x 64, 10 classes": lambda: linear(100, 64, 10, 1.0, -1.0),
    "linear fit in [-1, 1], 500 x 784, 10 classes": lambda: linear(500, 784, 10, 1.0, -1.0),
    "linear fit in [-1, 1], 200 x 784, 2 classes": lambda: linear(200, 784, 2, 1.0, -1.0),
    "exact Wilcoxon, 3,000 pairs": signs,
}


def seconds(pair: Pair, rounds: int) -> tuple[list[float], list[float]]:
    """CPU seconds of both, in turns, sorted."""
    ours, theirs = [], []
    for _ in range(rounds):
        for times, call in ((ours, pair.ours), (theirs, pair.theirs)):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
    return sorted(ours), sorted(theirs)


@pytest.mark.regress
@pytest.mark.parametrize("name", PAIRS)
def test_it_takes_no_more_of_the_peers_time(name: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pair = PAIRS[name]()
        ratios = []
        for _ in range(TRIES):
            ours, theirs = seconds(pair, pair.rounds)
            ratios.append(ours[0] / theirs[0])
            if ratios[-1] <= pair.most:
                break
    finally:
        torch.set_num_threads(threads)
    assert min(ratios) <= pair.most, f"{ratios} of {pair.peer}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| work | peer | ours, CPU s | peer, CPU s | ratio | at most |")
    print("|---|---|---|---|---|---|")
    for name, make in PAIRS.items():
        pair = make()
        ours, theirs = seconds(pair, options.rounds)
        spans = " | ".join(f"{times[0]:.4f} to {times[-1]:.4f}" for times in (ours, theirs))
        ratio = ours[0] / theirs[0]
        print(f"| {name} | {pair.peer} | {spans} | {ratio:.2f} | {pair.most} |", flush=True)


if __name__ == "__main__":
    main()
