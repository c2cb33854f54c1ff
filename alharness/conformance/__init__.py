"""The checks that every strategy must pass, for ours and for anyone's.

In a third party's pytest::

    import pytest
    from alharness import conformance

    @pytest.mark.parametrize("check", conformance.checks(MyStrategy), ids=str)
    def test_contract(check):
        check()

On the command line: ``alharness check ./my_strategy.py:MyStrategy``.

The checks run on made-up problems of some ninety 8x8 images. Strategies that need an image generator
or an auto-encoder get one that was trained for a few steps: these checks prove that a plug-in is
sound, not that it is good.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alharness import numerics, registry
from alharness.conformance.checks import CHECKS
from alharness.conformance.outcomes import CheckResult, outcomes
from alharness.conformance.scene import Bench
from alharness.errors import PluginError
from alharness.strategy import Strategy

__all__ = ["BoundCheck", "CheckResult", "ContractError", "check_strategy", "checks"]


class ContractError(PluginError, AssertionError):
    """A check that failed in the words of a run; to pytest an assertion like any other."""


@dataclass(frozen=True)
class BoundCheck:
    """One check of one strategy, to be called: raises AssertionError, SkipTest, or what it raised."""

    name: str
    strategy_class: type[Strategy]
    parameters: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="alharness-check-") as folder:
            try:
                CHECKS[self.name](Bench(self.strategy_class, self.parameters, Path(folder)))
            except PluginError as error:
                if isinstance(error.__cause__, Exception):
                    raise error.__cause__ from None  # the author's traceback says more than our line
                raise ContractError(str(error), error.expected, error.found) from error


def checks(strategy_class: type[Strategy], **parameters: Any) -> list[BoundCheck]:
    """All checks of a strategy, one callable each, for ``pytest.mark.parametrize``."""
    return [BoundCheck(name, strategy_class, parameters) for name in CHECKS]


@numerics.exact()
def check_strategy(strategy_class: type[Strategy], **parameters: Any) -> list[CheckResult]:
    """Run all checks and report each.

    Args:
        strategy_class: the plug-in.
        parameters: its parameters, as in ``--set strategy.NAME=VALUE``.

    Raises:
        UserError: the strategy suits none of the problems, or a parameter is wrong or has a name that is
            reserved.
    """
    registry.require_free_names("strategy", strategy_class.__name__, strategy_class)
    with tempfile.TemporaryDirectory(prefix="alharness-check-") as folder:
        return outcomes(CHECKS, Bench(strategy_class, parameters, Path(folder)))
