"""``alharness.ask``: labels asked of a person, or of anything else that is not a data set's own targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from alharness.api.running import LOG, AnyPath, bound_of, places_of
from alharness.files import merge

if TYPE_CHECKING:
    from alharness.engine.labelling import LabelSession
    from alharness.strategy import Strategy
    from alharness.tasks.base import TaskPlugin


def ask(
    strategy: str | type[Strategy] | Mapping[str, Any],
    dataset: str | type[TaskPlugin] | Mapping[str, Any],
    *,
    runs_dir: AnyPath | None = None,
    data_root: AnyPath | None = None,
    download: bool = False,
    fresh: bool = False,
    who: str | None = None,
    sheets: bool = False,
    warn: Callable[[str], None] | None = None,
    **settings: Any,
) -> LabelSession:
    """A labelling session: the strategy chooses, you tell the classes, in turns, for as long as you like.

    It is the run of ``alharness label`` with the same settings: what was begun in one is continued in the
    other. Nothing is loaded before ``next`` is called for the first time.

    .. code-block:: python

        with alharness.ask("margin", "digits-two", budget=40) as session:
            while (query := session.next()) is not None:
                session.tell([my_own_tool(item) for item in query.items])

    Args:
        strategy, dataset: as for ``alharness.run``.
        runs_dir, data_root, download: as for ``alharness.run``.
        fresh: throw away the records of this run and start over; answers to a query that comes again stand.
        who: gives the answers; the user of this machine by default.
        sheets: put a table to fill in into the run's folder for each query.
        warn: told, in a sentence, what a user of the result should know; by default the logger ``alharness``.
        settings: as for ``alharness.run``.

    Raises:
        UserError: unknown names or settings.
    """
    from alharness.engine.labelling import LabelSession
    from alharness.tracking import RunView

    tell = warn or (lambda text: LOG.warning("%s", text))
    bound = bound_of(strategy, dataset, merge({"oracle": {"mode": "human"}}, settings))
    return LabelSession(
        bound,
        places_of(runs_dir, data_root, download=download),
        who=who,
        fresh=fresh,
        sheets=sheets,
        # What a person labels is no benchmark: the view in MLflow leaves it out, unless it is asked for.
        observers=[RunView(None, "alharness", tell)],
        warn=tell,
    )
