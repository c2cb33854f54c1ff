"""One policy of proof: what is decided, by simulation and against scipy (docs/protocol.md)."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from alharness.comparison.claims import check_paper
from alharness.comparison.comparison import comparisons
from alharness.comparison.evidence import (
    Difference,
    Evidence,
    Gain,
    above,
    at_least,
    equal,
    not_above,
    registered_in,
    replication,
)
from alharness.comparison.formats import merit_csv
from alharness.comparison.generators import over_generators
from alharness.comparison.report import build
from alharness.errors import UserError
from alharness.records import read_runs


def runs(make_run: Any, gaps: Mapping[str, Any], task: str = "digits-two", **more: Any) -> Path:
    """Runs whose areas differ from random's by the gaps, seed by seed."""
    n = max(len(values) for values in gaps.values())
    for seed in range(n):
        level = 0.8 + seed / 1000
        make_run("random", seed, [level, level], task=task, **more)
        for name, values in gaps.items():
            if seed < len(values):
                value = level + values[seed]
                make_run(name, seed, [value, value], task=task, **more)
    return make_run.root


def verdict(root: Path, claim: str, **options: Any) -> Any:
    found = check_paper(comparisons(read_runs(root)), **options)
    return next(v for v in found if v.claim.id == claim)


CLEAR = [0.010, 0.011, 0.012, 0.013, 0.009, 0.014, 0.010, 0.008]


def test_a_claim_takes_the_verdict_of_the_table(make_run: Any) -> None:
    """Alone .0078; among eight strategies Holm's correction leaves .062: undecided on both pages."""
    rng = np.random.default_rng(0)
    others = {f"other-{i}": rng.normal(0, 0.01, 8) for i in range(7)}
    root = runs(make_run, {"asal-auto": CLEAR, **others}, task="cifar10-two")
    (row,) = [
        r for s in build(comparisons(read_runs(root)), heading="").sections for r in s.rows
        if r.label == "asal-auto"
    ]  # fmt: skip
    assert row.against is not None
    assert row.against.p == 2**-7
    assert not row.against.significant
    claim = verdict(root, "cifar10-two-auto-above-random")
    assert claim.word == "undecided"
    assert f"p {row.against.p_holm:.3f} among 8" in claim.evidence
    assert "other seeds would say so again with probability" in claim.evidence


def test_two_names_of_one_strategy_do_not_cost_each_other_the_level(make_run: Any) -> None:
    root = runs(make_run, {"margin": CLEAR[:6], "max-entropy": CLEAR[:6]})
    made = build(comparisons(read_runs(root)), heading="")
    (section,) = made.sections
    assert any("asked the same in every cycle" in text for text in section.warnings)
    assert {r.against.p_holm for r in section.rows if r.against} == {2**-5}
    assert all(r.against.significant for r in section.rows if r.against)


@pytest.mark.parametrize("n", [6, 10])
def test_above_and_not_above_never_both_hold(n: int) -> None:
    rng = np.random.default_rng(n)
    words = Counter()
    for mean in (0.0, 0.001, 0.002, 0.005):
        for gaps in rng.normal(mean, 0.0015, (100, n)):
            for factor, margin in ((1.0, 0.005), (4.0, 0.0016), (1.0, None)):
                pair = above(gaps, factor, margin), not_above(gaps, factor, margin)
                assert pair != ("holds", "holds")
                words[pair] += 1
    assert min(words["holds", "fails"], words["fails", "holds"]) > 0


def test_equality_at_the_margin_is_claimed_wrongly_in_one_of_twenty_studies_at_most() -> None:
    rng = np.random.default_rng(1)
    studies = rng.normal(0.005, 0.003, (1500, 8))
    assert np.mean([equal(gaps, 1.0, 0.005) == "holds" for gaps in studies]) <= 0.05


@pytest.mark.parametrize(
    ("n", "effect", "word"), [(10, 0.005, "holds"), (6, 0.001, "undecided"), (10, 0.0, "undecided")]
)
def test_eight_of_ten_is_right_where_seeds_suffice_and_undecided_otherwise(
    n: int, effect: float, word: str
) -> None:
    """Eight tasks with a gain and two without, or none at all: lack of power is no refutation."""
    rng = np.random.default_rng(n)
    found = Counter()
    for _ in range(100):
        gaps = [rng.normal(effect if task < 8 else 0.0, 0.002, n) for task in range(10)]
        words = Counter(above(g, 1.0, None) for g in gaps)
        one_sided = [
            stats.wilcoxon(g, method="exact").pvalue / 2 if g.mean() > 0 else 1.0 for g in gaps
        ]
        decided = words["holds"] >= 8 and at_least(8, one_sided) <= 0.05
        failed = words["holds"] + words["undecided"] < 8
        found["holds" if decided else "fails" if failed else "undecided"] += 1
    assert found[word] >= 95


def test_at_least_u_of_n_is_claimed_wrongly_in_one_of_twenty_studies_at_most() -> None:
    """Seven tasks with an effect that nobody misses, three without: eight are none."""
    rng = np.random.default_rng(2)
    nulls = rng.uniform(0, 1, (4000, 3))
    alarms = [at_least(8, [*[1e-9] * 7, *p]) <= 0.05 for p in nulls]
    assert 0.03 <= np.mean(alarms) <= 0.055


def test_won_lost_and_undecided_tasks_are_counted_apart(make_run: Any) -> None:
    tasks = ["mnist-two", "cifar10-two", "mnist-ten", "cifar10-ten", "svhn", "lsun"]
    tasks += [f"celeba-{name}" for name in ("blond-hair", "wearing-hat", "bangs", "eyeglasses")]
    for i, task in enumerate(tasks):
        gaps = CLEAR if i < 7 else [-g for g in CLEAR] if i == 7 else CLEAR[:3]
        root = runs(make_run, {"asal-auto": gaps}, task=task)
    found = verdict(root, "eight-of-ten")
    assert found.word == "undecided"
    assert (
        "above on 7, not above on 1, undecided on 2 of 10 tasks (0 of them not run)"
        in found.evidence
    )


def gain(**values: Any) -> Gain:
    usual = {"task": "cifar10-two", "value": 0.02, "low": 0.015, "high": 0.025, "seeds": (100, 101)}
    return Gain.model_validate({**usual, **values})


@pytest.mark.parametrize(
    ("gains", "word", "told"),
    [
        ([], "undecided", "what there is to gain is not registered"),
        ([gain()], "holds", ""),
        (
            [gain(low=-0.001)],
            "undecided",
            "there is nothing to gain here (+0.0200 [-0.0010, +0.0250])",
        ),
        ([gain(seeds=(3, 101))], "undecided", "registered from seeds that are judged"),
        ([gain(task="svhn")], "undecided", "is not registered"),
        ([gain(budget=500)], "undecided", "is not registered"),
        ([gain(value=0.002)], "undecided", ""),
    ],
)
def test_a_margin_is_a_share_of_a_registered_gain(
    make_run: Any, gains: list[Gain], word: str, told: str
) -> None:
    even = [0.001, -0.001, 0.0012, -0.0008, 0.0009, -0.0011, 0.0005, -0.0004]
    root = runs(make_run, {"asal-rgb": even, "asal-disc": [-g for g in even]}, task="cifar10-two")
    found = verdict(root, "cifar10-two-rgb-disc-not-above", gains=gains)
    assert (found.word, told in found.evidence) == (word, True)


def test_a_gain_is_registered_in_the_sweeps_file() -> None:
    block = {
        "task": "mnist-two",
        "value": 0.0064,
        "low": 0.004,
        "high": 0.0088,
        "seeds": [100, 101],
    }
    (found,) = registered_in([{**block, "of": "max-entropy", "from": 50, "to": 350}])
    assert (found.start, found.to, found.metric) == (50, 350, "accuracy")
    with pytest.raises(UserError, match="number 1: low: field required"):
        registered_in([{k: v for k, v in block.items() if k != "low"}])


def test_a_needed_number_of_labels_and_a_ratio_of_entropies_have_intervals(make_run: Any) -> None:
    """A point estimate decides nothing: at the border both are undecided."""
    rng = np.random.default_rng(3)
    for seed in range(8):
        x = np.arange(50, 1010, 10)
        for name, entropy in (("random", 0.1), ("asal-gray", 0.147 + 0.02 * rng.normal())):
            curve = 0.95 + 0.04 * (1 - np.exp(-x / 215)) + 0.004 * rng.normal()
            make_run(name, seed, list(map(float, curve)), task="mnist-two", entropy=float(entropy))
        for name in ("asal-disc", "asal-auto"):
            make_run(name, seed, list(map(float, curve)), task="mnist-two", entropy=0.2)
    needs = verdict(make_run.root, "mnist-two-random-needs")
    assert needs.word == "undecided"
    assert "first reaches 0.985 at" in needs.evidence
    assert " to " in needs.evidence
    entropy = verdict(make_run.root, "mnist-two-entropy")
    assert entropy.word == "undecided"
    assert "asal-disc: +100 [+100, +100] % (8 pairs)" in entropy.evidence


def test_one_generator_for_all_seeds_is_said_and_several_are_a_factor(make_run: Any) -> None:
    def entry(key: str) -> list[dict[str, Any]]:
        return [
            {
                "name": "generator",
                "seconds": 1.0,
                "cached": True,
                "load_s": 0.1,
                "details": {"key": key},
            }
        ]

    for seed in range(6):
        make_run("random", seed, [0.8, 0.8 + seed / 1000], task="cifar10-two")
        for number, gain_ in ((0, 0.01), (1, 0.03), (2, 0.02)):
            make_run(
                "asal-auto", seed, [0.8, 0.8 + gain_ + seed / 900], task="cifar10-two",
                preparation=entry(f"key{number}"),
                spec={"generator": {"seed": number, "recipe": "auto"}, "oracle": {"mode": "hard"}},
            )  # fmt: skip
    made = build(comparisons(read_runs(make_run.root)), heading="")
    (section,) = made.sections
    assert any(
        "one generator for all 6 runs. Intervals and tests speak" in t for t in section.warnings
    )
    table = section.by_name["over_generators"]
    (row,) = table.rows
    assert row[:3] == ("asal-auto", "3", "6")
    low, high = map(float, row[4].split(" to "))
    narrow = [r.against for r in section.rows if r.against is not None]
    assert high - low > max(t.high - t.low for t in narrow)
    claim = verdict(make_run.root, "cifar10-two-auto-above-random")
    assert "one generator for all 6 runs" in claim.evidence


@pytest.mark.parametrize(
    ("n_generators", "n_seeds", "told"), [(2, 2, True), (1, 6, False), (3, 1, False)]
)
def test_two_generators_with_two_seeds_each_are_a_factor_and_fewer_are_none(
    make_run: Any, n_generators: int, n_seeds: int, told: bool
) -> None:
    """Two by two: the gain is the mean of four differences."""
    gains = (0.01, 0.03, 0.02)
    for seed in range(n_seeds):
        make_run("random", seed, [0.8, 0.8 + seed / 1000])
        for number in range(n_generators):
            make_run(
                "asal-auto", seed, [0.8, 0.8 + gains[number] + seed / 900],
                spec={"generator": {"seed": number}},
            )  # fmt: skip
    (found,) = comparisons(read_runs(make_run.root))
    tables = over_generators(found, "queries", "accuracy")
    assert bool(tables) == told
    if told:
        ((name, n_outer, n_inner, gain, _, _),) = tables[0].rows
        assert (name, n_outer, n_inner) == ("asal-auto", "2", "2")
        # Areas of curves of two points: half of what stands at the end.
        each = [(g + s / 900 - s / 1000) / 2 for g in gains[:2] for s in range(2)]
        assert float(gain) == pytest.approx(sum(each) / 4, abs=1e-4)


def test_seeds_begun_after_a_pause_are_named_unless_it_was_said(make_run: Any) -> None:
    for seed in range(8):
        # The records' lines are of one moment; the later seeds begin half an hour after it.
        at = 1_800_000_000_000 + (0 if seed < 6 else 1_800_000)
        make_run("random", seed, sessions=[{"started_ms": at, "first_cycle": 0}])
        make_run("margin", seed, [0.7, 0.8, 0.95], sessions=[{"started_ms": at, "first_cycle": 0}])
    found = comparisons(read_runs(make_run.root))
    told = " ".join(build(found, heading="").sections[0].warnings)
    assert "Seeds 6, 7 were begun after all others were finished" in told
    quiet = build(found, heading="", looks=2).sections[0]
    assert not any("were begun after" in text for text in quiet.warnings)
    assert "every p times 2 for as many looks" in quiet.by_name["tests"].caption


def test_where_nothing_can_be_told_apart_it_is_said(make_run: Any) -> None:
    for strategy in ("random", "margin"):
        make_run(strategy, 0, [0.97, 0.975], task="saturated")
        make_run(strategy, 0, [0.4, 0.5], task="chance")
    make_run("full", 0, [0.976, 0.976], bound=True, task="saturated")
    told = {
        s.comparison.task: " ".join(s.warnings)
        for s in build(comparisons(read_runs(make_run.root)), heading="").sections
    }
    assert "The first labels alone reach 99.4% of the bound" in told["saturated"]
    assert "No strategy has learned anything that accuracy shows" in told["chance"]
    assert "No strategy has learned" not in told["saturated"]


STUDIES: dict[str, dict[str, list[float]]] = {
    "clear": {"a": CLEAR, "b": [-g for g in CLEAR]},
    "ties": {"a": [0.01, 0.01, -0.01, 0.02, 0.02, 0.03, 0.01], "b": [0.0, 0.01] * 3 + [0.02]},
    "all equal": {"a": [0.0] * 6, "b": CLEAR[:6]},
    "one pair": {"a": [0.01], "b": [0.02]},
    "two pairs": {"a": [0.01, 0.02], "b": [0.02, -0.01]},
    "five pairs": {"a": CLEAR[:5], "b": [0.01, -0.02, 0.03, 0.01, -0.01]},
    "unequal numbers": {"a": CLEAR, "b": CLEAR[:3], "c": CLEAR[:6]},
    "one far": {"a": [-0.001 - i / 10_000 for i in range(7)] + [0.06], "b": CLEAR},
    "many": {name: list(np.random.default_rng(i).normal(0.002, 0.01, 8)) for i, name in enumerate("abcdef")},
    "thirty": {"a": list(np.random.default_rng(9).normal(0.002, 0.01, 30))},
}  # fmt: skip


@pytest.mark.parametrize("study", STUDIES)
def test_ten_studies_equal_scipy(study: str, make_run: Any) -> None:
    """What ``compare --format csv`` exports, against scipy on the same numbers."""
    gaps = STUDIES[study]
    made = build(comparisons(read_runs(runs(make_run, gaps))), heading="")
    rows = {row["strategy"]: row for row in csv.DictReader(io.StringIO(merit_csv(made)))}
    raw = {}
    for name, wanted in gaps.items():
        values = np.round(wanted, 12)
        row = rows[name]
        assert int(float(row["pairs"])) == len(values)
        assert float(row["difference"]) == pytest.approx(values.mean(), abs=1e-12)
        if len(values) >= 6:
            low, high = (
                stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
                if values.std() > 0
                else (values.mean(),) * 2
            )
            assert float(row["difference_low"]) == pytest.approx(low, abs=1e-9)
            assert float(row["difference_high"]) == pytest.approx(high, abs=1e-9)
        else:
            assert row["difference_low"] == row["difference_high"] == ""
        if len(values) < 2:
            assert row["p"] == ""
            continue
        kept = values[values != 0]
        # Exact also with ties: scipy counts all assignments of signs.
        exact = stats.PermutationMethod(n_resamples=2 ** len(kept)) if len(kept) < 12 else "exact"
        raw[name] = stats.wilcoxon(kept, method=exact).pvalue if len(kept) else 1.0
        assert float(row["p"]) == pytest.approx(raw[name], rel=1e-6), name
    if raw:
        running = 0.0  # scipy has no Holm: by its definition
        for step, name in enumerate(sorted(raw, key=lambda name: raw[name])):
            running = max(running, min(1.0, (len(raw) - step) * raw[name]))
            assert float(rows[name]["p_holm"]) == pytest.approx(running, rel=1e-6)


def test_differences_that_are_no_numbers_stay_out_of_every_verdict() -> None:
    for odd in (np.nan, np.inf):
        gaps = np.array([*CLEAR[:7], odd])
        assert above(gaps, 1.0, 0.005) == not_above(gaps, 1.0, 0.005) == "undecided"
        assert equal(gaps, 1.0, 0.005) == "undecided"
        assert np.isnan(replication(gaps, "undecided", lambda g: "undecided"))


def test_a_difference_and_its_mirror_are_one(make_run: Any) -> None:
    root = runs(make_run, {"adba": [-g for g in CLEAR], "gaal": CLEAR})
    (comparison,) = comparisons(read_runs(root))
    asked = [Difference("accuracy", "random", "adba"), Difference("accuracy", "gaal", "adba")]
    evidence = Evidence(comparison, asked)
    assert evidence.of(asked[0]).family == 2  # the table's: adba and gaal against random
    assert evidence.of(asked[0]).gaps == pytest.approx(CLEAR)
    assert evidence.of(asked[1]).family == 1  # a further difference
    assert evidence.of(Difference("accuracy", "adba", "gaal")).gaps.mean() < 0
