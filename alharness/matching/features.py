"""Features for sample matching (Sec. 3.2): where an item lies, apart from what the classifier thinks.

F_gray/rgb (pixels), F_auto (encoder), F_disc (last hidden layer of the critic), F_CLS (last hidden
layer of the classifier), each reduced to 50 numbers by PCA fitted on the pool (Sec. 4.2).

Shape letters: N pool items, B items of a block, D raw features, K features after PCA.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from alharness import numerics
from alharness.artefacts import Artefact, Maker, Supply, write_tensors
from alharness.artefacts.ledger import Ledger
from alharness.lazily import torch
from alharness.matching.pca import N_COMPONENTS, PCA
from alharness.pool import Pool, scan
from alharness.progress import Progress, silent
from alharness.timing import WorkCounters, synchronise

FILE = "features.safetensors"
#: Raw features of the whole pool are kept between fitting the PCA and applying it up to this size;
#: above it they are computed twice, which is what a pass over the pool costs.
KEEP_RAW_BYTES = 2 << 30


@dataclass(frozen=True)
class FeatureExtractor:
    """Items ``[B, ...]`` in, features ``[B, D]`` out, each item by itself, without gradients.

    Attributes:
        name: what it is called in records.
        key: names what it computes, for artefacts; empty when that changes from cycle to cycle.
        compute: items to features of any shape ``[B, ...]``; they are flattened.
    """

    name: str
    key: str
    compute: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, items: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.compute(items).flatten(1).float()


def pixels() -> FeatureExtractor:
    """F_gray/rgb(x) = x."""
    return FeatureExtractor("pixels", "pixels", lambda items: items)


class Encodes(Protocol):
    """An auto-encoder, as far as features need one."""

    artefact_key: str

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``[B, C, H, W]`` to codes ``[B, D]``."""
        ...


class Criticises(Protocol):
    """A generator's critic, as far as features need one."""

    artefact_key: str

    def critic_features(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``[B, C, H, W]`` to the input of the critic's last layer, ``[B, D]``."""
        ...


class Classifies(Protocol):
    """A classifier, as far as features need one."""

    def features(self, items: torch.Tensor) -> torch.Tensor:
        """Items ``[B, ...]`` to the input of the classifier's last layer, ``[B, D]``."""
        ...


def encoder(autoencoder: Encodes) -> FeatureExtractor:
    """F_auto(x) = phi(x)."""
    return FeatureExtractor("encoder", f"encoder {autoencoder.artefact_key}", autoencoder.encode)


def critic(generator: Criticises) -> FeatureExtractor:
    """F_disc(x) = D^(j-1)(x): the input of the critic's last layer."""
    return FeatureExtractor("critic", f"critic {generator.artefact_key}", generator.critic_features)


def classifier(learner: Classifies) -> FeatureExtractor:
    """F_CLS(x) = h^(l-1)(x): obsolete as soon as the classifier is trained again."""
    return FeatureExtractor("classifier", "", learner.features)


def pool_features(
    pool: Pool,
    extractor: FeatureExtractor,
    pca: PCA | None = None,
    *,
    progress: Progress = silent,
    work: WorkCounters | None = None,
) -> torch.Tensor:
    """Features of every pool item, float32 ``[N, K]`` on the pool's device (``[N, D]`` without PCA)."""
    features: torch.Tensor | None = None

    def compute(items: torch.Tensor) -> torch.Tensor:
        rows = extractor(items)
        return rows if pca is None else pca(rows)

    for indices, rows in scan(pool, compute, work=work):
        if features is None:
            features = torch.empty(len(pool), rows.shape[1], device=rows.device)
        start, stop = int(indices[0]), int(indices[-1]) + 1
        features[start:stop] = rows
        progress(f"features {extractor.name}", stop, len(pool))
    if work is not None:
        work.add("pool_items_featurised", len(pool))
        work.add("bytes_read", len(pool) * pool.item_bytes)
    assert features is not None  # a pool is never empty
    return features


@dataclass(frozen=True)
class FeatureSpace:
    """The space in which items are matched: F_PCA of Sec. 3.2.

    Attributes:
        extractor: F.
        pca: fitted on the pool.
    """

    extractor: FeatureExtractor
    pca: PCA

    def __call__(self, items: torch.Tensor) -> torch.Tensor:
        """Items ``[B, ...]`` as points ``[B, K]``."""
        return self.pca(self.extractor(items))


@dataclass(frozen=True)
class ReducedPool:
    """The pool as points of a feature space.

    Attributes:
        space: the space.
        features: S = {F_PCA(x)}, float32 ``[N, K]``.
        pca_s, features_s: seconds spent on fitting the PCA and on applying it.
    """

    space: FeatureSpace
    features: torch.Tensor
    pca_s: float
    features_s: float


@numerics.exact()  # what is stored for all runs must not depend on who computed it
def reduce_pool(
    pool: Pool,
    extractor: FeatureExtractor,
    n_components: int = N_COMPONENTS,
    *,
    progress: Progress = silent,
    work: WorkCounters | None = None,
    raw: torch.Tensor | None = None,
) -> ReducedPool:
    """Fit the PCA on the pool and apply it to the pool.

    Args:
        raw: what the extractor gives for the pool, float32 ``[N, D]``, where it is known already.
    """
    start = _now(pool)
    # One item through the network tells the width, before memory is asked for.
    n_features = (extractor(pool.gather(torch.tensor([0]))) if raw is None else raw).shape[1]
    rows_per_block = max(1, (1 << 24) // n_features)
    rows: Iterator[torch.Tensor]
    if raw is not None:
        rows = (block.to(pool.device) for block in torch.split(raw, rows_per_block))
    elif 4 * n_features * len(pool) <= KEEP_RAW_BYTES:
        raw = pool_features(pool, extractor, progress=progress, work=work)
        rows = iter(torch.split(raw, rows_per_block))
    else:
        rows = (block for _, block in scan(pool, extractor, work=work))
        if work is not None:
            work.add("pool_items_featurised", len(pool))
            work.add("bytes_read", len(pool) * pool.item_bytes)
    pca = PCA.fit(rows, n_components)
    fitted = _now(pool)
    if raw is not None:
        blocks = torch.split(raw, rows_per_block)
        features = torch.cat([pca(block.to(pool.device)) for block in blocks])
    else:
        features = pool_features(pool, extractor, pca, progress=progress, work=work)
    space = FeatureSpace(extractor, pca)
    return ReducedPool(space, features, fitted - start, _now(pool) - fitted)


def _now(pool: Pool) -> float:
    synchronise(pool.device)
    return time.perf_counter()


def obtain_reduced_pool(
    pool: Pool,
    extractor: FeatureExtractor,
    n_components: int,
    supply: Supply,
    *,
    raw: torch.Tensor | None = None,
) -> ReducedPool:
    """``reduce_pool`` once for all strategies, seeds and query sizes that want the same.

    Enters ``pca`` and ``features`` in the ledger, with what they cost when they were computed.
    """
    return supply.obtain(ReducedPoolMaker(pool, extractor, n_components, raw))


@dataclass(frozen=True)
class ReducedPoolMaker(Maker[ReducedPool]):
    """A pool's features after PCA, and the PCA."""

    kind = "features"

    pool: Pool
    extractor: FeatureExtractor
    n_components: int
    raw: torch.Tensor | None = None

    def identity(self) -> dict[str, Any]:
        return {
            "pool": self.pool.fingerprint,
            "rows": len(self.pool),
            "extractor": self.extractor.key,
            "n_components": self.n_components,
        }

    def build(self, folder: Path, progress: Progress) -> dict[str, Any]:
        reduced = reduce_pool(
            self.pool, self.extractor, self.n_components, progress=progress, raw=self.raw
        )
        pca = reduced.space.pca
        tensors = {
            "mean": pca.mean,
            "components": pca.components,
            "variances": pca.variances,
            "features": reduced.features,
        }
        write_tensors(folder / FILE, tensors)
        return {
            "explained_variance": pca.explained,
            "pca_s": reduced.pca_s,
            "features_s": reduced.features_s,
        }

    def load(self, artefact: Artefact) -> ReducedPool:
        device, details = self.pool.device, artefact.details
        stored = {name: values.to(device) for name, values in artefact.tensors(FILE).items()}
        explained = float(details["explained_variance"])
        pca = PCA(stored["mean"], stored["components"], stored["variances"], explained)
        return ReducedPool(
            FeatureSpace(self.extractor, pca),
            stored["features"],
            float(details["pca_s"]),
            float(details["features_s"]),
        )

    def enter(self, ledger: Ledger, loaded: ReducedPool, artefact: Artefact, load_s: float) -> None:
        """Two entries, ``pca`` and ``features``: papers report them apart.

        What a run computed itself, it paid for part by part; what it found, it loaded as one file.
        """
        pca, cached = loaded.space.pca, artefact.cached
        both = {"extractor": self.extractor.name, "components": len(pca.variances)}
        ledger.add(
            "pca",
            loaded.pca_s,
            cached=cached,
            load_s=0.0 if cached else loaded.pca_s,
            details={**both, "explained_variance": pca.explained},
        )
        ledger.add(
            "features",
            loaded.features_s,
            cached=cached,
            load_s=load_s if cached else loaded.features_s,
            details={**both, "rows": len(self.pool), "bytes": loaded.features.nbytes},
        )
