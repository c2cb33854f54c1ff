"""ADBA: lines inside the sphere, perpendicular to the boundary; codes; the boundary's own learner."""

from __future__ import annotations

from pathlib import Path

import torch

from alharness.artefacts import ArtefactStore, Supply
from alharness.generative import GeneratorSettings, obtain_generator
from alharness.labelled import LabelledSet
from alharness.learners.learner import LearnerSettings, LinearLearner
from alharness.pool import ArrayPool
from alharness.records import Ledger
from alharness.strategy import CycleView
from alharness_strategies.adba import Adba, AdbaBoundary, BoundaryLearner, chords, decision, uphill
from alharness_strategies.inversion import obtain_codes

DEVICE = torch.device("cpu")


def test_a_chord_runs_from_sphere_to_sphere_through_its_code() -> None:
    code = torch.tensor([[0.0, 3.0], [1.0, -2.0]])
    direction = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    points = chords(code, direction, 5.0, 11)
    assert torch.allclose(points[0, 0], torch.tensor([4.0, 3.0]))  # 3-4-5
    assert torch.allclose(points[0, -1], torch.tensor([-4.0, 3.0]))
    ends = points[:, [0, -1]].norm(dim=2)
    assert torch.allclose(ends, torch.full_like(ends, 5.0))
    steps = points.diff(dim=1)
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-5)
    # The code itself lies on the line.
    offset = code[:, None] - points
    along = (offset * direction[:, None]).sum(dim=2, keepdim=True) * direction[:, None]
    assert float((offset - along).norm(dim=2).max()) < 1e-5


def linear(weight: list[float], bias: float) -> LinearLearner:
    learner = LinearLearner((len(weight),), 2, DEVICE)
    learner.weight, learner.bias = torch.tensor([weight]), torch.tensor([bias])
    return learner


def test_uphill_is_the_unit_normal_of_the_boundary() -> None:
    codes = torch.randn(4, 2)
    assert torch.allclose(
        uphill(linear([3.0, 4.0], 1.0), codes), torch.tensor([0.6, 0.8]).expand(4, 2)
    )
    flat = uphill(linear([0.0, 0.0], 1.0), codes)
    assert torch.equal(flat, torch.tensor([1.0, 0.0]).expand(4, 2))


class Identity:
    """A generator of 1x1x2 images: the code, squeezed into [0, 1]."""

    latent_dim = 2

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(z).view(-1, 1, 1, 2)


def test_lines_run_through_the_most_uncertain_codes_from_class_1_to_class_0() -> None:
    codes = torch.tensor([[2.0, 0.0], [0.1, 0.5], [-0.3, -0.5], [-2.0, 1.0], [0.05, 0.0]])
    strategy = Adba(n_points=5)
    strategy.generator = Identity()  # type: ignore[assignment]
    strategy.radius = 3.0
    view = CycleView(
        pool=ArrayPool(codes),
        labelled=LabelledSet(indices=torch.tensor([4]), targets=torch.tensor([0]), n_asked=1),
        learner=linear([2.0, 0.0], 0.0),
        n_classes=2,
        cycle=0,
        seed=0,
    )
    query = strategy.select(view, 2)
    assert query.pool_indices.tolist() == [1, 2]
    value = decision(view.learner, query.points.flatten(0, 1)).view(2, 5)
    assert bool((value.diff(dim=1) < 0).all())
    assert bool((value[:, 0] > 0).all())
    assert bool((value[:, -1] < 0).all())
    assert torch.allclose(query.points[0, :, 1], torch.full((5,), 0.5))
    assert query.images.shape == (2, 5, 1, 1, 2)
    assert query.answer == "labels"
    assert AdbaBoundary.answer == "boundary"


def test_boundary_points_pull_the_boundary() -> None:
    """Two labelled codes leave the direction open; boundary points settle it."""
    pool = ArrayPool(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    labels = LabelledSet(indices=torch.tensor([0, 1]), targets=torch.tensor([1, 0]), n_asked=2)
    points = torch.tensor([[0.0, 2.0], [0.0, -2.0]])  # the true boundary is x = 0
    free = BoundaryLearner((2,), 2, DEVICE)
    free.fit(labels, pool, seed=0)
    pulled = BoundaryLearner((2,), 2, DEVICE)
    pulled.fit(
        LabelledSet(
            indices=labels.indices, targets=labels.targets, n_asked=2, extras={"boundary": points}
        ),
        pool,
        seed=0,
    )
    assert abs(float(free.weight[0] - free.weight[1])) < 1e-4
    assert float(decision(pulled, points).abs().max()) < 0.05
    assert float(pulled.weight[0]) > 0.8
    assert decision(pulled, pool.gather(torch.tensor([0, 1]))).sign().tolist() == [1.0, -1.0]


def test_codes_of_generated_images_decode_to_them(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    pool = ArrayPool((torch.rand(64, 1, 8, 8, generator=rng) * 255).to(torch.uint8))
    store, ledger = ArtefactStore(tmp_path), Ledger()
    recipe = GeneratorSettings(steps=30).resolve("quick", pool.item_shape)
    generator = obtain_generator(pool, recipe, Supply(store), task="t")
    made = ArrayPool((generator.sample(40, seed=3) * 255).round().to(torch.uint8))
    supply, options = Supply(store, ledger), {"encoder_steps": 60, "refine_steps": 60}
    codes = obtain_codes(generator, made, pool, supply, **options)
    again = obtain_codes(generator, made, pool, supply, **options)
    assert codes.pool.shape == (40, generator.latent_dim)
    assert codes.test.shape == (64, generator.latent_dim)
    assert torch.equal(codes.pool, again.pool)
    first, second = ledger.entries
    assert (first.cached, second.cached) == (False, True)
    details = first.details
    assert details["pool_mse"] <= details["pool_mse_encoder"]
    assert details["pool_mse"] < 0.5 * details["pool_mse_of_mean"]
    decoded = generator.decode(codes.pool)
    error = float((decoded - made.gather(torch.arange(40))).square().mean())
    assert abs(error - details["pool_mse"]) < 1e-5


def test_the_sphere_holds_every_code_and_the_classifier_is_linear() -> None:
    learner = Adba().learner_factory(  # type: ignore[call-arg]
        type("P", (), {"learner_settings": LearnerSettings(kind="mnist-cnn", c=0.5)})()
    )((7,), 2, DEVICE)
    assert isinstance(learner, LinearLearner)
    assert learner.settings.c == 0.5
