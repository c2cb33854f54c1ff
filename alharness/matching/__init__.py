"""Sample matching (Sec. 3.2): features, PCA, indices, and the nearest pool items of synthetic ones."""

from __future__ import annotations

from alharness.matching.exact import ExactIndex
from alharness.matching.features import (
    FeatureExtractor,
    FeatureSpace,
    ReducedPool,
    classifier,
    critic,
    encoder,
    obtain_reduced_pool,
    pixels,
    pool_features,
    reduce_pool,
)
from alharness.matching.index import Index, Neighbour
from alharness.matching.match import INDICES, Matches, build_index, match, match_best
from alharness.matching.pca import N_COMPONENTS, PCA
from alharness.matching.trees import FaissIndex, KDTreeIndex

__all__ = [
    "INDICES",
    "N_COMPONENTS",
    "PCA",
    "ExactIndex",
    "FaissIndex",
    "FeatureExtractor",
    "FeatureSpace",
    "Index",
    "KDTreeIndex",
    "Matches",
    "Neighbour",
    "ReducedPool",
    "build_index",
    "classifier",
    "critic",
    "encoder",
    "match",
    "match_best",
    "obtain_reduced_pool",
    "pixels",
    "pool_features",
    "reduce_pool",
]
