"""The commands as functions, for scripts and notebooks: ``alharness.run`` and its neighbours.

They write and read the same folders as the commands, so a run that was begun in one is continued in the
other. What a user can mend is a ``UserError``; its text names options as the command has them
(``--fresh`` is ``fresh=True``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.api.comparing import ComparisonResult as ComparisonResult
    from alharness.api.comparing import compare as compare
    from alharness.api.frames import load_runs as load_runs
    from alharness.api.labelling import ask as ask
    from alharness.api.running import RunResult as RunResult
    from alharness.api.running import run as run
    from alharness.api.sweeping import SweepResult as SweepResult
    from alharness.api.sweeping import sweep as sweep
    from alharness.api.tuning import TuneResult as TuneResult
    from alharness.api.tuning import tune as tune

__getattr__ = from_files(__name__, homes_in(__file__))
