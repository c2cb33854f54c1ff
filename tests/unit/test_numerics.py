"""One arithmetic for all that is compared: set whole, told, and given back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from alharness import numerics

EXACT = {
    "cudnn": True,
    "deterministic": True,
    "autotuning": False,
    "matmul": "float32",
    "convolution": "float32",
}


def told() -> dict[str, Any]:
    return {name: value for name, value in numerics.describe().items() if name in EXACT}


def test_cudnn_stays_on() -> None:
    """``torch.backends.cudnn.flags(deterministic=True)`` turns it off: its first default is False."""
    with torch.backends.cudnn.flags(deterministic=True):
        assert not torch.backends.cudnn.enabled
        with numerics.exact():
            assert told() == EXACT
            assert torch.backends.cudnn.enabled


def test_contexts_nest_and_give_back_what_was() -> None:
    before = told()
    with numerics.exact():
        with numerics.training("tf32"):
            assert told() == {**EXACT, "matmul": "tf32", "convolution": "tf32"}
            with numerics.exact():
                assert told() == EXACT
            assert told()["convolution"] == "tf32"
        with numerics.training("float32"):
            assert told() == EXACT
        assert told() == EXACT
    assert told() == before


def test_an_error_inside_gives_back_too() -> None:
    before = told()
    with pytest.raises(RuntimeError, match="inside"), numerics.training("bf16"):
        raise RuntimeError("inside")
    assert told() == before


#: Ways in which a user, a library or a container may have set TF32 before.
HABITS = {
    "nothing": "",
    "the old way": "torch.set_float32_matmul_precision('medium'); cudnn.allow_tf32 = False",
    "the old way for matmul": "backends.cuda.matmul.allow_tf32 = True",
    "the new way for all": "backends.fp32_precision = 'tf32'",
    "the new way for one": "cudnn.conv.fp32_precision = 'ieee'",
    "both, unlike": "cudnn.allow_tf32 = True; backends.cuda.matmul.fp32_precision = 'tf32'",
    "a CPU in bf16": "backends.mkldnn.matmul.fp32_precision = 'bf16'",
}
CHECK = """
import os
import torch
from alharness import numerics
backends, cudnn = torch.backends, torch.backends.cudnn

def seen(read):
    try:
        return read()
    except RuntimeError:
        return "unreadable"

def everything():
    return [
        seen(read)
        for read in (
            torch.get_float32_matmul_precision,
            lambda: backends.cuda.matmul.allow_tf32,
            lambda: cudnn.allow_tf32,
            lambda: backends.cuda.matmul.fp32_precision,
            lambda: cudnn.conv.fp32_precision,
            lambda: cudnn.rnn.fp32_precision,
            lambda: backends.mkldnn.matmul.fp32_precision,
            lambda: backends.mkldnn.conv.fp32_precision,
        )
    ]

def is_given_back(found, before):
    # What could not be read before may be readable now; 'none' says that nobody asked: float32.
    return all(
        was == "unreadable" or now == was or (now, was) == ("ieee", "none")
        for now, was in zip(found, before, strict=True)
    )

def check():
    before = everything()
    for context, tf32 in ((numerics.exact(), False), (numerics.training("tf32"), True)):
        with context:
            inside = "tf32" if tf32 else "ieee"
            assert everything() == [
                "high" if tf32 else "highest", tf32, tf32, inside, inside, inside, "ieee", "ieee"
            ], everything()
        assert is_given_back(everything(), before), (everything(), before)

for name, habit in HABITS.items():
    child = os.fork()  # the settings are the process's, and some cannot be undone
    if child == 0:
        exec(habit)
        check()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


def test_whichever_of_torchs_two_ways_was_used_before() -> None:
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has the old way only")
    code = f"HABITS = {HABITS!r}\n{CHECK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_the_environment_forces_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert numerics.describe()["NVIDIA_TF32_OVERRIDE"] == "1"


@pytest.mark.parametrize("context", [numerics.exact, lambda: numerics.training("tf32")])
def test_a_cpu_computes_the_same_bits_under_each(
    context: Callable[[], AbstractContextManager[None]],
) -> None:
    rng = torch.Generator().manual_seed(0)
    images, kernels = torch.randn(4, 3, 9, 9, generator=rng), torch.randn(5, 3, 3, 3, generator=rng)
    rows = torch.randn(40, 30, generator=rng)
    bare = torch.nn.functional.conv2d(images, kernels), rows @ rows.T
    with context():
        assert torch.equal(torch.nn.functional.conv2d(images, kernels), bare[0])
        assert torch.equal(rows @ rows.T, bare[1])


#: Blocks of 16 MB as a training frees and takes them: the page faults of twenty rounds, once it runs.
FAULTS = """
import resource, torch
from alharness import numerics
with numerics.exact():
    for round in range(23):
        if round == 3:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.zeros(1 << 22) for _ in range(3)]
        del blocks
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(faults, numerics.describe()["keeps_freed_memory"])
"""


def faults(**chosen: str) -> tuple[int, bool]:
    """Page faults of a process with these variables, and whether it says that it keeps its memory."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC"))
    }
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=inherited | chosen,
        capture_output=True,
        text=True,
        check=True,
    )
    n_faults, kept = done.stdout.split()
    return int(n_faults), kept == "True"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
def test_freed_memory_stays_with_the_process() -> None:
    """It is asked for once, told in the records, and left alone where the user has chosen."""
    few, kept = faults()
    assert kept
    many, kept = faults(MALLOC_TRIM_THRESHOLD_="131072")
    assert not kept
    # 60 blocks of 4,096 pages, mapped anew each time; the heap may still find its place in one round.
    assert few < many / 4


@pytest.mark.parametrize(
    "chosen",
    ["GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"],
)
def test_whoever_set_the_allocator_keeps_it(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics.ctypes, "CDLL", lambda name: pytest.fail("sets it all the same"))
    monkeypatch.setenv(chosen, "131072")
    assert not numerics.keep_freed_memory.__wrapped__()
