"""``alharness check``: does a strategy, a classifier, a task or a stopping rule keep the contract?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.options import parse_settings, runs_dir_option, section_of, settings_option

if TYPE_CHECKING:
    from alharness.conformance import CheckResult


@click.command()
@click.argument("name")
@settings_option(
    "A parameter of the strategy or data set, for instance steps=10; a classifier's is learner.NAME.",
    "NAME=VALUE",
)
@runs_dir_option
def check(name: str, settings: Sequence[str], runs_dir: Path) -> int:
    """Prove that a strategy, a classifier, a data set or a stopping rule keeps the plug-in contract.

    NAME is a name of 'alharness list', 'list learners', 'list datasets' or 'list stopping',
    package.module:Class or ./file.py:Class. Prints a table of all checks; the exit code is 1 when
    one of them fails. Where there are runs, a strategy's result is kept beside them, and their
    report shows it.
    """
    from alharness import registry

    given = parse_settings(settings)
    group = registry.group_of(name)
    run_checks = {
        registry.LEARNERS: _check_learner,
        registry.TASKS: _check_task,
        registry.STOPPING: _check_rule,
    }.get(group, _check_strategy)
    results = run_checks(name, given)
    width = max(len(result.name) for result in results)
    for result in results:
        mark = {"pass": "ok", "fail": "FAIL", "skip": "-"}[result.outcome]
        # One cause may fail many checks: it is told once, and the others by name below.
        if result.same_as is None:
            click.echo(f"{mark:<4}  {result.name:<{width}}  {result.detail}")
    for first in dict.fromkeys(result.same_as for result in results if result.same_as):
        again = [result.name for result in results if result.same_as == first]
        click.echo(f"FAIL  as {first}, {len(again)} more: {', '.join(again)}")
    failed = [result.name for result in results if result.outcome == "fail"]
    skipped = sum(result.outcome == "skip" for result in results)
    passed = len(results) - len(failed) - skipped
    click.echo(f"{name}: {passed} passed, {len(failed)} failed, {skipped} do not apply.")
    # Beside runs that are there: a check alone makes no folder.
    if group == registry.STRATEGIES and runs_dir.is_dir():
        _keep(runs_dir, name, passed, skipped, failed)
    return 1 if failed else 0


def _check_strategy(name: str, given: Mapping[str, Any]) -> Sequence[CheckResult]:
    from alharness import registry
    from alharness.conformance import check_strategy

    parameters = section_of(given, "strategy")
    found = registry.find_strategy(name)
    return check_strategy(found.cls, **found.keywords(**parameters))


def _check_task(name: str, given: Mapping[str, Any]) -> Sequence[CheckResult]:
    from alharness import registry
    from alharness.conformance.tasks import check_task

    parameters = section_of(given, "task")
    return check_task(lambda: registry.resolve_task(name, **parameters))


def _check_learner(name: str, given: Mapping[str, Any]) -> Sequence[CheckResult]:
    from alharness.conformance.learners import check_learner
    from alharness.errors import validating
    from alharness.learners.settings import LearnerSettings

    values = {**section_of(given, "learner"), "kind": name}
    with validating(LearnerSettings, "learner"):
        settings = LearnerSettings(**values)
    return check_learner(settings)


def _check_rule(name: str, given: Mapping[str, Any]) -> Sequence[CheckResult]:
    from alharness.conformance.stopping import check_rule
    from alharness.stopping import choice_of

    key, parameters = choice_of(name)
    return check_rule(key, **{**parameters, **given})


def _keep(runs_dir: Path, name: str, passed: int, skipped: int, failed: Sequence[str]) -> None:
    """Keep a strategy's result beside the runs."""
    from alharness import registry
    from alharness.engine import environment
    from alharness.records import keep_conformance

    kept = keep_conformance(
        runs_dir,
        name,
        {
            "distribution": registry.provider(registry.STRATEGIES, name),
            "commit": environment.git_commit(),
            "passed": passed,
            "skipped": skipped,
            "failed": failed,
        },
    )
    click.echo(f"Kept in {kept}")
