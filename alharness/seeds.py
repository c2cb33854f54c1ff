"""Randomness as a function of (seed, purpose, cycle): no stream is carried from one use to the next.

Because every draw is named, adding a strategy never shifts another one's numbers, all strategies
start from the same initial set, and a run that resumes at cycle 17 draws what it would have drawn
without the stop. Draws are made on the CPU, so that a CPU run and a GPU run ask alike.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one named purpose, for instance ``derive(0, "fit", cycle)``."""
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy random number generator for one named purpose."""
    import numpy as np

    return np.random.default_rng(derive(seed, *names))


def torch_rng(seed: int, *names: str | int) -> torch.Generator:
    """A torch random number generator (on the CPU) for one named purpose."""
    import torch

    generator = torch.Generator(device="cpu")
    generator.manual_seed(derive(seed, *names))
    return generator


@contextmanager
def kept() -> Iterator[None]:
    """The global random states of torch, numpy and random are after the block what they were before it.

    Also for an import inside a function: a library may draw as it is imported (scikit-learn's neighbours
    import rich, which numbers its styles at random), and no caller meant to.
    """
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what is kept
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def sealed(seed: int) -> Iterator[None]:
    """The global generators of torch, numpy and random begin at ``seed``, and are put back afterwards.

    For foreign code that draws from them: what it draws is then a function of the seed, and nobody else's
    draws move.
    """
    import numpy as np
    import torch

    with kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the state that foreign code draws from
        torch.default_generator.manual_seed(seed)  # the CPU's: devices are not drawn on
        yield


def uniforms(seed: int, indices: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.float64]:
    """``n`` numbers in [0, 1) for each index: a function of (seed, index) and of nothing else.

    For things that are drawn item by item in any order and any grouping (virtual pools, drawn
    faces): a counter-based generator (SplitMix64) instead of a stream.

    Args:
        seed: for instance from ``derive``.
        indices: int64 ``[B]``, not negative.
        n: numbers per index.

    Returns:
        float64 ``[B, n]``.
    """
    import numpy as np

    counter: Any = indices.astype(np.uint64)[:, None] * np.uint64(n) + np.arange(
        1, n + 1, dtype=np.uint64
    )
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        z = np.uint64(seed) + counter * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    numbers: npt.NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers
