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

import math
from collections.abc import Callable

import torch
from torch.nn import functional

from alharness import seeds
from alharness.acquisition import entropy
from alharness.generative.latent_search import search
from alharness.matching import PCA
from alharness.pool import Pool
from alharness.progress import Progress, silent

#: Images per set: enough for a steady Fréchet distance, seconds to compute.
SAMPLES = 2_000
#: Neighbours that span the manifold (k = 5 in the density and coverage paper).
NEIGHBOURS = 5
#: Dimensions of the pixels' principal components, as ASAL's own features (Sec. 4.2).
PIXEL_COMPONENTS = 50
#: Larger images are averaged down to this side first: the components of 64x64x3 pixels would take
#: minutes and more memory than many machines have, and fine detail is not what they show.
COARSE_SIDE = 32


def frechet_distance(real_RD: torch.Tensor, synthetic_SD: torch.Tensor) -> float:
    """``|m_r - m_s|^2 + tr(C_r + C_s - 2 (C_r C_s)^(1/2))`` of the two sets' Gaussians.

    The trace of the square root is the sum of the square roots of the eigenvalues of
    ``C_r^(1/2) C_s C_r^(1/2)``, which is symmetric; float64 throughout.
    """
    mean_r, cov_r = _moments(real_RD)
    mean_s, cov_s = _moments(synthetic_SD)
    # A product of two covariances is not symmetric; this form is, and eigh needs no complex numbers.
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
    # k + 1: the nearest of all is the item itself.
    return torch.cdist(features_ND, features_ND).kthvalue(k + 1, dim=1).values


def nearest_neighbour_ratio(
    training_RD: torch.Tensor, held_out_RD: torch.Tensor, synthetic_SD: torch.Tensor
) -> float:
    """Median distance to the nearest training item: of synthetic items over that of held-out ones."""
    synthetic = torch.cdist(synthetic_SD, training_RD).amin(dim=1).median()
    held_out = torch.cdist(held_out_RD, training_RD).amin(dim=1).median()
    return float(synthetic / held_out.clamp(min=1e-12))


def compare_features(
    training_RD: torch.Tensor, held_out_RD: torch.Tensor, synthetic_SD: torch.Tensor
) -> dict[str, float]:
    """All figures of one feature space.

    Args:
        training_RD: features of images that the generator was trained on.
        held_out_RD: of other real images; as many as there are synthetic ones.
        synthetic_SD: of synthetic images.

    Returns:
        ``frechet`` and ``frechet_floor`` (held-out images in the place of the synthetic ones),
        ``precision``, ``recall``, ``density``, ``coverage``, ``nearest_ratio``.
    """
    return {
        "frechet": frechet_distance(training_RD, synthetic_SD),
        "frechet_floor": frechet_distance(training_RD, held_out_RD),
        **manifold_figures(training_RD, synthetic_SD),
        "nearest_ratio": nearest_neighbour_ratio(training_RD, held_out_RD, synthetic_SD),
    }


def attainable_entropy(
    decode: Callable[[torch.Tensor], torch.Tensor],
    logits: Callable[[torch.Tensor], torch.Tensor],
    latents_SL: torch.Tensor,
    *,
    steps: int = 100,
    lr: float = 0.02,
) -> tuple[dict[str, float], torch.Tensor]:
    """How uncertain a classifier can be made by a latent search from ``latents`` (Eq. 1).

    Args:
        decode: latents to images, differentiable.
        logits: images to logits ``[B, C]``, differentiable.
        steps, lr: of the search.

    Returns:
        mean entropies as shares of log C (``entropy_before``, ``entropy_after``), the share of
        latents that reach 99 % of log C (``entropy_reached``), the mean ``|z|`` before and after in
        units of ``sqrt(L)`` (``norm_before``, ``norm_after``); and the images found.
    """

    def score(images: torch.Tensor) -> torch.Tensor:
        return entropy(functional.log_softmax(logits(images), dim=-1))

    found = search(decode, score, latents_SL, steps=steps, lr=lr)
    with torch.no_grad():
        most = math.log(logits(found.images[:1]).shape[-1])
    unit = math.sqrt(latents_SL.shape[1])
    figures = {
        "entropy_before": float(found.score_before.mean()) / most,
        "entropy_after": float(found.score_after.mean()) / most,
        "entropy_reached": float((found.score_after > 0.99 * most).float().mean()),
        "norm_before": float(latents_SL.norm(dim=1).mean()) / unit,
        "norm_after": float(found.z.norm(dim=1).mean()) / unit,
    }
    return figures, found.images


def label_agreement(
    label: Callable[[torch.Tensor], torch.Tensor],
    label_of_match: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
) -> float:
    """Share of images whose own label is the label of the pool item that they are matched with.

    Args:
        label: what an annotator says to images ``[B, ...]``: int64 ``[B]``.
        label_of_match: the true class of each image's match: int64 ``[B]``.
    """
    own, matched = label(images).cpu(), label_of_match(images).cpu()
    return float((own == matched).float().mean())


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
    real = _coarse(pool.gather(order[:n]))
    other = _coarse(pool.gather(order[n : 2 * n]))
    synthetic = _coarse(sample(n, seed=seed))
    # Fitted on real images alone: all generators of a task are measured in one space.
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


def _coarse(images: torch.Tensor) -> torch.Tensor:
    """Images ``[B, C, H, W]`` as rows ``[B, D]``, at most ``COARSE_SIDE`` pixels wide and high."""
    height, columns = (min(side, COARSE_SIDE) for side in images.shape[2:])
    return functional.adaptive_avg_pool2d(images, (height, columns)).flatten(1)
