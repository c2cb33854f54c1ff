"""Checks by name, and what came of them: one table and one loop for every kind of plug-in."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from alharness.border.state import global_marks, put_back
from alharness.errors import PluginError, Terminated, UserError

Subject = TypeVar("Subject")


class Checks(dict[str, Callable[[Subject], None]], Generic[Subject]):
    """Checks of one kind of plug-in in the order in which they are called.

    Each takes what is under check, and raises AssertionError, or SkipTest, or returns; its docstring says
    what it proves.
    """

    def named(self, name: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """A decorator that adds a check; under a name that is there, in its place."""

        def register(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
            self[name] = check
            return check

        return register


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


def outcomes(
    checks: Mapping[str, Callable[[Subject], None]], subject: Subject
) -> list[CheckResult]:
    """Call every check on the subject; what one of them raises stops no other."""
    results: list[CheckResult] = []
    told: dict[str, str] = {}  # errors so far, with the check that told of each
    before = global_marks()
    for name, function in checks.items():
        try:
            function(subject)
        except unittest.SkipTest as reason:
            results.append(CheckResult(name, "skip", str(reason)))
        except AssertionError as failure:
            results.append(CheckResult(name, "fail", str(failure)))
        except (KeyboardInterrupt, Terminated):  # the user's
            raise
        except (
            BaseException
        ) as error:  # a crash of the plug-in, or its exit, is a finding and no end
            detail = _told(error)
            key = error.found if isinstance(error, PluginError) else detail
            first = told.setdefault(key, name)
            same_as = first if first != name else None
            results.append(CheckResult(name, "fail", detail, same_as))
        else:
            results.append(CheckResult(name, "pass", inspect.getdoc(function) or ""))
        put_back(before)  # what one check found changed is no fault of the next
    return results


def _told(error: BaseException) -> str:
    """An error as a detail of the table, which names the plug-in already."""
    if isinstance(error, PluginError):
        return f"expected {error.expected}, found {error.found}"
    if isinstance(error, SystemExit):
        return f"an exit with code {error.code}"
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
