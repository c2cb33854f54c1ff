"""Whatever a file, an option or a table holds: it is read, or refused in one line.

Every reader of text or bytes from outside gets a good input that hypothesis damages: places are
overwritten, cut out or lengthened, words are exchanged for ones that mean something elsewhere (``nan``,
a byte order mark, a number without end), or the whole is something else. Anything but a ``UserError``
is a fault of ours. The campaign: ``pytest tests/faults/test_fuzzed_input.py -m slow`` (10,000 inputs
over all readers; ``ALHARNESS_INPUTS=100000`` for more).
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from readers import READERS

from alharness.errors import UserError

#: Inputs of the campaign, over all readers.
N_LONG = int(os.environ.get("ALHARNESS_INPUTS", "10000"))


#: Words that mean something to one reader or another.
WORDS = [
    *(b"", b"nan", b"-inf", b"1e999", b"-1", b"0", b"9" * 30, b"1" + b"0" * 400, b"true", b"null"),
    *(b"[]", b"{}", b'""', b"''", b"[" * 4000, b'{"a":' * 3000, b"(" * 2000, b"{a=" * 2000),
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\r", b"\n", b"\r\n\n", b"\x1a"),
    *(b"../../x", b"~", b"/", b"a" * 5000, "é".encode(), b"=", b",", b":", b"#", b"%s", b"$1", b'"'),
    *(b"1979-05-27T07:32:00Z", b"0x1F", b"1_000", b"True", b"None", b"digits-two", b"random"),
]  # fmt: skip
TOKEN = re.compile(rb'"[^"\n]*"|[\w.+-]+')


def _overwritten(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in edits:
        at %= len(content) + 1
        content = content[:at] + new + content[at + length :]
    return content


def _exchanged(content: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    for number, word in edits:
        tokens = list(TOKEN.finditer(content))
        if tokens:
            token = tokens[number % len(tokens)]
            content = content[: token.start()] + word + content[token.end() :]
    return content


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The content with places or words that are others; now and then something else altogether."""
    anywhere = st.integers(0, max(len(whole), 1)) | st.integers(0, 64)
    new = st.binary(max_size=12) | st.sampled_from(WORDS)
    places = st.lists(st.tuples(anywhere, st.integers(0, 12), new), min_size=1, max_size=3)
    cut = st.integers(0, len(whole)).map(lambda at: whole[:at])
    bits = st.tuples(anywhere, st.integers(0, 7)).map(partial(_bit, whole))
    words = st.lists(st.tuples(st.integers(0, 500), st.sampled_from(WORDS)), min_size=1, max_size=3)
    return st.one_of(
        places.map(partial(_overwritten, whole)),
        words.map(partial(_exchanged, whole)),
        bits,
        cut,
        st.binary(max_size=60)
        | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")),
    )


def _bit(whole: bytes, place: tuple[int, int]) -> bytes:
    changed = bytearray(whole or b"\0")
    changed[place[0] % len(changed)] ^= 1 << place[1]
    return bytes(changed)


@pytest.mark.timeout(3600)  # for the campaign
@pytest.mark.filterwarnings("ignore")  # what libraries think of damaged files
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "times", [5, pytest.param(-(-N_LONG // len(READERS)), marks=pytest.mark.slow)]
)
def test_it_is_read_or_refused_in_one_line(name: str, times: int, tmp_path: Path) -> None:
    whole, read = READERS[name](tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=times,
        deadline=None,
        database=None,
        derandomize=times < 100,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(whole))
    def go(content: bytes) -> None:
        try:
            read(content)
        except UserError as error:
            told = str(error)
            if "\n" in told:
                raise AssertionError(f"{told!r} are several lines") from error

    with at_most(8 << 30):
        go()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1 << 20, f"{grown >> 10:,} MB of memory for {len(whole):,} bytes"


@contextmanager
def at_most(n_bytes: int) -> Iterator[None]:
    """So much more memory: who wants it all fails, and not the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (psutil.Process().memory_info().data + n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
