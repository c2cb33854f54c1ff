"""What a run and a strategy are called in tables, figures and messages.

The reader of run folders is ``alharness.records``; its ``Run``, ``read_run`` and ``read_runs`` are also
found here, where version 0.2 had them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from alharness.errors import UserError
from alharness.records import Run, read_run, read_runs

__all__ = ["Run", "describe", "display_label", "label_of", "read_run", "read_runs"]


def describe(run: Run) -> str:
    """A run in words."""
    if not run.has_spec:
        return str(run.folder)
    seed, data_seed = run.pair
    seeds = f"seed {seed}" if seed == data_seed else f"seed {seed}, data seed {data_seed}"
    return f"{run.task} / {label_of(run)} / {seeds}"


def label_of(run: Run) -> str:
    """What a run's strategy is called in tables."""
    return display_label(run.strategy, run.parameters, run.facts.strategy.at_defaults)


def display_label(
    strategy: str, parameters: Mapping[str, Any], at_defaults: Sequence[str] = ()
) -> str:
    """A strategy's name with those of its parameters that are not at their defaults.

    Args:
        at_defaults: parameters that the record says had theirs, for a strategy that is not installed here.
    """
    defaults, before = _declared(strategy)
    if defaults is None:
        defaults = {name: parameters[name] for name in at_defaults if name in parameters}
    # An old run does not record the recipe that it followed; it is not the default of today.
    recorded = {**before, **parameters}
    shown = [
        f"{key}={_short(value)}"
        for key, value in sorted(recorded.items())
        if key not in defaults or defaults[key] != value
    ]
    return f"{strategy}({', '.join(shown)})" if shown else strategy


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@lru_cache
def _declared(strategy: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Defaults of a strategy's parameters (None: not installed here), and the recipes of old runs."""
    from alharness.artefacts.keys import before
    from alharness.registry import find_strategy

    try:
        plugin = find_strategy(strategy)
    except UserError:
        return None, {}
    return plugin.defaults, before(plugin.parameters)
