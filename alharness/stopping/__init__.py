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

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.stopping.asking import ask as ask
    from alharness.stopping.asking import ends_at as ends_at
    from alharness.stopping.asking import lacking as lacking
    from alharness.stopping.asking import say as say
    from alharness.stopping.naming import NamedRule as NamedRule
    from alharness.stopping.naming import all_rules as all_rules
    from alharness.stopping.naming import choice_of as choice_of
    from alharness.stopping.naming import named as named
    from alharness.stopping.naming import rule_class as rule_class
    from alharness.stopping.rule import NEEDS as NEEDS
    from alharness.stopping.rule import Decision as Decision
    from alharness.stopping.rule import Parameters as Parameters
    from alharness.stopping.rule import Seen as Seen
    from alharness.stopping.rule import StoppingRule as StoppingRule
    from alharness.stopping.rule import seen_of as seen_of

__getattr__ = from_files(__name__, homes_in(__file__))
