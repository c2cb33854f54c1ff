"""BALD, BatchBALD and query by committee against the obvious slow versions."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alharness import acquisition
from alharness.artefacts import ArtefactStore, Supply
from alharness.engine.stage import Networks, Problem, set_stage
from alharness.errors import UserError
from alharness.generative import AutoencoderSettings, GeneratorSettings
from alharness.labelled import LabelledSet
from alharness.learners.learner import FitReport, Learner, LearnerSettings
from alharness.pool import ArrayPool, Pool
from alharness.spec import resolve
from alharness.strategy import CycleView
from alharness_strategies.bald import Bald
from alharness_strategies.batch_bald import BatchBald, draw_outcomes, joint_entropy, pick
from alharness_strategies.qbc import QueryByCommittee, scores

S, N, C = 4, 9, 3


def predictions(seed: int = 0, sharp: float = 2.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(S, N, C, generator=rng) * sharp).softmax(dim=2)


class Committee(Learner):
    """Item i is the number i; its members say what the table says."""

    def __init__(self, p_SNC: torch.Tensor) -> None:
        super().__init__((1,), p_SNC.shape[2], torch.device("cpu"))
        self.p_SNC = p_SNC

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        return FitReport(0, 0.0, True)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        return self.p_SNC.mean(dim=0)[items[:, 0].long()].log()

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items

    def state(self) -> dict[str, torch.Tensor]:
        return {"p": self.p_SNC}

    def sample_log_probs(self, items: torch.Tensor, n: int, rng: torch.Generator) -> torch.Tensor:
        return self.p_SNC[:, items[:, 0].long()].log()


def view_of(p_SNC: torch.Tensor, labelled: tuple[int, ...] = (2,)) -> CycleView:
    index = torch.tensor(labelled)
    return CycleView(
        pool=ArrayPool(torch.arange(p_SNC.shape[1], dtype=torch.float32)[:, None]),
        labelled=LabelledSet(index, torch.zeros_like(index), n_asked=len(index)),
        learner=Committee(p_SNC),
        n_classes=p_SNC.shape[2],
        cycle=0,
        seed=0,
    )


def shannon(probabilities: list[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def slow_bald(p_SNC: torch.Tensor, item: int) -> float:
    mean = [float(p_SNC[:, item, c].mean()) for c in range(p_SNC.shape[2])]
    each = [shannon(p_SNC[s, item].tolist()) for s in range(len(p_SNC))]
    return shannon(mean) - sum(each) / len(each)


def slow_joint_information(p_SNC: torch.Tensor, items: list[int]) -> float:
    """I(y_1 .. y_b; theta) by going through all outcomes."""
    outcomes = []
    for classes in itertools.product(range(p_SNC.shape[2]), repeat=len(items)):
        under_each = [
            math.prod(float(p_SNC[s, i, c]) for i, c in zip(items, classes, strict=True))
            for s in range(len(p_SNC))
        ]
        outcomes.append(sum(under_each) / len(under_each))
    conditional = [
        sum(shannon(p_SNC[s, i].tolist()) for s in range(len(p_SNC))) / len(p_SNC) for i in items
    ]
    return shannon(outcomes) - sum(conditional)


def slow_batch(p_SNC: torch.Tensor, candidates: list[int], k: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(k):
        rest = [i for i in candidates if i not in chosen]
        chosen.append(max(rest, key=lambda i: slow_joint_information(p_SNC, [*chosen, i])))
    return chosen


def test_bald_is_the_information_of_one_label() -> None:
    p_SNC = predictions()
    slow = [slow_bald(p_SNC, item) for item in range(N)]
    np.testing.assert_allclose(acquisition.mutual_information(p_SNC.log()), slow, atol=1e-6)
    query = Bald().select(view_of(p_SNC), 3)
    best = sorted((i for i in range(N) if i != 2), key=lambda i: -slow[i])[:3]
    assert query.indices.tolist() == best


def test_certain_sets_of_parameters_that_agree_tell_nothing() -> None:
    certain = torch.eye(C)[torch.zeros(S, N, dtype=torch.int64)]
    assert acquisition.mutual_information(certain.log()).abs().max() == 0.0
    half = certain.clone()
    half[: S // 2, 0] = torch.eye(C)[1]  # half of them are certain of another class
    assert float(acquisition.mutual_information(half.log())[0]) == pytest.approx(math.log(2))


def test_votes_are_counted_and_equal_votes_go_by_the_mean_prediction() -> None:
    p_SNC = predictions(seed=3)
    slow = []
    for item in range(N):
        votes = Counter(p_SNC[:, item].argmax(dim=1).tolist())
        mean = p_SNC[:, item].mean(dim=0).tolist()
        slow.append((shannon([n / S for n in votes.values()]), shannon(mean)))
    order = sorted((i for i in range(N) if i != 2), key=lambda i: (-slow[i][0], -slow[i][1]))
    assert len({round(votes, 9) for votes, _ in slow}) < N  # there are equal votes
    assert QueryByCommittee().select(view_of(p_SNC), 8).indices.tolist() == order


def partitions(n: int, n_parts: int, largest: int) -> list[tuple[int, ...]]:
    """All ways to share out n votes among so many classes, classes without votes left out."""
    if n == 0 or n_parts == 0:
        return [()] if n == 0 else []
    return [
        (first, *rest)
        for first in range(min(n, largest), 0, -1)
        for rest in partitions(n - first, n_parts - 1, first)
    ]


def test_equal_vote_entropies_are_equal_bits() -> None:
    """Votes n_c of S have entropy log S - log(prod n_c^n_c) / S: whole numbers say which are equal."""
    rng = np.random.default_rng(0)
    n_crosswise = 0
    for n_votes in range(2, 21):
        items = [
            (math.prod(n**n for n in counts), counts)
            for counts in partitions(n_votes, 10, n_votes)
            for _ in range(5)  # each for other classes
        ]
        votes_SN = np.stack(
            [np.repeat(rng.permutation(10)[: len(counts)], counts) for _, counts in items], axis=1
        )
        log_p_SNC = torch.nn.functional.one_hot(torch.from_numpy(votes_SN), 10).double().log()
        found: dict[int, set[float]] = {}
        for (product, counts), value in zip(
            items, acquisition.vote_entropy(log_p_SNC).tolist(), strict=True
        ):
            found.setdefault(product, set()).add(value)
            assert value == pytest.approx(shannon([n / n_votes for n in counts]), abs=1e-11)
        assert all(len(values) == 1 for values in found.values())
        assert len(set.union(*found.values())) == len(found), "unequal ones stay apart"
        n_crosswise += len({counts for _, counts in items}) - len(found)
    assert n_crosswise > 100


def test_of_equally_probable_classes_the_first_has_the_vote() -> None:
    p_SNC = torch.tensor([[[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]], [[0.1, 0.1, 0.8], [0.3, 0.4, 0.3]]])
    # Votes are 0 and 2, and 1 and 1.
    assert acquisition.vote_entropy(p_SNC.log()).tolist() == pytest.approx([math.log(2), 0.0])


@pytest.mark.parametrize("values", [1, 1000])
def test_scores_do_not_depend_on_how_many_items_fit_into_a_cache(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_p_SNC = predictions(seed=1).log()
    before = log_p_SNC.clone()
    functions = (
        acquisition.mutual_information,
        acquisition.vote_entropy,
        acquisition.mean_entropy,
    )
    whole = [function(log_p_SNC) for function in functions]
    monkeypatch.setattr(acquisition, "_IN_CACHE", values)
    monkeypatch.setattr(acquisition, "_COMPARED_IN_CACHE", values)
    parts = [function(log_p_SNC) for function in functions]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=0)
    assert torch.equal(log_p_SNC, before)  # float64 predictions are not worked on in place


def test_the_mean_prediction_of_an_item_that_is_out_by_its_votes_is_not_worked_out() -> None:
    log_p_SNC = predictions(seed=3).log()
    votes_N, mean_N = scores(log_p_SNC, k=4)
    every_mean_N = scores(log_p_SNC)[1]
    in_reach = votes_N >= votes_N.sort(descending=True).values[3]
    assert 4 <= int(in_reach.sum()) < N
    assert torch.equal(mean_N.isfinite(), in_reach)
    torch.testing.assert_close(mean_N[in_reach], every_mean_N[in_reach], atol=1e-14, rtol=0)


def test_of_ten_classes_too_equal_votes_go_by_the_mean_prediction() -> None:
    rng = torch.Generator().manual_seed(0)
    # Items of one difficulty, members that differ much: many vote patterns, each by many items.
    logits_SNC = torch.randn(1, 2000, 10, generator=rng) * 2 + 1.5 * torch.randn(
        10, 2000, 10, generator=rng
    )
    p_SNC = logits_SNC.double().softmax(dim=2)
    votes = p_SNC.argmax(dim=2)
    keys = []
    for item in range(2000):
        counts = Counter(votes[:, item].tolist()).values()
        mean = p_SNC[:, item].mean(dim=0).tolist()
        keys.append((math.prod(n**n for n in counts), -shannon(mean), item))
    order = [item for *_, item in sorted(keys) if item != 2]
    assert QueryByCommittee().select(view_of(p_SNC), 300).indices.tolist() == order[:300]


@pytest.mark.parametrize("seed", range(3))
def test_batch_bald_is_the_greedy_choice_by_joint_information(seed: int) -> None:
    p_SNC = predictions(seed)
    query = BatchBald().select(view_of(p_SNC), 4)
    assert query.indices.tolist() == slow_batch(p_SNC, [i for i in range(N) if i != 2], 4)
    assert query.diagnostics["exact_picks"] == 4


def test_batch_bald_does_not_ask_twice_for_the_same_information() -> None:
    p_SNC = predictions(seed=1, sharp=4.0)
    best = int(Bald().select(view_of(p_SNC), 1).indices)
    twin = next(i for i in range(N) if i not in (2, best))
    p_SNC[:, twin] = p_SNC[:, best]  # the same item a second time
    assert set(Bald().select(view_of(p_SNC), 2).indices.tolist()) == {best, twin}
    assert set(BatchBald().select(view_of(p_SNC), 2).indices.tolist()) != {best, twin}


def test_sampled_entropies_are_near_the_exact_ones_and_said() -> None:
    p_SNC = predictions(seed=2).double()
    exact_SM = (p_SNC[:, 0, :, None] * p_SNC[:, 1, None]).flatten(1)
    exact = joint_entropy(exact_SM, p_SNC)
    rng = torch.Generator().manual_seed(0)
    joint_SM, log_scale_M = draw_outcomes(p_SNC[:, :2], 20_000, rng)
    drawn = joint_entropy(joint_SM, p_SNC, log_scale_M)
    assert float((exact - drawn).abs().max()) < 0.02
    chosen, n_exact = pick(p_SNC, 5, 9, torch.Generator().manual_seed(0))
    assert n_exact == 3  # 1, 3 and 9 outcomes
    assert len(set(chosen.tolist())) == 5


def slow_sampled_pick(
    p_SNC: torch.Tensor, k: int, max_outcomes: int, rng: torch.Generator
) -> list[int]:
    """``pick`` in log space throughout, every outcome's every term by itself: nothing can underflow."""
    log_p_SNC = p_SNC.log()
    n_sets, _, n_classes = p_SNC.shape
    conditional_N = -(p_SNC * log_p_SNC).sum(dim=2).mean(dim=0)
    chosen: list[int] = []
    for number in range(k):
        if n_classes**number <= max_outcomes:
            drawn = torch.tensor(list(itertools.product(range(n_classes), repeat=number)))
            outcomes_MB = drawn.view(n_classes**number, number).long()
        else:
            per_set = -(-max_outcomes // n_sets)
            rows = p_SNC[:, chosen].flatten(0, 1)
            drawn = torch.multinomial(rows, per_set, replacement=True, generator=rng)
            outcomes_MB = drawn.view(n_sets, number, per_set).transpose(1, 2).flatten(0, 1)
        at_B = torch.tensor(chosen, dtype=torch.int64)
        log_joint_SM = log_p_SNC[:, at_B, outcomes_MB].sum(dim=2)
        log_p_MNC = (log_joint_SM[:, :, None, None] + log_p_SNC[:, None]).logsumexp(0)
        log_p_MNC -= math.log(n_sets)
        log_p_M = log_joint_SM.logsumexp(dim=0) - math.log(n_sets)
        if n_classes**number <= max_outcomes:
            joint_N = -(log_p_MNC.exp() * log_p_MNC).sum(dim=(0, 2))
        else:
            joint_N = -((log_p_MNC - log_p_M[:, None, None]).exp() * log_p_MNC).sum(2).mean(0)
        score_N = joint_N - conditional_N
        assert bool(score_N.isfinite().all())
        score_N[at_B] = -math.inf
        chosen.append(int(score_N.argmax()))
    return chosen


def test_a_query_of_hundreds_is_chosen_where_its_outcomes_are_no_float64_any_more() -> None:
    """Of ten classes, nearly alike, 310 picks have outcomes of 1e-310, and 330 of 0."""
    rng = torch.Generator().manual_seed(5)
    p_SNC = (torch.randn(3, 400, 10, generator=rng).double() * 0.05).softmax(dim=2)
    chosen, n_exact = pick(p_SNC, 350, 12, torch.Generator().manual_seed(0))
    assert n_exact == 2
    assert chosen.tolist() == slow_sampled_pick(p_SNC, 350, 12, torch.Generator().manual_seed(0))
    assert sorted(chosen[300:].tolist()) != chosen[300:].tolist()  # not by index, as among equals
    # Whatever was picked before, what a label tells is at most what there is to know: log S.
    joint_SM, log_scale_M = draw_outcomes(p_SNC[:, chosen], 12, torch.Generator().manual_seed(0))
    gain_N = joint_entropy(joint_SM, p_SNC, log_scale_M) + float(log_scale_M.mean())
    assert 0 <= float(gain_N.min()) <= float(gain_N.max()) <= math.log(10) + math.log(3)


@pytest.mark.parametrize("strategy", ["bald", "batch-bald", "qbc", "subset:50:bald"])
def test_a_classifier_of_one_set_of_parameters_is_refused_before_data_are_loaded(
    strategy: str,
) -> None:
    with pytest.raises(UserError, match=r"learner.members=5.*learner.dropout=0.5") as told:
        resolve({"task": "mnist-two", "strategy": strategy})
    assert "\n" not in str(told.value)
    several = {"task": "mnist-two", "strategy": strategy, "learner": {"members": 5}}
    assert resolve(several).learner.members == 5


def test_a_network_without_dropout_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    pool = ArrayPool(torch.zeros(4, 1, 8, 8))
    networks = Networks("t", "quick", GeneratorSettings(), AutoencoderSettings(), pool)
    supply = Supply(ArtefactStore(tmp_path))
    without = Problem("t", pool, pool, 3, LearnerSettings(kind="mlp", width=8))
    with pytest.raises(UserError, match=r"'bald' .*'mlp' has one. Set learner.members=5"):
        set_stage(Bald(), without, networks, supply, name="bald")
    brings_its_own = LearnerSettings(kind="mnist-cnn", width=8)
    set_stage(Bald(), replace(without, learner=brings_its_own), networks, supply)
