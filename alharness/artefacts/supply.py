"""Where costly things come from: found in the store or built now, loaded, and entered in the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from alharness.artefacts.store import Artefact, ArtefactStore, Build
from alharness.progress import Progress, silent
from alharness.records import Ledger

T = TypeVar("T")


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

    def obtain(
        self,
        kind: str,
        identity: Mapping[str, Any],
        build: Build,
        load: Callable[[Artefact], T],
        *,
        details: Callable[[T, Artefact], Mapping[str, Any]] = lambda loaded, artefact: {},
    ) -> T:
        """What ``load`` makes of the artefact of ``identity``, entered under the name of its kind.

        Args:
            kind, identity, build: as for ``ArtefactStore.obtain``.
            load: the loaded thing from the verified artefact.
            details: what the ledger says of it, beside the artefact's key.

        Raises:
            UserError: see ``ArtefactStore.obtain``.
        """
        start = time.perf_counter()
        artefact = self.store.obtain(kind, identity, build, self.progress)
        loaded = load(artefact)
        self.ledger.add(
            kind,
            artefact.seconds,
            cached=artefact.cached,
            load_s=time.perf_counter() - start,
            details={"key": artefact.key, **details(loaded, artefact)},
        )
        return loaded
