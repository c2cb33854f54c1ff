"""One call of foreign code, watched: what it raises, changes and leaves behind is its author's alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn, TypeVar

from alharness.border.author import Author
from alharness.border.state import Marks, changed, global_marks, put_back
from alharness.border.threads import Begun, running

Result = TypeVar("Result")

#: How often a call is repeated before it is blamed for what another thread may have done.
TRIES = 2


def settled(
    before: Mapping[str, object], threads: set[int], again: Callable[[], object]
) -> list[str]:
    """What a call has changed of everybody's state, beyond doubt; all of it is put back.

    Another thread, of a library (a retry of MLflow's client) or of a notebook, may have drawn a random number
    while the call went on. So the call is repeated: what does not change again was not changed by it.

    Args:
        before: ``global_marks`` from before the call.
        threads: those that ran before the call; without any, there is no doubt.
        again: makes the same call.
    """
    touched = changed(before, global_marks())
    put_back(before)
    # With a hint at an import it is not the name of a mark: no second call imports a library again.
    certain = [name for name in touched if name not in before]
    if certain or not touched or not threads & running():
        return certain or touched
    for _ in range(TRIES):
        marks = global_marks()
        again()
        touched = changed(marks, global_marks())
        put_back(before)
        if not touched:
            break
    return touched


@contextmanager
def as_before(marks: Mapping[str, object]) -> Iterator[None]:
    """Everybody's state is that of the marks if the block raises: the next run of this process needs it."""
    try:
        yield
    except BaseException:
        put_back(marks)
        raise


def watched(
    author: Author,
    call: str,
    expected: str,
    function: Callable[[], Result],
    *,
    again: Callable[[], object] | None = None,
    left: Callable[[], Marks] = dict,
) -> Result:
    """What a call of foreign code gives.

    Args:
        author: whom messages name.
        call: the method's name.
        expected: what it was to give, for the message if it raises.
        function: makes the call.
        again: makes it once more, if that is another function.
        left: marks of what it must leave as it is beside what belongs to everybody.

    Raises:
        PluginError: it raises, ends the process, changes what it must not, or leaves a thread at work.
    """
    threads = running()
    before = global_marks()
    own = left()
    with as_before(before):
        with author.blamed(expected):
            result = function()
        if call == "__init__":
            author = replace(author, plugin=result)
        touched = changed(own, left())
        if not touched:
            with author.blamed(expected):
                touched = settled(before, threads, again or function)
        if touched:
            _refuse_change(author, call, touched[0])
    if (at_work := Begun(threads).watch()) is not None:
        author.refuse(f"{call} to end its work when it returns", at_work, call=call)
    return result


def _refuse_change(author: Author, call: str, what: str) -> NoReturn:
    expected = (
        "a constructor that leaves all as it is"
        if call == "__init__"
        else f"{call} to leave all as it is"
    )
    author.refuse(expected, f"changed {what}", call=call)
