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

import inspect
import tempfile
import unittest
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alharness import numerics
from alharness.conformance.checks import CHECKS
from alharness.conformance.scene import Bench
from alharness.errors import PluginError, UserError
from alharness.strategy import Strategy

__all__ = ["BoundCheck", "CheckResult", "check_strategy", "checks"]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        name: which check.
        outcome: ``pass``, ``fail`` or ``skip``.
        detail: what the check proves; why it failed; or why it does not apply.
        same_as: the check before it that failed by the very same error, if there is one.
    """

    name: str
    outcome: Literal["pass", "fail", "skip"]
    detail: str
    same_as: str | None = None


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
                raise


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
        UserError: the strategy suits none of the problems, or a parameter is wrong.
    """
    results: list[CheckResult] = []
    told: dict[str, str] = {}  # errors so far, with the check that told of each
    with tempfile.TemporaryDirectory(prefix="alharness-check-") as folder:
        bench = Bench(strategy_class, parameters, Path(folder))
        for name, function in CHECKS.items():
            try:
                function(bench)
            except unittest.SkipTest as reason:
                results.append(CheckResult(name, "skip", str(reason)))
            except AssertionError as failure:
                results.append(CheckResult(name, "fail", str(failure)))
            except Exception as error:  # a crash of the plug-in is a finding, not an end
                detail = _told(error)
                key = error.found if isinstance(error, PluginError) else detail
                first = told.setdefault(key, name)
                same_as = first if first != name else None
                results.append(CheckResult(name, "fail", detail, same_as))
            else:
                results.append(CheckResult(name, "pass", inspect.getdoc(function) or ""))
    return results


def _told(error: Exception) -> str:
    """An error as a detail of the table, which names the strategy already."""
    if isinstance(error, PluginError):
        return f"expected {error.expected}, found {error.found}"
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
