"""Stopping rules: each at its border by figures worked out by hand, and never by what comes later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alharness.conformance.stopping import check_rule, made_up_cycles
from alharness.errors import PluginError, UserError
from alharness.records import (
    AnnotationFigures,
    CycleRecord,
    FitFigures,
    QueryFigures,
    StopSetFigures,
    TestFigures,
    Times,
)
from alharness.stopping import Decision, NamedRule, StoppingRule, ask, ends_at, named, say, seen_of
from alharness.stopping.rules import cohen_kappa

LABELS = 10


def stop_set(
    classes: Sequence[int] = (0, 1), n_classes: int = 2, **figures: float | None
) -> StopSetFigures:
    values: dict[str, Any] = {"confidence": 0.9, "entropy": 0.1, "entropy_max": 0.5, **figures}
    packed = StopSetFigures.packed(classes, n_classes)
    return StopSetFigures(
        size=len(classes), n_labelled=0, n_classes=n_classes, classes=packed, **values
    )


def course(*cycles: dict[str, Any]) -> list[CycleRecord]:
    """Records of a run that asks LABELS items a cycle; each cycle has what is given of it."""
    made = []
    for number, given_ in enumerate(cycles):
        final = number == len(cycles) - 1
        query = QueryFigures(
            kind="pool", size=LABELS, entropy_mean=0.5, entropy_median=0.5, digest="q"
        )
        annotation = AnnotationFigures(
            n_asked=LABELS, n_rejected=0, n_labels=LABELS, cost=LABELS, class_histogram=[5, 5]
        )
        made.append(
            CycleRecord(
                cycle=number,
                n_labelled=LABELS * (number + 1),
                n_asked=LABELS * (number + 1),
                n_synthetic=0,
                cost=LABELS * (number + 1),
                labelled_digest=f"l{number}",
                learner_digest=f"c{number}",
                fit=FitFigures(steps=1, train_loss=0.1, converged=True),
                test=TestFigures(
                    accuracy=0.9, balanced_accuracy=0.9, macro_f1=0.9, average_precision=0.9, log_loss=0.1
                ),
                query=None if final else query,
                annotation=None if final else annotation,
                time=Times(fit_s=0, evaluate_s=0, select_s=None, annotate_s=None, harness_s=0),
                ts_ms=number,
                final=final,
                **given_,
            )
        )  # fmt: skip
    return made


def of_classes(*cycles: Sequence[int], n_classes: int = 2) -> list[CycleRecord]:
    return course(*({"stop_set": stop_set(classes, n_classes)} for classes in cycles))


def of_figures(name: str, *values: float | None, n_classes: int = 2) -> list[CycleRecord]:
    return course(*({"stop_set": stop_set((0, 1), n_classes, **{name: v})} for v in values))


# Ten items, half of each class; one that moves makes agreement .9 and, by chance,
# .5 * .6 + .5 * .4 = .5: kappa (.9 - .5) / .5 = .8.
HALVES = [0] * 5 + [1] * 5
MOVED = [0] * 6 + [1] * 4


def test_kappa_is_cohens() -> None:
    assert cohen_kappa(np.array(HALVES), np.array(MOVED)) == pytest.approx(0.8)
    assert cohen_kappa(np.array(HALVES), np.array(HALVES)) == 1.0
    assert cohen_kappa(np.array(HALVES), 1 - np.array(HALVES)) == pytest.approx(-1.0)


def test_a_classifier_of_one_class_agrees_by_chance_alone() -> None:
    zeros = np.zeros(10, dtype=np.int64)
    assert cohen_kappa(zeros, zeros) == 0.0
    assert ends_at(named("kappa:threshold=0.01,window=1"), of_classes([0] * 10, [0] * 10)) is None


@pytest.mark.parametrize(("threshold", "at"), [(0.8, 1), (0.801, 2)])
def test_kappa_stops_at_its_threshold_and_not_below(threshold: float, at: int) -> None:
    records = of_classes(HALVES, MOVED, MOVED)  # .8, then 1
    assert ends_at(named(f"kappa:threshold={threshold},window=1"), records) == at


@pytest.mark.parametrize(("threshold", "at"), [(0.93, 3), (0.94, None)])
def test_kappa_is_a_mean_over_its_window(threshold: float, at: int | None) -> None:
    records = of_classes(HALVES, HALVES, MOVED, MOVED, MOVED)  # 1, .8, 1, 1: means of three .9333
    rule = named(f"kappa:threshold={threshold},window=3")
    assert ends_at(rule, records) == at


def test_kappa_waits_for_as_many_pairs_as_its_window() -> None:
    same = [HALVES] * 6
    assert ends_at(named("kappa"), of_classes(*same)) == 3  # the fourth cycle closes the third pair
    assert ends_at(named("kappa:window=5"), of_classes(*same)) == 5
    assert ends_at(named("kappa:window=6"), of_classes(*same)) is None


@pytest.mark.parametrize(("share", "at"), [(0.0, 2), (0.1, 1), (0.09, 2)])
def test_a_share_of_predictions_may_change(share: float, at: int) -> None:
    records = of_classes(HALVES, MOVED, MOVED)
    assert ends_at(named(f"classification-change:{share}"), records) == at


def test_change_must_hold_for_the_whole_window() -> None:
    records = of_classes(HALVES, HALVES, MOVED, MOVED, MOVED)
    assert ends_at(named("classification-change"), records) == 1
    assert ends_at(named("classification-change:window=2"), records) == 4


def test_confidence_stops_after_so_many_falls_in_a_row() -> None:
    records = of_figures("confidence", 0.7, 0.8, 0.79, 0.78, 0.78, 0.77, 0.76, 0.75)
    assert ends_at(named("confidence:falls=2"), records) == 3
    assert ends_at(named("confidence"), records) == 7  # an equal one breaks the row
    assert ends_at(named("confidence:4"), records) is None


@pytest.mark.parametrize(("threshold", "at"), [(0.3, 1), (0.2999, 2)])
def test_entropy_is_of_the_least_certain_item(threshold: float, at: int) -> None:
    records = of_figures("entropy_max", 0.5, 0.3, 0.1)
    assert ends_at(named(f"entropy:{threshold}"), records) == at


@pytest.mark.parametrize(("n_classes", "at"), [(2, 2), (4, 1)])
def test_overall_uncertainty_is_a_share_of_a_guess(n_classes: int, at: int) -> None:
    half = math.log(4) / 2  # half of a guess among four, a guess among two
    records = of_figures("entropy", 1.0, half, 0.01, n_classes=n_classes)
    assert ends_at(named("overall-uncertainty:0.5"), records) == at
    assert ends_at(named("overall-uncertainty:0.4999"), records) == 2


def test_where_every_item_has_a_label_certainty_does_not_stop() -> None:
    for name, rule in (
        ("entropy_max", "entropy:10"),
        ("entropy", "overall-uncertainty:1"),
        ("confidence", "confidence:1"),
    ):
        assert ends_at(named(rule), of_figures(name, None, None)) is None


@pytest.mark.parametrize(("annotations", "at"), [(10, 0), (11, 1), (20, 1), (21, 2), (31, None)])
def test_a_budget_is_spent_when_it_is_reached(annotations: int, at: int | None) -> None:
    assert ends_at(named(f"budget:{annotations}"), of_classes(*[HALVES] * 3)) == at


@pytest.mark.parametrize(("rule", "at"), [("0.9", 1), ("0.91", 3), ("0.9,window=2", 4)])
def test_a_target_is_reached_by_cross_validation(rule: str, at: int) -> None:
    values = [None, 0.9, 0.89, 0.92, 0.9]
    records = course(*({"cross_validated": value} for value in values))
    assert ends_at(named(f"target:{rule}"), records) == at


EVERY = ["kappa:0.7", "classification-change:0.2", "confidence:1", "entropy:0.3",
         "overall-uncertainty:0.3", "budget:30", "target:0.8"]  # fmt: skip


def random_course(seed: int, n: int) -> list[CycleRecord]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(3, size=12)
    cycles = []
    for _ in range(n):
        classes = np.where(rng.random(12) < 0.1, rng.integers(3, size=12), classes)
        entropy = float(rng.random())
        figures = stop_set(
            [int(c) for c in classes], 3, confidence=float(rng.random()), entropy=entropy,
            entropy_max=entropy,
        )  # fmt: skip
        cycles.append({"stop_set": figures, "cross_validated": float(rng.random())})
    return course(*cycles)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 8), more=st.integers(1, 5))
def test_no_rule_looks_ahead(seed: int, n: int, more: int) -> None:
    """What comes later changes neither whether nor when a rule stops."""
    longer = random_course(seed, n + more)
    for name in EVERY:
        whole, part = ends_at(named(name), longer), ends_at(named(name), longer[:n])
        assert part == (whole if whole is not None and whole < n else None), name


def test_a_cycle_is_decided_on_before_it_asks() -> None:
    """The entropy of what a cycle asks about is known in the next one: in a run and on records alike."""

    class Spy(StoppingRule):
        """Keeps what it was shown."""

        def decide(self, seen: Any) -> Decision:
            shown.append([cycle.asked_entropy for cycle in seen])
            return Decision(False)

    shown: list[list[float | None]] = []
    ends_at(NamedRule("spy", Spy()), of_classes(*[HALVES] * 3))
    assert shown == [[None], [0.5, None], [0.5, 0.5, None]]


def test_no_rule_sees_the_test_set() -> None:
    assert not {"test", "accuracy", "log_loss"} & set(vars(seen_of(of_classes(HALVES)[0])))


@pytest.mark.parametrize("name", EVERY)
def test_every_shipped_rule_keeps_the_contract(name: str) -> None:
    key, _, argument = name.partition(":")
    rule = named(name)
    assert argument
    results = check_rule(key, **rule.choice.parameters)
    assert [result for result in results if result.outcome != "pass"] == []


class Counting(StoppingRule):
    """Stops at the third call, whatever it sees."""

    calls = 0

    def decide(self, seen: Any) -> Decision:
        self.calls += 1
        return Decision(self.calls > 2)


class Drawing(StoppingRule):
    """Draws from the generator that belongs to everybody."""

    def decide(self, seen: Any) -> Decision:
        return Decision(bool(np.random.rand() > 2))  # noqa: NPY002


class Answering(StoppingRule):
    """Gives a word in place of a decision."""

    def decide(self, seen: Any) -> Any:
        return "enough"


@pytest.mark.parametrize(
    ("rule", "check"),
    [("Counting", "past-only"), ("Drawing", "leaves-all-as-it-is"), ("Answering", "decision")],
)
def test_what_breaks_the_contract_is_found(rule: str, check: str) -> None:
    results = check_rule(f"{__file__}:{rule}")
    assert check in [result.name for result in results if result.outcome == "fail"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [(Drawing(), "to leave all as it is"), (Answering(), "expected a Decision")],
)
def test_a_rule_is_watched_in_a_run_as_well(rule: StoppingRule, message: str) -> None:
    with pytest.raises(PluginError, match=f"stopping rule './mine.py:Rule'.*{message}"):
        ask(NamedRule("./mine.py:Rule", rule), made_up_cycles(2))


def test_parameters_are_written_behind_the_name() -> None:
    assert named("kappa").label == "kappa"
    assert named("kappa:0.95").label == "kappa(threshold=0.95)"
    assert named("kappa:0.95,window=5").choice.parameters == {"threshold": 0.95, "window": 5}
    assert named({"name": "kappa", "window": 2}).label == "kappa(window=2)"
    assert named(named("kappa:window=2").choice).choice == named("kappa:window=2").choice


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("kapa", "Did you mean 'kappa'"),
        ("kappa:2", "'threshold' of the stopping rule 'kappa' is not valid"),
        ("kappa:windows=2", "It has: threshold, window"),
        ("kappa:0.9,3", "not understood at '3'"),
        ("budget", "'annotations' of the stopping rule 'budget' is not valid: field required"),
        ("margin", "'margin' is a strategy; expected a stopping rule"),
        (7, "takes a rule's name"),
        ("", "takes a rule's name"),
        ("alharness.stopping:Decision", "not a stopping rule"),
    ],
)
def test_a_slip_is_told_in_a_line(given_: Any, message: str) -> None:
    with pytest.raises(UserError) as told:
        named(given_)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_what_rules_say_of_a_run_so_far() -> None:
    records = of_classes(HALVES, MOVED, MOVED, MOVED)
    assert say(["classification-change", "kappa", "budget:50", "target:0.9"], records) == [
        "classification-change says stop (0.00% changed, at most 0.00% may).",
        "kappa says go on (mean kappa 0.9333, border 0.99).",
        "budget(annotations=50) says go on (40 of 50 annotations).",
        "target(accuracy=0.9) cannot say: the records have no accuracy by cross-validation on the labels.",
    ]
    assert say(["kappa"], []) == ["kappa: nothing to judge yet."]
    old = course({}, {})
    assert say(["kappa"], old) == [
        "kappa cannot say: the records have no predictions on a stop set."
    ]


def test_classes_come_back_as_they_were() -> None:
    for n_classes in (2, 256, 257, 1000):
        classes = [0, n_classes - 1, n_classes // 2]
        assert stop_set(classes, n_classes).predicted().tolist() == classes
