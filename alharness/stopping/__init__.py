"""Stopping rules: when labelling has gone on long enough. Plug-ins of the group ``alharness.stopping``.

A rule sees what the cycles so far know and decides; it never sees the test set or a hidden label::

    from alharness.stopping import Decision, Parameters, StoppingRule

    class Enough(StoppingRule):
        '''Stop at so many labels.'''

        class Parameters(Parameters):
            labels: int = 100

        def decide(self, seen):
            n = seen[-1].n_labelled
            return Decision(n >= self.parameters.labels, f"{n} of {self.parameters.labels} labels")

``alharness run --stop ./mine.py:Enough:labels=60`` ends a run by it, ``alharness compare --stopping
./mine.py:Enough`` judges it on runs that were made without it, and ``alharness check ./mine.py:Enough``
proves that it keeps the contract.
"""

from __future__ import annotations

from alharness.stopping.asking import ask, ends_at, lacking, say
from alharness.stopping.naming import NamedRule, all_rules, choice_of, named, rule_class
from alharness.stopping.rule import NEEDS, Decision, Parameters, Seen, StoppingRule, seen_of

__all__ = [
    "NEEDS",
    "Decision",
    "NamedRule",
    "Parameters",
    "Seen",
    "StoppingRule",
    "all_rules",
    "ask",
    "choice_of",
    "ends_at",
    "lacking",
    "named",
    "rule_class",
    "say",
    "seen_of",
]
