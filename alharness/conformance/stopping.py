"""The checks that every stopping rule must pass: ``alharness check ./mine.py:Rule``.

In a third party's pytest::

    from alharness.conformance.stopping import check_rule

    def test_contract():
        assert not [result for result in check_rule("./mine.py:Rule") if result.outcome == "fail"]

Made-up cycles of a classifier that grows certain. That a rule is sound is proven here, not that it is good.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alharness import seeds
from alharness.border.state import changed, global_marks
from alharness.conformance.outcomes import CheckResult, Checks, outcomes
from alharness.records import StopSetFigures
from alharness.stopping import Decision, NamedRule, Seen, ask, named

N_CYCLES = 12
N_ITEMS = 40
N_CLASSES = 3


def made_up_cycles(n: int = N_CYCLES) -> list[Seen]:
    """A course of n cycles: fewer predictions change, and certainty grows, from cycle to cycle."""
    rng = seeds.rng(0, "conformance of stopping rules")
    classes = rng.integers(N_CLASSES, size=N_ITEMS)
    found = []
    for cycle in range(n):
        some = rng.choice(N_ITEMS, size=max(0, 10 - 2 * cycle), replace=False)
        classes = classes.copy()
        classes[some] = rng.integers(N_CLASSES, size=len(some))
        entropy = 1.0 / (1 + cycle) ** 2
        found.append(
            Seen(
                cycle=cycle,
                n_labelled=10 * (cycle + 1),
                n_asked=10 * (cycle + 1),
                n_synthetic=0,
                cost=10.0 * (cycle + 1),
                train_loss=0.5 / (1 + cycle),
                stop_set=StopSetFigures(
                    size=N_ITEMS,
                    n_labelled=cycle,
                    n_classes=N_CLASSES,
                    classes=StopSetFigures.packed(classes, N_CLASSES),
                    confidence=1 - entropy / 2,
                    entropy=entropy,
                    entropy_max=2 * entropy,
                ),
                cross_validated=1 - 0.5 / (1 + cycle),
                asked_entropy=2 * entropy,
            )
        )
    return found


@dataclass(frozen=True)
class Subject:
    """A rule under check: its name and parameters, of which every check makes its own."""

    name: str
    parameters: dict[str, Any]

    def fresh(self) -> NamedRule:
        return named({"name": self.name, **self.parameters})

    def decisions(self, rule: NamedRule, cycles: Sequence[Seen]) -> list[Decision]:
        """What a rule says after each cycle, the first first."""
        return [ask(rule, cycles[: n + 1]) for n in range(len(cycles))]


CHECKS: Checks[Subject] = Checks()


def check_rule(name: str, **parameters: Any) -> list[CheckResult]:
    """Run all checks of a stopping rule.

    Raises:
        UserError: no such rule, or a parameter that is wrong or missing.
    """
    subject = Subject(name, parameters)
    subject.fresh()  # what the user mistyped is no finding
    return outcomes(CHECKS, subject)


@CHECKS.named("decision")
def _decision(subject: Subject) -> None:
    """decide gives a Decision with a bool and a text after every cycle, the first included"""
    for found in subject.decisions(subject.fresh(), made_up_cycles()):
        assert isinstance(found, Decision), f"expected a Decision, found a {type(found).__name__}"
        assert isinstance(found.stop, bool), f"stop is {found.stop!r}, no bool"
        assert isinstance(found.reason, str), f"reason is {found.reason!r}, no text"
        assert "\n" not in found.reason, "reason has more than one line"


@CHECKS.named("deterministic")
def _deterministic(subject: Subject) -> None:
    """the same cycles give the same decision, by the same object and by another"""
    rule, cycles = subject.fresh(), made_up_cycles()
    first = subject.decisions(rule, cycles)
    assert subject.decisions(rule, cycles) == first, "another decision when asked again"
    assert subject.decisions(subject.fresh(), cycles) == first, "another object decides otherwise"


@CHECKS.named("past-only")
def _past_only(subject: Subject) -> None:
    """a decision follows from the cycles that it is given: not from those seen before or later"""
    cycles = made_up_cycles()
    backwards = subject.fresh()
    first = subject.decisions(subject.fresh(), cycles)
    for n in reversed(range(len(cycles))):
        found = ask(backwards, cycles[: n + 1])
        assert found == first[n], f"another decision in cycle {n} after later cycles were seen"


@CHECKS.named("resume")
def _resume(subject: Subject) -> None:
    """a rule that is made anew in the middle of a run decides as one that was there from the start"""
    cycles = made_up_cycles()
    first = subject.decisions(subject.fresh(), cycles)
    for n in range(len(cycles)):
        found = ask(subject.fresh(), cycles[: n + 1])
        assert found == first[n], f"another decision in cycle {n} after an interruption"


@CHECKS.named("leaves-all-as-it-is")
def _leaves_all(subject: Subject) -> None:
    """decide changes neither the cycles nor anything that belongs to everybody, random states included"""
    rule, cycles = subject.fresh(), made_up_cycles()
    kept, before = copy.deepcopy(cycles), global_marks()
    for n in range(len(cycles)):
        rule.rule.decide(cycles[: n + 1])
    touched = changed(before, global_marks())
    assert not touched, f"decide changed {touched[0]}"
    assert cycles == kept, "decide changed the cycles that it was given"


@CHECKS.named("gaps")
def _gaps(subject: Subject) -> None:
    """where every item of the stop set has a label there is no certainty to judge, and no error"""
    cycles = made_up_cycles()
    empty = {"confidence": None, "entropy": None, "entropy_max": None, "n_labelled": N_ITEMS}
    bare = [
        replace(
            cycle,
            stop_set=cycle.stop_set and cycle.stop_set.model_copy(update=empty),
            cross_validated=None,
        )
        for cycle in cycles
    ]
    for found in subject.decisions(subject.fresh(), bare):
        assert isinstance(found, Decision), f"expected a Decision, found a {type(found).__name__}"


@CHECKS.named("one-class")
def _one_class(subject: Subject) -> None:
    """a classifier that puts everything into one class, as first ones do, is judged without an error"""
    alike = StopSetFigures.packed(np.zeros(N_ITEMS, dtype=np.int64), N_CLASSES)
    cycles = [
        replace(
            cycle, stop_set=cycle.stop_set and cycle.stop_set.model_copy(update={"classes": alike})
        )
        for cycle in made_up_cycles()
    ]
    for found in subject.decisions(subject.fresh(), cycles):
        assert isinstance(found, Decision), f"expected a Decision, found a {type(found).__name__}"


@CHECKS.named("spec")
def _spec(subject: Subject) -> None:
    """name and parameters as a run's spec holds them lead to the same rule again"""
    rule = subject.fresh()
    again = named(rule.choice)
    assert again.choice == rule.choice, "the parameters come back as others"
    cycles = made_up_cycles()
    assert subject.decisions(again, cycles) == subject.decisions(rule, cycles), (
        "the rule that a spec leads to decides otherwise"
    )
