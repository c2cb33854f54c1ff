"""How good a generator is, in figures: what ASAL's results must be read beside.

Figures compare two sets of features: of real images and of synthetic ones. Feature functions take
images ``[B, C, H, W]`` in [0, 1] and give ``[B, D]``. None of the figures changes what is trained.

* Fréchet distance (Heusel et al. 2017), here in the features of the task: pixels, auto-encoder,
  classifier. Only distances in the same features and of equally many images compare.
* Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020): does a
  synthetic image lie among real ones, and are all real ones met?
* Nearest-neighbour ratio: are synthetic images nearer to the training images than other real
  images are? Well below 1 means memorised.
* Attainable entropy: how close to the boundary of a classifier a latent search can get.
* Label agreement: does a synthetic image have the class of the real one that it is matched with?

Shape letters: R real, S synthetic, D features, B images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from alharness import seeds
from alharness.features import PCA
from alharness.pool import Pool
from alharness.progress import Progress, silent

#: Images ``[B, C, H, W]`` -> features ``[B, D]``.
Features = Callable[[torch.Tensor], torch.Tensor]

#: Images per set: enough for a steady Fréchet distance, seconds to compute.
SAMPLES = 2_000
#: Neighbours that span the manifold (k = 5 in the density and coverage paper).
NEIGHBOURS = 5
#: Dimensions of the pixels' principal components, as ASAL's own features (Sec. 4.2).
PIXEL_COMPONENTS = 50


def frechet_distance(real_RD: torch.Tensor, synthetic_SD: torch.Tensor) -> float:
    """``|m_r - m_s|^2 + tr(C_r + C_s - 2 (C_r C_s)^(1/2))`` of the two sets' Gaussians.

    The trace of the square root is the sum of the square roots of the eigenvalues of
    ``C_r^(1/2) C_s C_r^(1/2)``, which is symmetric; float64 throughout.
    """
    mean_r, cov_r = _moments(real_RD)
    mean_s, cov_s = _moments(synthetic_SD)
    values, vectors = torch.linalg.eigh(cov_r)
    root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ cov_s @ root).clamp(min=0.0).sqrt().sum()
    distance = (mean_r - mean_s).square().sum() + cov_r.trace() + cov_s.trace() - 2.0 * shared
    return max(0.0, float(distance))


def _moments(features_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values = features_ND.double()
    mean = values.mean(dim=0)
    centred = values - mean
    return mean, centred.T @ centred / max(1, len(values) - 1)


def manifold_figures(
    real_RD: torch.Tensor, synthetic_SD: torch.Tensor, k: int = NEIGHBOURS
) -> dict[str, float]:
    """Precision, recall, density and coverage with balls that reach to the k-th neighbour.

    Raises:
        ValueError: not more than k items in one of the sets.
    """
    if min(len(real_RD), len(synthetic_SD)) <= k:
        raise ValueError(f"needs more than {k} real and synthetic items")
    real_radius = _kth_distance(real_RD, k)
    synthetic_radius = _kth_distance(synthetic_SD, k)
    across_RS = torch.cdist(real_RD, synthetic_SD)
    in_real_RS = across_RS <= real_radius[:, None]
    return {
        "precision": float(in_real_RS.any(dim=0).float().mean()),
        "recall": float((across_RS <= synthetic_radius[None, :]).any(dim=1).float().mean()),
        "density": float(in_real_RS.float().sum(dim=0).mean()) / k,
        "coverage": float(in_real_RS.any(dim=1).float().mean()),
    }


def _kth_distance(features_ND: torch.Tensor, k: int) -> torch.Tensor:
    """Distance of each item to its k-th nearest other item, ``[N]``."""
    return torch.cdist(features_ND, features_ND).kthvalue(k + 1, dim=1).values


def nearest_neighbour_ratio(
    training_RD: torch.Tensor, held_out_RD: torch.Tensor, synthetic_SD: torch.Tensor
) -> float:
    """Median distance to the nearest training item: of synthetic items over that of held-out ones."""
    synthetic = torch.cdist(synthetic_SD, training_RD).amin(dim=1).median()
    held_out = torch.cdist(held_out_RD, training_RD).amin(dim=1).median()
    return float(synthetic / held_out.clamp(min=1e-12))


def label_free_quality(
    sample: Callable[..., torch.Tensor],
    pool: Pool,
    progress: Progress = silent,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Figures of a generator in the principal components of the pixels; needs no labels, seconds.

    Args:
        sample: ``sample(n, seed=...)`` gives n synthetic images.
        pool: the images that the generator was trained on.

    Returns:
        ``frechet_pixels``, ``precision_pixels``, ``recall_pixels``, ``density_pixels``,
        ``coverage_pixels``; the same Fréchet distance between two halves of the real images as
        ``frechet_pixels_floor``, which no generator can be expected to beat by much.
    """
    progress("measure the generator", 0, 1)
    n = min(SAMPLES, pool.n // 2)
    order = torch.randperm(pool.n, generator=seeds.torch_rng(seed, "quality"))
    real = pool.gather(order[:n]).flatten(1)
    other = pool.gather(order[n : 2 * n]).flatten(1)
    synthetic = sample(n, seed=seed).flatten(1)
    pca = PCA.fit(iter([real]), PIXEL_COMPONENTS)
    real, other, synthetic = pca(real), pca(other), pca(synthetic)
    figures = {
        "frechet_pixels": frechet_distance(real, synthetic),
        "frechet_pixels_floor": frechet_distance(real, other),
    }
    if n > NEIGHBOURS:
        found = manifold_figures(real, synthetic)
        figures |= {f"{name}_pixels": value for name, value in found.items()}
    progress("measure the generator", 1, 1)
    return {name: round(value, 6) for name, value in figures.items()}
