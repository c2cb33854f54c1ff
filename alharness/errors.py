"""The one exception for everything that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message says what was expected, what was found and what to do next.

    The command line prints it as one line and exits with code 2, without a traceback. Any other
    exception is a bug of ours and keeps its traceback.
    """


class DamagedError(UserError):
    """A file is not what was written: who can make it anew does, everybody else tells the user."""


def unknown_name(kind: str, name: str, available: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest name that does."""
    names = sorted(available)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    listed = ", ".join(names) if names else "none"
    return UserError(f"Unknown {kind} '{name}'.{hint} Available: {listed}.")
