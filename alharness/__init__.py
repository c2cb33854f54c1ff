"""alharness: a benchmark harness for pool-based deep active learning.

From Python: ``alharness.run``, ``ask``, ``sweep``, ``load_runs`` and ``compare`` do what the commands do
(``alharness.api``). Importing the package is cheap on purpose: nothing here imports torch, mlflow or a
plug-in before one of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.api import ComparisonResult as ComparisonResult
    from alharness.api import RunResult as RunResult
    from alharness.api import SweepResult as SweepResult
    from alharness.api import TuneResult as TuneResult
    from alharness.api import ask as ask
    from alharness.api import compare as compare
    from alharness.api import load_runs as load_runs
    from alharness.api import run as run
    from alharness.api import sweep as sweep
    from alharness.api import tune as tune
    from alharness.errors import UserError as UserError

__version__ = "0.2.0"

_LATE = homes_in(__file__)

__all__ = ["__version__", *_LATE]


__getattr__ = from_files(__name__, _LATE)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
