"""Randomness as a function of (seed, purpose, cycle): no stream is carried from one use to the next.

Because every draw is named, adding a strategy never shifts another one's numbers, all strategies
start from the same initial set, and a run that resumes at cycle 17 draws what it would have drawn
without the stop. Draws are made on the CPU, so that a CPU run and a GPU run ask alike.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
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
