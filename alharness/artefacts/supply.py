"""Where costly things come from: found in the store or built now, loaded, and entered in the ledger."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from alharness.artefacts.ledger import Ledger
from alharness.artefacts.store import Artefact, ArtefactStore, artefact_key
from alharness.progress import Progress, silent

T = TypeVar("T")


class Maker(ABC, Generic[T]):
    """How one kind of artefact is named, built and loaded.

    Attributes:
        kind: names the folder, is part of the key, and names the entry in the ledger.
    """

    kind: ClassVar[str]

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that determines the content, as plain JSON values; never the device."""

    @abstractmethod
    def build(self, folder: Path, progress: Progress) -> Mapping[str, Any]:
        """Write the files into ``folder``, which may hold what a killed build left there.

        Returns:
            what belongs into ``meta.json`` under ``details``, as plain JSON values.
        """

    @abstractmethod
    def load(self, artefact: Artefact) -> T:
        """What is used, made of the verified artefact."""

    def details(self, loaded: T, artefact: Artefact) -> Mapping[str, Any]:
        """What the ledger says beside the artefact's key; by default what its builder reported."""
        return artefact.details

    def enter(self, ledger: Ledger, loaded: T, artefact: Artefact, load_s: float) -> None:
        """Enter in the ledger what the artefact cost, and that this run spent ``load_s`` seconds on it."""
        ledger.add(
            self.kind,
            artefact.seconds,
            cached=artefact.cached,
            load_s=load_s,
            details={"key": artefact.key, **self.details(loaded, artefact)},
        )

    @property
    def key(self) -> str:
        """The artefact's name in a store."""
        return artefact_key(self.kind, self.identity())


@dataclass(frozen=True)
class Supply:
    """The store, the ledger that says what things cost, and who is told of long work.

    Attributes:
        store: shared by all strategies and seeds.
        ledger: of this run, study or check.
        progress: to be called during long work.
    """

    store: ArtefactStore
    ledger: Ledger = field(default_factory=Ledger)
    progress: Progress = silent

    def obtain(self, maker: Maker[T]) -> T:
        """What ``maker`` loads: its artefact found in the store or built now, and entered in the ledger.

        Raises:
            UserError: see ``ArtefactStore.obtain``.
        """
        start = time.perf_counter()
        artefact = self.store.obtain(maker.kind, maker.identity(), maker.build, self.progress)
        # Inside the measured time: reading weights is part of what this run pays.
        loaded = maker.load(artefact)
        maker.enter(self.ledger, loaded, artefact, time.perf_counter() - start)
        return loaded
