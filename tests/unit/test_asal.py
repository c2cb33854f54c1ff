"""ASAL reads like Algorithm 1: these tests read it back, on a generator that can be seen through."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alharness import acquisition
from alharness.artefacts import ArtefactStore, Supply
from alharness.labelled import LabelledSet
from alharness.learners.learner import Learner, LearnerSettings, LinearLearner
from alharness.matching import ExactIndex, features, match
from alharness.pool import ArrayPool
from alharness.records import Ledger
from alharness.strategy import CycleView, Preparation, Strategy
from alharness.timing import Stopwatch
from alharness_strategies import asal

N, N_INITIAL = 400, 20


class Blend:
    """A generator of 4x4 images between two patterns: z_0 says how much of which."""

    latent_dim = 3
    artefact_key = "blend"
    quality: dict[str, float] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.patterns = torch.rand(2, 16, generator=torch.Generator().manual_seed(0))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        share = torch.sigmoid(2 * z[:, :1])
        tint = 0.1 * torch.tanh(z[:, 1:2])
        flat = share * self.patterns[0] + (1 - share) * self.patterns[1] + tint
        return flat.clamp(0, 1).reshape(-1, 1, 4, 4)

    def critic_features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, ::2]

    encode = critic_features


class Scene:
    """A pool of blends, a linear classifier of them, and one strategy."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        kind: type[Strategy],
        settings: LearnerSettings | None = None,
        **parameters: Any,
    ) -> None:
        self.generator = Blend()
        z = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
        images = self.generator.decode(2 * z)
        self.targets = (z[:, 0] > 0).long()
        self.pool = ArrayPool((images * 255).round().to(torch.uint8))
        self.labelled = LabelledSet(torch.arange(N_INITIAL), self.targets[:N_INITIAL])
        self.learner: Learner = LinearLearner(
            (1, 4, 4), 2, torch.device("cpu"), LearnerSettings(c=100)
        )
        self.learner.fit(self.labelled, self.pool, seed=0)
        self.ledger = Ledger()
        settings = settings or LearnerSettings()
        self.strategy = kind(**parameters)
        self.adaptation = self.strategy.prepare(
            Preparation(
                pool=self.pool,
                test=self.pool,
                n_classes=2,
                seed=0,
                learner_settings=settings,
                supply=Supply(ArtefactStore(folder), self.ledger),
                generator=lambda: self.generator,
                autoencoder=lambda: self.generator,
            )
        )

    def view(self, cycle: int = 0, seed: int = 0) -> CycleView:
        return CycleView(
            pool=self.pool,
            labelled=self.labelled,
            learner=self.learner,
            n_classes=2,
            cycle=cycle,
            seed=seed,
            stopwatch=Stopwatch(),
        )

    def entropy(self, images: torch.Tensor) -> torch.Tensor:
        return acquisition.entropy(self.learner.log_probs(images))


ALL = [asal.AsalGray, asal.AsalAuto, asal.AsalDisc, asal.AsalCls]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("index", ["exact", "kdtree"])
def test_queries_are_distinct_unlabelled_and_uncertain(
    kind: type[Strategy], index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, monkeypatch, kind, index=index)
    query = scene.strategy.select(scene.view(), 12)
    assert len(set(query.indices.tolist())) == 12
    assert int(query.indices.min()) >= N_INITIAL
    of_query = scene.entropy(scene.pool.gather(query.indices)).mean()
    of_pool = scene.entropy(scene.pool.gather(torch.arange(N_INITIAL, N))).mean()
    assert of_query > 1.5 * of_pool
    assert query.diagnostics["score_after"] > query.diagnostics["score_before"]


def test_select_is_equations_one_and_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out with torch's own Adam and a plain argmin."""
    scene = Scene(tmp_path, monkeypatch, asal.AsalGray, keep_best=False, latent_steps=20)
    view = scene.view(cycle=3, seed=5)
    z = torch.randn(8, 3, generator=view.torch_rng("latent")).requires_grad_()
    adam = torch.optim.Adam([z], lr=0.02, maximize=True)
    for _ in range(20):
        adam.zero_grad()
        logits = scene.learner.logits(scene.generator.decode(z))
        acquisition.entropy(logits.log_softmax(-1)).sum().backward()
        adam.step()
    synthetic = scene.generator.decode(z).detach()
    order = scene.entropy(synthetic).argsort(descending=True)
    reduced = features.reduce_pool(scene.pool, features.pixels(), 50)
    wanted = match(
        ExactIndex(reduced.features), reduced.space(synthetic[order]), taken=scene.labelled.indices
    )
    assert scene.strategy.select(view, 8).indices.tolist() == wanted.indices.tolist()


def test_the_picture_shows_each_synthetic_sample_above_its_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, monkeypatch, asal.AsalGray, n_pictures=6)
    query = scene.strategy.select(scene.view(), 9)
    shown, entropy = query.arrays["synthetic"], query.arrays["synthetic_entropy"]
    assert shown.dtype == np.uint8
    assert shown.shape == (6, 1, 4, 4)
    assert len(entropy) == 9
    assert bool((np.diff(entropy) <= 1e-6).all()), "queries choose by falling entropy"
    reduced = features.reduce_pool(scene.pool, features.pixels(), 50)
    points = reduced.space(torch.from_numpy(shown).float() / 255)
    distances = (points - reduced.features[query.indices[:6]]).norm(dim=1)
    others = torch.cdist(points, reduced.features[query.indices]).mean()
    assert distances.mean() < 0.5 * others


def test_diagnostics_say_how_the_search_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, monkeypatch, asal.AsalGray)
    query = scene.strategy.select(scene.view(), 10)
    found = query.diagnostics
    assert 0 <= found["score_before"] <= found["score_after"] <= math.log(2) + 1e-6
    assert found["synthetic_entropy"] == pytest.approx(found["score_after"], abs=1e-5)
    assert 0 <= found["saturated"] <= 1
    assert 1 <= found["match_depth_mean"] <= found["match_depth_max"]
    assert found["match_distance"] >= 0
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("kind", [asal.AsalGray, asal.AsalAuto, asal.AsalDisc])
def test_fixed_features_need_no_pass_over_the_pool(
    kind: type[Strategy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, monkeypatch, kind)
    view = scene.view()
    scene.strategy.select(view, 10)
    assert "indices" not in vars(view.available), "asked for all unlabelled items: O(pool)"
    assert set(view.work.counts) == {"images_generated", "distances", "feature_rows_read"}
    assert view.work.counts["images_generated"] == 10 * 101
    assert {"generate", "features", "match"} <= set(view.stopwatch.seconds)


def test_classifier_features_are_counted_as_a_pass_over_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, monkeypatch, asal.AsalCls)
    view = scene.view()
    scene.strategy.select(view, 10)
    assert view.work.counts["pool_items_featurised"] == N
    assert scene.ledger.entries == []


def test_rerank_asks_about_more_uncertain_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Scene(tmp_path, monkeypatch, asal.AsalGray)
    second_look = Scene(tmp_path, monkeypatch, asal.AsalGrayRerank)
    view = second_look.view()
    before = plain.strategy.select(plain.view(), 10)
    after = second_look.strategy.select(view, 10)
    assert second_look.strategy.parameters.rerank == 50
    assert len(set(after.indices.tolist())) == 10
    assert (
        plain.entropy(plain.pool.gather(after.indices)).mean()
        > plain.entropy(plain.pool.gather(before.indices)).mean()
    )
    assert 50 <= view.work.counts["pool_items_scored"] <= 500
    assert "rerank" in view.stopwatch.seconds


def test_the_control_takes_latents_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, monkeypatch, asal.AsalGrayRandomLatent)
    view = scene.view()
    query = scene.strategy.select(view, 10)
    assert view.work.counts["images_generated"] == 10
    assert query.diagnostics["score_before"] == query.diagnostics["score_after"]


@pytest.mark.parametrize("score", ["margin", "least-confidence"])
def test_other_scores_are_maximised_as_well(
    score: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, monkeypatch, asal.AsalGray, score=score)
    query = scene.strategy.select(scene.view(), 10)
    assert query.diagnostics["score_after"] > query.diagnostics["score_before"]


def test_select_carries_nothing_from_cycle_to_cycle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, monkeypatch, asal.AsalGray)
    first = scene.strategy.select(scene.view(cycle=1), 10).indices
    scene.strategy.select(scene.view(cycle=2), 10)
    assert torch.equal(scene.strategy.select(scene.view(cycle=1), 10).indices, first)
    assert not torch.equal(scene.strategy.select(scene.view(cycle=1, seed=9), 10).indices, first)


def test_preparation_is_in_the_ledger_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Scene(tmp_path, monkeypatch, asal.AsalGray)
    again = Scene(tmp_path, monkeypatch, asal.AsalGray)
    assert [entry.name for entry in first.ledger.entries] == ["pca", "features", "index"]
    assert [entry.cached for entry in again.ledger.entries] == [True, True, False]


def test_unsuitable_tasks_are_named() -> None:
    assert "asal-rgb is its counterpart" in str(asal.AsalGray().unsuitable(2, (3, 8, 8)))
    assert "asal-gray is its counterpart" in str(asal.AsalRgb().unsuitable(2, (1, 8, 8)))
    assert "it generates images" in str(asal.AsalAuto().unsuitable(2, (64,)))
    assert asal.AsalAuto().unsuitable(10, (3, 8, 8)) is None


def test_learned_loss_can_take_the_place_of_entropy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's future work (Sec. 6): synthesise what the loss module expects to be wrong."""
    settings = LearnerSettings(kind="mnist-cnn", width=8, min_steps=30, epochs=1)
    scene = Scene(tmp_path, monkeypatch, asal.AsalGray, settings, score="learning-loss")
    assert scene.adaptation is not None
    assert scene.adaptation.learner_factory is not None
    scene.learner = scene.adaptation.learner_factory((1, 4, 4), 2, torch.device("cpu"))
    scene.learner.fit(scene.labelled, scene.pool, seed=0)
    query = scene.strategy.select(scene.view(), 5)
    assert len(set(query.indices.tolist())) == 5
    assert query.diagnostics["score_after"] > query.diagnostics["score_before"]
