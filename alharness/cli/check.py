"""``alharness check``: does a strategy keep the plug-in contract?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from alharness.cli.options import runs_dir_option


@click.command()
@click.argument("strategy")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the strategy, for instance steps=10.",
)
@runs_dir_option
def check(strategy: str, settings: Sequence[str], runs_dir: Path) -> int:
    """Prove that a strategy keeps the plug-in contract.

    STRATEGY is a name of 'alharness list', package.module:Class or ./file.py:Class. Prints a table
    of all checks; the exit code is 1 when one of them fails. Where there are runs, the result is
    kept beside them, and their report shows it.
    """
    from alharness import registry
    from alharness.conformance import check_strategy
    from alharness.files import merge
    from alharness.run import environment
    from alharness.spec import parse_set

    parameters = merge(*(parse_set(text.removeprefix("strategy.")) for text in settings))
    found = registry.find_strategy(strategy)
    results = check_strategy(found.cls, **found.keywords(**parameters))
    width = max(len(result.name) for result in results)
    for result in results:
        mark = {"pass": "ok", "fail": "FAIL", "skip": "-"}[result.outcome]
        if result.same_as is None:
            click.echo(f"{mark:<4}  {result.name:<{width}}  {result.detail}")
    for first in dict.fromkeys(result.same_as for result in results if result.same_as):
        again = [result.name for result in results if result.same_as == first]
        click.echo(f"FAIL  as {first}, {len(again)} more: {', '.join(again)}")
    failed = [result.name for result in results if result.outcome == "fail"]
    skipped = sum(result.outcome == "skip" for result in results)
    passed = len(results) - len(failed) - skipped
    click.echo(f"{strategy}: {passed} passed, {len(failed)} failed, {skipped} do not apply.")
    if runs_dir.is_dir():
        from alharness.records import keep_conformance

        kept = keep_conformance(
            runs_dir,
            strategy,
            {
                "distribution": registry.provider(registry.STRATEGIES, strategy),
                "commit": environment.git_commit(),
                "passed": passed,
                "skipped": skipped,
                "failed": failed,
            },
        )
        click.echo(f"Kept in {kept}")
    return 1 if failed else 0
