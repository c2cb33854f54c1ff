"""Where hidden targets lie while a strategy chooses: nowhere in plain form, and decoys in their place.

Python hides nothing from code that means to look: a strategy can walk through all living objects and the
frames of its callers. So the targets are kept enciphered, cannot be asked for while the vault is
sealed, and what looks like them are decoys: a strategy that follows decoys gains nothing, and asks
something else when they are dealt anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray

from alharness import seeds


class Vault:
    """Hidden classes of N items.

    Args:
        targets: int64 ``[N]``; copied.
        n_classes: number of classes, for the decoys.

    Attributes:
        decoys: random classes, int64 ``[N]``, in memory of their own.
        attempts: how often somebody asked while vaults were sealed.
    """

    # Of all vaults together: one that an earlier run of this process left behind holds targets, too.
    attempts: ClassVar[int] = 0
    _is_sealed: ClassVar[bool] = False
    _all: ClassVar[WeakSet[Vault]] = WeakSet()

    def __init__(self, targets: NDArray[np.int64] | torch.Tensor, n_classes: int) -> None:
        plain = np.asarray(targets, dtype=np.int64)
        self._key = np.uint64(secrets.randbits(64))
        # A pad per item: equal classes do not look equal, and a few can be revealed without the rest.
        self._enciphered = plain.view(np.uint64) ^ self._pad(np.arange(len(plain)))
        self._n_classes = n_classes
        self.decoys = torch.zeros(len(plain), dtype=torch.int64)
        self._deal(0)
        Vault._all.add(self)

    @staticmethod
    def deal(number: int) -> None:
        """Other decoys in all vaults, in the same memory; the same ones for the same number."""
        for vault in Vault._all:
            vault._deal(number)

    def _deal(self, number: int) -> None:
        drawn = seeds.rng(number, "decoys").integers(self._n_classes, size=len(self.decoys))
        # In place: a plug-in that kept the tensor sees other decoys too, and is found by that.
        self.decoys.copy_(torch.from_numpy(drawn))

    @staticmethod
    @contextmanager
    def sealed() -> Iterator[None]:
        """No vault of this process can be asked inside the ``with`` block."""
        Vault._is_sealed = True
        try:
            yield
        finally:
            Vault._is_sealed = False

    def reveal(self, indices: torch.Tensor | None = None) -> torch.Tensor:
        """Targets of some items, or of all, int64.

        Raises:
            PermissionError: vaults are sealed.
        """
        if Vault._is_sealed:
            Vault.attempts += 1
            raise PermissionError("the oracle is not asked while a strategy prepares or chooses")
        at = np.arange(len(self._enciphered)) if indices is None else indices.numpy()
        return torch.from_numpy((self._enciphered[at] ^ self._pad(at)).view(np.int64))

    def _pad(self, at: NDArray[np.int64]) -> NDArray[np.uint64]:
        """A random number per item: splitmix64 of key and position. O(len(at))."""
        z = self._key + at.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
