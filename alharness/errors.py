"""The one exception for everything that a user can mend, and how plug-ins are named in it."""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

#: With this variable set, the traceback behind a line of ours is shown, too.
TRACEBACK = "ALHARNESS_TRACEBACK"


_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class UserError(Exception):
    """Bad input: the message says what was expected, what was found and what to do next.

    The command line prints it as one line and exits with code 2, without a traceback. Any other
    exception is a bug of ours and keeps its traceback. What it cites of the input may hold line breaks
    and signs that steer a terminal: they are shown as escapes.
    """

    def __str__(self) -> str:
        return _STEERING.sub(lambda sign: repr(sign[0])[1:-1], super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What IPython and Jupyter show of it: the line that the command line shows, not our frames."""
        if os.environ.get(TRACEBACK):
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self}"]


class DamagedError(UserError):
    """A file is not what was written: who can make it anew does, everybody else tells the user."""


def unknown_name(kind: str, name: str, available: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest name that does."""
    names = sorted(available)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    listed = ", ".join(names) if names else "none"
    return UserError(f"Unknown {kind} '{name}'.{hint} Available: {listed}.")


def explain(error: ValidationError, model: type[BaseModel], section: str = "") -> UserError:
    """A pydantic error as one line: which setting, what was expected, what was found.

    Args:
        model: what was validated, whose fields are named where a setting is unknown.
        section: what the model is called before its settings' names; empty for a whole spec or file.
    """
    first = error.errors()[0]
    place = ".".join(part for part in [section, *map(str, first["loc"])] if part)
    if first["type"] == "extra_forbidden":
        home, _, own = place.rpartition(".")
        names = fields_at(model, first["loc"][:-1])
        if not names:
            return UserError(f"Unknown setting '{place}': '{home}' has none. Leave '{own}' out.")
        return unknown_name(
            "setting", place, [f"{home}.{name}" if home else name for name in names]
        )
    found = first.get("input")
    text = f"The setting '{place}' is not valid: {first['msg'].lower()}; found {found!r}."
    return UserError(text + " See 'alharness show' for what it may be.")


@contextmanager
def validating(model: type[BaseModel], section: str = "") -> Iterator[None]:
    """What a model refuses inside the block becomes one line for the user.

    Args:
        model, section: as for ``explain``.

    Raises:
        UserError: in place of pydantic's error.
    """
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        raise explain(error, model, section) from error


def fields_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Field names of the model that a path of fields leads to."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None or not _is_model(field.annotation):
            return []
        model = cast("type[BaseModel]", field.annotation)
    return list(model.model_fields)


def _is_model(annotation: Any) -> bool:
    from pydantic import BaseModel

    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


class PendingError(UserError):
    """A run waits for somebody, and has not failed."""


class PluginError(UserError):
    """A plug-in raised, exited or broke a rule: whose it is, where, and what was expected.

    Attributes:
        expected, found: the two halves of it, for those who tell several such errors apart.
    """

    def __init__(self, message: str, expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.expected, self.found = expected, found


class Terminated(SystemExit):
    """The process was told to end (SIGTERM): nobody's fault, whoever was at work at that moment."""


def end_on_sigterm() -> None:
    """From here on SIGTERM is ``Terminated``: the record of the last complete cycle is safe."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated(128 + number)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def of_the_start() -> Iterator[None]:
    """Settings of the strategy that chooses the initial set are told as ``initial.NAME``.

    The strategy does not know where it is used: it says ``strategy.NAME`` of its settings.
    """
    try:
        yield
    except UserError as error:
        error.args = (re.sub(r"\bstrategy\.(?=[a-z])", "initial.", str(error)),)
        raise


@contextmanager
def blamed(plugin: str, expected: str, home: str | None = None) -> Iterator[None]:
    """Whatever a plug-in raises inside the block, an exit included, becomes one line that names it.

    A ``UserError`` is a line already; Ctrl-C and SIGTERM are the user's.

    Args:
        plugin: kind and name as typed: ``strategy './mine.py:Mine'``.
        expected: what it was to do: ``a query from select in cycle 3``.
        home: the plug-in's own file, which is named rather than what it calls in libraries.

    Raises:
        PluginError: with the file and line, caused by what was raised.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:
        text = str(error).strip().partition("\n")[0][:300]
        found = type(error).__name__ + (f": {text}" if text else "")
        if isinstance(error, SystemExit):
            found = f"an exit with code {error.code}"
        found += place_of(error, home)
        raise PluginError(
            f"The {plugin} broke the contract: expected {expected}, found {found}. Mend it there; "
            f"{TRACEBACK}=1 shows the whole traceback.",
            expected,
            found,
        ) from error


def reason_of(error: BaseException) -> str:
    """An exception in one line; one that is no line for the user already, with the place it came from."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def place_of(error: BaseException, home: str | None) -> str:
    """Where a plug-in raised: the innermost line of its own, not of the libraries that it calls."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({shown(error.filename)}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == home or not is_library(frame.filename)]
    if not own:
        return ""
    return f" ({shown(own[-1].filename)}, line {own[-1].lineno})"


def home_of(plugin: type | FunctionType) -> str | None:
    """The file of a plug-in's module; None in a notebook, whose cells are no file."""
    file = getattr(sys.modules.get(plugin.__module__), "__file__", None)
    return None if file is None else str(file)


def is_own(plugin: object) -> bool:
    """Whether a class, a function or an object's class is the harness's own."""
    named = plugin if isinstance(plugin, type | FunctionType) else type(plugin)
    return named.__module__.partition(".")[0] == __name__.partition(".")[0]


def is_library(file: str) -> bool:
    """Of the harness, of Python's library, or of an installed distribution."""
    folders = [
        str(Path(__file__).parent),
        *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")),
    ]
    return file.startswith(("<", *(folder + os.sep for folder in folders)))


def shown(file: str) -> str:
    """A file as its user would name it: relative where it lies below."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
