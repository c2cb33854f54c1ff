"""The MLflow view of runs: a copy of the records that can be thrown away and rebuilt.

The only importer of mlflow. What is logged for a cycle is a function of its record, with the
record's own time stamp, so logging a record twice writes the same rows: ``alharness sync`` doubles no
point. A store that does not answer costs a few seconds and its view: the records stay, the user is told
once, ``alharness sync`` catches up.

``stores`` says what a URI means and keeps SQLite files whole, ``seen`` what a view holds already,
``content`` and ``metrics`` turn a run's folder into names and numbers, ``view`` writes them (``database``
where the store is an SQLite file), ``sync`` brings folders into it, ``visits`` does so for a run or a sweep.
"""

from alharness.tracking.metrics import cycle_metrics
from alharness.tracking.stores import check_uri, default_uri, shown
from alharness.tracking.view import DEFAULT_EXPERIMENT, Tracking, open_tracking, sync_run
from alharness.tracking.visits import RunView, Visits

__all__ = [
    "DEFAULT_EXPERIMENT",
    "RunView",
    "Tracking",
    "Visits",
    "check_uri",
    "cycle_metrics",
    "default_uri",
    "open_tracking",
    "shown",
    "sync_run",
]
