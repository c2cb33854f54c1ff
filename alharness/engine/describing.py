"""What a run says of itself beside its records: ``spec.toml`` and ``env.json``."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch

from alharness import numerics, plugins, registry
from alharness.engine import environment
from alharness.engine.opening import OpenTask
from alharness.errors import UserError
from alharness.files import write_text
from alharness.records import RunFacts, RunFolder
from alharness.records.facts import Session, StartFacts, StrategyFacts, TaskFacts
from alharness.spec import RunSpec, protocol_fields


def describe(
    spec: RunSpec,
    folder: RunFolder,
    task: OpenTask,
    *,
    caveat: str = "",
    start: StartFacts | None = None,
    is_judged: bool = False,
    resumed_at: int,
) -> None:
    """``spec.toml`` and ``env.json``; refuses to continue a run on other data.

    Args:
        caveat: of the strategy.
        start: how a new run's initial set was chosen, where a strategy chose it.
        is_judged: whether it is shown figures of the test set, and so is a bound and no strategy.
        resumed_at: the first cycle that this session makes.
    """
    data, pool = task.data, task.pool
    before = folder.facts()
    fingerprint, made_on = data.fingerprint, before.task.fingerprint
    if resumed_at and made_on is not None and made_on != fingerprint:
        # A run that was begun before 0.3 names somebody's own data as they named themselves, to its end.
        if made_on != data.claimed or before.task.computed:
            raise other_data(spec, folder, made_on, fingerprint)
        fingerprint = made_on
    protocol = protocol_fields(spec, fingerprint)
    origin = registry.provider(registry.STRATEGIES, spec.strategy.name)
    session = Session(
        started_ms=time.time_ns() // 1_000_000,
        first_cycle=resumed_at,
        versions={**environment.versions(), **_libraries(spec)},
        hardware=environment.hardware(torch.device(spec.device)),
        arithmetic=numerics.describe(),
        git_commit=environment.git_commit(),
        distribution=origin,
    )
    first, *_ = sessions = [*before.sessions, session]
    facts = RunFacts(
        protocol=protocol,
        run_key=spec.run_key,
        task=TaskFacts(
            fingerprint=fingerprint,
            pool_fingerprint=data.pool_fingerprint,
            computed=fingerprint == data.fingerprint,
            **({"uneven": True} if task.uneven else {}),
            n_shared=data.n_shared,
            class_names=list(data.class_names),
            n_pool=pool.n,
            n_test=len(data.test_targets),
            test_counts=np.bincount(data.test_targets, minlength=data.n_classes).tolist(),
            item_shape=list(pool.item_shape),
            residency=pool.residency,
            forecast=str(task.forecast),
            synthetic=data.synthetic,
            notes=dict(data.notes),
        ),
        strategy=StrategyFacts(
            distribution=origin,
            # Only where there is something to say: all other runs say what they always said.
            **({"caveat": caveat} if caveat else {}),
            **({"looks_at_test_labels": True} if is_judged else {}),
            **({"at_defaults": _at_defaults(spec)} if _is_foreign(spec.strategy.name) else {}),
        ),
        # Of the session that began the run: those that went on say themselves what they had.
        # Only where a strategy chose: all other runs say what they always said.
        **({"start": chosen} if (chosen := start or before.start).select_s is not None else {}),
        versions=first.versions,
        hardware=first.hardware,
        git_commit=first.git_commit,
        sessions=sessions,
    )
    folder.write_facts(facts)
    # Last: a folder with a spec has all that a reader of runs asks for.
    write_text(folder.spec, spec.to_toml())


def _is_foreign(strategy: str) -> bool:
    """Whether code that is not ours has a part in it."""
    return bool(plugins.identity_of(registry.STRATEGIES, strategy))


def _at_defaults(spec: RunSpec) -> list[str]:
    defaults, given = registry.find_strategy(spec.strategy.name).defaults, spec.strategy.parameters
    return [name for name, value in defaults.items() if name in given and given[name] == value]


def describe_preparation(folder: RunFolder, changes: Mapping[str, str]) -> None:
    """What the strategy put in the place of the problem's own while it prepared."""
    if changes:
        facts = folder.facts()
        strategy = facts.strategy.model_copy(update={"adapted": dict(changes)})
        folder.write_facts(facts.model_copy(update={"strategy": strategy}))


def _libraries(spec: RunSpec) -> dict[str, str]:
    """Versions of what foreign plug-ins import, beside those that every result depends on."""
    found: dict[str, str] = {}
    for group, name in spec.named:
        found |= plugins.libraries_of(group, name)
    return found


def other_data(spec: RunSpec, folder: RunFolder, before: str, now: str) -> UserError:
    """A run goes on, and is returned, only on the data that it was made on."""
    return UserError(
        f"The run in '{folder.path}' was made on data with fingerprint {before}; '{spec.task.name}' now "
        f"has {now}. Use the same data, or start over with --fresh."
    )
