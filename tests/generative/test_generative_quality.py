"""Figures of quality: known numbers, obvious slow versions, and what they must tell apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import nn

from alharness.generative.quality import (
    _coarse,
    attainable_entropy,
    frechet_distance,
    label_agreement,
    label_free_quality,
    manifold_figures,
    nearest_neighbour_ratio,
)
from alharness.pictures.grids import grid, interpolate, save_rows
from alharness.pool import ArrayPool


def draw(n: int, seed: int, shift: float = 0.0, scale: float = 1.0, d: int = 4) -> torch.Tensor:
    return shift + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_frechet_distance_of_known_gaussians() -> None:
    x = draw(200_000, 0)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    # Means apart by 1 in each of four dimensions, then standard deviations 1 and 3.
    assert frechet_distance(x, draw(200_000, 1, shift=1.0)) == pytest.approx(4.0, abs=0.05)
    assert frechet_distance(x, draw(200_000, 1, scale=3.0)) == pytest.approx(4 * 2.0**2, abs=0.1)


def test_frechet_distance_against_the_matrix_square_root() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
    b = 0.3 + rng.normal(size=(250, 6)) @ rng.normal(size=(6, 6))
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    found = frechet_distance(torch.from_numpy(a), torch.from_numpy(b))
    assert found == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_fewer_items_than_dimensions_is_finite() -> None:
    found = frechet_distance(draw(5, 0, d=20), draw(6, 1, d=20))
    assert 0.0 < found < math.inf


def test_manifold_figures_against_the_obvious_loops() -> None:
    real, synthetic, k = draw(40, 0).numpy(), draw(30, 1, shift=0.7).numpy(), 3

    def radius(points: np.ndarray, i: int) -> float:
        return float(np.sort(np.linalg.norm(points - points[i], axis=1))[k])

    def distance(i: int, j: int) -> float:
        return float(np.linalg.norm(real[i] - synthetic[j]))

    inside = np.array([[distance(i, j) <= radius(real, i) for j in range(30)] for i in range(40)])
    recalled = [any(distance(i, j) <= radius(synthetic, j) for j in range(30)) for i in range(40)]
    found = manifold_figures(torch.from_numpy(real), torch.from_numpy(synthetic), k)
    assert found["precision"] == pytest.approx(inside.any(axis=0).mean())
    assert found["recall"] == pytest.approx(np.mean(recalled))
    assert found["density"] == pytest.approx(inside.sum() / (k * 30))
    assert found["coverage"] == pytest.approx(inside.any(axis=1).mean())
    assert 0 < found["coverage"] < 1
    with pytest.raises(ValueError, match="more than 5"):
        manifold_figures(draw(5, 0), draw(50, 1))


def test_a_collapsed_generator_is_precise_and_covers_little() -> None:
    real = draw(300, 0)
    collapsed = real[:1] + 0.01 * draw(300, 1)
    found = manifold_figures(real, collapsed)
    assert found["precision"] > 0.9
    assert found["coverage"] < 0.1
    assert found["recall"] < 0.1
    good = manifold_figures(real, draw(300, 2))
    assert min(good.values()) > 0.8


def test_memorised_images_are_nearer_than_held_out_ones() -> None:
    training, held_out = draw(300, 0), draw(300, 1)
    assert nearest_neighbour_ratio(training, held_out, training) == pytest.approx(0.0, abs=1e-3)
    assert nearest_neighbour_ratio(training, held_out, draw(300, 2)) == pytest.approx(1.0, abs=0.1)


def test_the_search_reaches_the_boundary_of_a_linear_classifier() -> None:
    # Images are latents through tanh; logits differ by 3 x_0 + 1, so the boundary is x_0 = -1/3.
    classifier = nn.Linear(4, 2)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[3.0, 0, 0, 0], [0, 0, 0, 0]]))
        classifier.bias.copy_(torch.tensor([1.0, 0.0]))
    latents = draw(50, 3)
    figures, images = attainable_entropy(torch.tanh, classifier, latents)
    assert figures["entropy_before"] < figures["entropy_after"] <= 1.0 + 1e-6
    assert figures["entropy_reached"] > 0.8
    assert figures["norm_before"] == pytest.approx(float(latents.norm(dim=1).mean()) / 2)
    assert float(images[:, 0].median()) == pytest.approx(-1 / 3, abs=0.02)


def test_label_agreement_counts_equal_labels() -> None:
    images = torch.arange(4.0)[:, None]
    labels = torch.tensor([0, 1, 1, 0])
    assert label_agreement(lambda x: labels, lambda x: torch.tensor([0, 1, 0, 1]), images) == 0.5


def test_label_free_quality_tells_noise_from_the_pool() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, size=(3, 1, 6, 6))
    noisy = base[rng.integers(3, size=400)] + rng.integers(-30, 30, size=(400, 1, 6, 6))
    images = noisy.clip(0, 255).astype(np.uint8)
    pool = ArrayPool(images[:300], "cpu")
    real = torch.from_numpy(images[300:]).float() / 255

    def copies(n: int, *, seed: int) -> torch.Tensor:
        return real[torch.arange(n) % len(real)]

    def noise(n: int, *, seed: int) -> torch.Tensor:
        return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))

    good, bad = label_free_quality(copies, pool), label_free_quality(noise, pool)
    assert good["frechet_pixels"] < 3 * good["frechet_pixels_floor"] < 0.1 * bad["frechet_pixels"]
    assert good["coverage_pixels"] > 0.5
    assert bad["coverage_pixels"] == 0.0
    assert good == label_free_quality(copies, pool)


def test_large_images_are_measured_at_a_coarser_size() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(60, 3, 40, 80), dtype=np.uint8)
    pool = ArrayPool(images, "cpu")

    def sample(n: int, *, seed: int) -> torch.Tensor:
        return pool.gather(torch.arange(n))

    assert _coarse(sample(2, seed=0)).shape == (2, 3 * 32 * 32)
    assert 0.0 <= label_free_quality(sample, pool)["frechet_pixels"] < math.inf


def test_a_grid_shows_images_row_by_row() -> None:
    images = torch.arange(5)[:, None, None, None].expand(5, 1, 2, 3) / 5
    sheet = grid(images, columns=3, gap=1)
    assert sheet.shape == (5, 11, 3)
    assert sheet.dtype == torch.uint8
    assert int(sheet[0, 4, 0]) == 51  # the second image: 1/5 of 255
    assert int(sheet[3, 0, 2]) == 153  # the fourth, in the second row
    assert int(sheet[2, 0, 0]) == 255  # gap
    assert int(sheet[4, 10, 0]) == 255  # empty place


def test_an_interpolation_starts_and_ends_at_its_latents() -> None:
    z = draw(4, 0)
    rows = interpolate(lambda latents: latents, z, columns=5)
    torch.testing.assert_close(rows[0], z[0])
    torch.testing.assert_close(rows[4], z[1])
    torch.testing.assert_close(rows[7], (z[2] + z[3]) / 2)


def test_rows_of_images_are_drawn_under_each_other(tmp_path: Path) -> None:
    red, blue = torch.zeros(2, 4, 3, 8, 8).unbind()
    red[:, 0], blue[:, 2] = 1.0, 1.0
    save_rows(tmp_path / "rows.png", [("first", red), ("second", blue)])
    with Image.open(tmp_path / "rows.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    where = [np.argwhere((pixels == colour).all(axis=2)) for colour in ((255, 0, 0), (0, 0, 255))]
    assert all(len(found) > 1_000 for found in where)
    assert where[0][:, 0].max() < where[1][:, 0].min()
