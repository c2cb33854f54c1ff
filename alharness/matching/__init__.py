"""Sample matching (Sec. 3.2): features, PCA, indices, and the nearest pool items of synthetic ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.matching.exact import ExactIndex as ExactIndex
    from alharness.matching.features import FeatureExtractor as FeatureExtractor
    from alharness.matching.features import FeatureSpace as FeatureSpace
    from alharness.matching.features import ReducedPool as ReducedPool
    from alharness.matching.features import classifier as classifier
    from alharness.matching.features import critic as critic
    from alharness.matching.features import encoder as encoder
    from alharness.matching.features import obtain_reduced_pool as obtain_reduced_pool
    from alharness.matching.features import pixels as pixels
    from alharness.matching.features import pool_features as pool_features
    from alharness.matching.features import reduce_pool as reduce_pool
    from alharness.matching.index import Index as Index
    from alharness.matching.index import Neighbour as Neighbour
    from alharness.matching.nearest import INDICES as INDICES
    from alharness.matching.nearest import Matches as Matches
    from alharness.matching.nearest import build_index as build_index
    from alharness.matching.nearest import match as match
    from alharness.matching.nearest import match_best as match_best
    from alharness.matching.pca import N_COMPONENTS as N_COMPONENTS
    from alharness.matching.pca import PCA as PCA
    from alharness.matching.trees import FaissIndex as FaissIndex
    from alharness.matching.trees import KDTreeIndex as KDTreeIndex

__getattr__ = from_files(__name__, homes_in(__file__))
