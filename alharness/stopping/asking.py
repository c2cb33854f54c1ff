"""Rules are asked: in a run, and afterwards on records, by the same call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alharness.border.author import Author
from alharness.errors import is_own
from alharness.records.records import CycleRecord
from alharness.stopping.naming import NamedRule, named
from alharness.stopping.rule import NEEDS, Decision, Seen, seen_of


def ask(rule: NamedRule, seen: Sequence[Seen]) -> Decision:
    """What a rule says after the last of some cycles.

    Raises:
        PluginError: it raises, changes what belongs to everybody, or gives no decision.
    """
    author = Author(rule.rule, rule.name, "stopping rule")
    # Its own tuple: a rule that sorts or clears what it was shown changes nobody's history.
    shown = (*seen[:-1], seen[-1].before_asking())
    expected = "a Decision from decide"
    if is_own(rule.rule):
        return rule.rule.decide(shown)
    # Which needs torch, for its random states: reports on records with our own rules do without.
    from alharness.border.call import watched

    found: Any = watched(author, "decide", expected, lambda: rule.rule.decide(shown))
    if not isinstance(found, Decision):
        author.refuse(expected, f"a {type(found).__name__}", call="decide")
    stop: object = found.stop  # whatever its author put there
    if not isinstance(stop, bool):
        author.refuse("stop=True or stop=False in a Decision", f"stop={stop!r}"[:80], call="decide")
    return found


def lacking(rule: NamedRule, records: Sequence[CycleRecord]) -> str | None:
    """What a rule needs and records do not have, in words; None when all is there."""
    seen = [seen_of(record) for record in records]
    has = {
        "stop_set": all(cycle.stop_set is not None for cycle in seen),
        # Of a handful of labels there is no estimate: the rule itself says so.
        "cross_validation": any(cycle.cross_validated is not None for cycle in seen),
    }
    return next((NEEDS[need] for need in sorted(rule.rule.needs) if not has.get(need, True)), None)


def ends_at(rule: NamedRule, records: Sequence[CycleRecord]) -> int | None:
    """The cycle after which a rule would have ended a run; None where it never would have.

    Each cycle is decided on those before it alone, as in the run.
    """
    seen = [seen_of(record) for record in records]
    for n in range(1, len(seen) + 1):
        if ask(rule, seen[:n]).stop:
            return n - 1
    return None


def say(rules: Sequence[NamedRule | str], records: Sequence[CycleRecord]) -> list[str]:
    """What rules say of a run so far, a sentence each: for whoever labels and wonders whether to go on.

    Args:
        rules: names as ``--stop`` takes them, or what ``named`` gave.
        records: all complete cycles.

    Raises:
        UserError: an unknown rule, or a wrong parameter.
    """
    told = []
    for given in rules:
        rule = named(given) if isinstance(given, str) else given
        if not records:
            told.append(f"{rule.label}: nothing to judge yet.")
        elif (lack := lacking(rule, records)) is not None:
            told.append(f"{rule.label} cannot say: the records have no {lack}.")
        else:
            found = ask(rule, [seen_of(record) for record in records])
            why = f" ({found.reason})" if found.reason else ""
            told.append(f"{rule.label} says {'stop' if found.stop else 'go on'}{why}.")
    return told
