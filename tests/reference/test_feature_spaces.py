"""``strategy.features``: each strategy compares items in the space that it was told, against slow versions.

Row i of a file is pool item i: of the whole pool, of a narrowed one, and of a task of two classes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alharness import registry
from alharness.artefacts import ArtefactStore, Supply
from alharness.conformance.scene import Sample, Scene
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import LearnerSettings
from alharness.matching import spaces
from alharness.pool import ArrayPool, Pool
from alharness.progress import silent
from alharness.spec import bind, rebind, resolve
from alharness.strategy import CycleView, PoolQuery, Preparation, Strategy
from alharness_strategies.badge import seed_centres
from alharness_strategies.cluster_margin import average_linkage, in_turn
from alharness_strategies.prob_cover import choose, radius, within
from alharness_strategies.typiclust import TypiClust, k_means

N, D = 60, 7
LABELLED = torch.tensor([33, 1, 7, 20, 12, 59])
#: Everything that takes ``strategy.features`` and serves rows.
NAMES = ("core-set", "badge", "typiclust", "prob-cover", "cluster-margin", "seals:4:max-entropy")


def items() -> torch.Tensor:
    """Three clouds in the plane, in no order."""
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [4, 0], [0, 4]])
    return torch.from_numpy(centres[rng.integers(3, size=N)] + rng.normal(size=(N, 2))).float()


def elsewhere() -> NDArray[np.float32]:
    """Rows that have nothing to do with the items."""
    return np.random.default_rng(1).normal(size=(N, D)).astype(np.float32) + 0.5


@pytest.fixture
def given(tmp_path: Path) -> str:
    np.savez(tmp_path / "rows.npz", features=elsewhere())
    return f"npz:{tmp_path / 'rows.npz'}"


def no_images() -> None:
    raise AssertionError("rows need no auto-encoder")


def prepared(strategy: Strategy, root: Path, pool: Pool | None = None) -> CycleView:
    """A view of the items with six labels, before which the strategy was prepared."""
    pool = pool or ArrayPool(items())
    settings = LearnerSettings(kind="linear")
    supply = Supply(ArtefactStore(root / "store"))
    strategy.prepare(Preparation(pool, pool, 3, 0, settings, supply, no_images, no_images))
    labelled = LabelledSet(LABELLED, torch.tensor([0, 1, 2, 0, 1, 2]), n_asked=len(LABELLED))
    learner = learner_factory(settings)(pool.item_shape, 3, torch.device("cpu"))
    learner.fit(labelled, pool, seed=0)
    return CycleView(pool=pool, labelled=labelled, learner=learner, n_classes=3, cycle=0, seed=0)


def asked(name: str, root: Path, size: int = 6, **parameters: Any) -> tuple[list[int], CycleView]:
    strategy = registry.resolve_strategy(name, **parameters)
    view = prepared(strategy, root)
    query = strategy.select(view, size)
    assert isinstance(query, PoolQuery)
    return query.indices.tolist(), view


# Slow versions: full matrices over the whole pool, and only then the candidates ----------------------


def slow_core_set(rows: torch.Tensor, view: CycleView, candidates: list[int], k: int) -> list[int]:
    apart = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    centres, chosen = view.labelled.indices.tolist(), []
    for _ in range(k):
        rest = [i for i in candidates if i not in chosen]
        best = max(rest, key=lambda i: (float(apart[i, centres].min()), -i))
        chosen.append(best)
        centres = [*centres, best]
    return chosen


def slow_badge(rows: torch.Tensor, view: CycleView, candidates: list[int], k: int) -> list[int]:
    p = view.learner.log_probs(view.pool.gather(torch.tensor(candidates))).exp()
    errors = p - torch.nn.functional.one_hot(p.argmax(dim=1), 3)
    found = seed_centres(errors, rows[candidates], k, view.rng("badge"))
    return [candidates[row] for row in found.tolist()]


def slow_cluster_margin(
    rows: torch.Tensor, view: CycleView, candidates: list[int], k: int
) -> list[int]:
    p = view.learner.log_probs(view.pool.gather(torch.tensor(candidates))).exp()
    top = p.sort(dim=1, descending=True).values
    order = (top[:, 0] - top[:, 1]).argsort(stable=True)[: 10 * k].tolist()
    uncertain = [candidates[row] for row in order]
    clusters = average_linkage(rows[uncertain], -(-len(uncertain) // 10))
    return [uncertain[row] for row in in_turn(clusters, k, view.rng("cluster-margin")).tolist()]


def slow_typiclust(rows: torch.Tensor, view: CycleView, candidates: list[int], k: int) -> list[int]:
    """The published rule is held in test_typiclust.py; here: which rows it gets, scaled to length 1."""
    order = [*candidates, *view.labelled.indices.tolist()]
    points = torch.stack([rows[i] / rows[i].norm() for i in order])
    n_clusters = min(len(view.labelled.indices) + k, len(order))
    clusters = k_means(points, n_clusters, int(view.rng("k-means").integers(2**31)))
    chosen = TypiClust().choose(points, clusters, len(candidates), k)
    return [candidates[row] for row in chosen.tolist()]


def slow_prob_cover(
    rows: torch.Tensor, view: CycleView, candidates: list[int], k: int
) -> list[int]:
    points = torch.stack([row / row.norm() for row in rows])
    cover = within(points, radius(points, 3, 0.95), silent)
    return choose(cover, view.labelled.indices, torch.tensor(candidates), k)[0].tolist()


def slow_seals(rows: torch.Tensor, view: CycleView, candidates: list[int], k: int) -> list[int]:
    apart = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    near = {i for at in LABELLED.tolist() for i in apart[at].argsort(stable=True)[:5].tolist()}
    near = sorted(near & set(candidates))
    inner = registry.resolve_strategy("max-entropy").select(view.narrowed(torch.tensor(near)), k)
    assert isinstance(inner, PoolQuery)
    return inner.indices.tolist()


SLOW: dict[str, Callable[..., list[int]]] = {
    "core-set": slow_core_set,
    "badge": slow_badge,
    "cluster-margin": slow_cluster_margin,
    "typiclust": slow_typiclust,
    "prob-cover": slow_prob_cover,
    "seals:4:max-entropy": slow_seals,
}


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_file_are_those_of_the_pools_items(name: str, given: str, tmp_path: Path) -> None:
    found, view = asked(name, tmp_path, features=given)
    rows = torch.from_numpy(elsewhere())
    assert found == SLOW[name](rows, view, view.unlabelled.tolist(), 6)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("seals")])
def test_a_narrowed_pool_takes_the_rows_of_its_own_candidates(
    name: str, given: str, tmp_path: Path
) -> None:
    strategy = registry.resolve_strategy(f"subset:17:{name}", features=given)
    view = prepared(strategy, tmp_path)
    query = strategy.select(view, 5)
    assert isinstance(query, PoolQuery)
    candidates = strategy.candidates(view, 5).tolist()  # type: ignore[attr-defined]
    assert len(candidates) == 17
    narrow = view.narrowed(torch.tensor(candidates))
    assert query.indices.tolist() == SLOW[name](
        torch.from_numpy(elsewhere()), narrow, candidates, 5
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_space_is_another_question(name: str, given: str, tmp_path: Path) -> None:
    """Classifier, items and file; with rows for items the auto-encoder is refused."""
    told = {"classifier": "classifier", "items": "items", "file": given}
    queries = {}
    for space, value in told.items():
        found, view = asked(name, tmp_path, features=value)
        assert not set(found) & set(LABELLED.tolist())
        queries[space] = (found, dict(view.work.counts))
    assert queries["items"] != queries["file"]
    # A linear classifier's features are the items: only what is read of the pool tells the two apart.
    assert queries["classifier"] != queries["file"]
    reason = registry.resolve_strategy(name, features="autoencoder").unsuitable(3, (2,))
    assert reason is not None
    assert "strategy.features=autoencoder is of images" in reason


@pytest.mark.parametrize("name", NAMES)
def test_what_a_strategy_takes_unasked_is_what_its_own_space_gives(
    name: str, tmp_path: Path
) -> None:
    own = "classifier" if name in ("core-set", "badge", "cluster-margin") else "items"
    (usual, before), (said, after) = asked(name, tmp_path), asked(name, tmp_path, features=own)
    assert usual == said
    assert before.work.counts == after.work.counts


@pytest.mark.parametrize("name", ["asal-gray", "core-set", "typiclust", "seals:4:margin", "badge"])
def test_codes_of_an_autoencoder_serve_whoever_wants_them(name: str, tmp_path: Path) -> None:
    scenes = []
    for value in ("auto", "autoencoder", "classifier", "items"):
        parameters = {"latent_steps": 3} if name == "asal-gray" else {}
        strategy = registry.resolve_strategy(name, features=value, **parameters)
        scene = Scene(strategy, Sample.usual(2, (1, 8, 8)), tmp_path / value)
        scenes.append(scene.select(scene.view(), 6).indices.tolist())  # type: ignore[union-attr]
    auto, codes, own, pixels = scenes
    assert len({tuple(codes), tuple(own), tuple(pixels)}) > 1
    assert auto == {"asal-gray": pixels, "core-set": own, "badge": own}.get(name, codes)


def test_rows_read_are_counted_and_the_pool_is_not_read(given: str, tmp_path: Path) -> None:
    _, view = asked("core-set", tmp_path, features=given)
    assert "pool_items_featurised" not in view.work.counts
    assert "bytes_read" not in view.work.counts
    # Candidates and centres from the file; what the search reads again is counted by the search.
    _, own = asked("core-set", tmp_path)
    assert view.work.counts["feature_rows_read"] == N + own.work.counts["feature_rows_read"]
    assert own.work.counts["pool_items_featurised"] == N


@pytest.mark.parametrize("space", ["auto", "classifier", "items", "file"])
@pytest.mark.parametrize("name", [*NAMES, "seals:4:cluster-margin", "subset:20:badge"])
def test_work_stays_within_what_is_declared_in_every_space(
    name: str, space: str, given: str, tmp_path: Path
) -> None:
    strategy = registry.resolve_strategy(name, features=given if space == "file" else space)
    view = prepared(strategy, tmp_path)
    strategy.select(view, 4)
    bound = strategy.work_bound(view.n_unlabelled, 4) or {}
    assert {k: v for k, v in view.work.counts.items() if v > bound.get(k, v)} == {}


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_files_as_numpy_writes_them(ending: str, dtype: type, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{ending}"
    rows = elsewhere().astype(dtype)
    np.save(path, rows) if ending == "npy" else np.savez(path, rows)
    found, view = asked("core-set", tmp_path, features=f"npz:{path}")
    expected = torch.from_numpy(rows.astype(np.float32))
    assert found == slow_core_set(expected, view, view.unlabelled.tolist(), 6)


def _bad(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Path], None]:
    return lambda path: np.savez(path, features=change(elsewhere()))


def _not_a_number(rows: NDArray[Any]) -> NDArray[Any]:
    rows[4, 2] = np.nan
    return rows


def _huge(rows: NDArray[Any]) -> NDArray[Any]:
    wide = rows.astype(np.float64)
    wide[5, 1] = 1e300
    return wide


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (_bad(lambda rows: rows[:-1]), r"has 59 rows, the pool 60 items; expected one row for each"),
        (_bad(lambda rows: np.concatenate([rows, rows])), r"has 120 rows, the pool 60 items"),
        (_bad(_not_a_number), r"must be finite in float32; row 4, column 2 is nan"),
        (_bad(_huge), r"must be finite in float32; row 5, column 1 is 1e\+300"),
        (_bad(lambda rows: (rows * 9).astype(np.int64)), r"must be rows of floats \[N, D\]; found int"),
        (_bad(lambda rows: rows.astype(np.complex64)), r"rows of floats \[N, D\]; found complex64"),
        (_bad(lambda rows: rows.astype(str)), r"rows of floats \[N, D\]; found <U"),
        (_bad(lambda rows: rows[:, 0]), r"found float32 of shape \(60,\)"),
        (_bad(lambda rows: rows[:, :0]), r"found float32 of shape \(60, 0\)"),
        (_bad(lambda rows: rows[:, :, None]), r"found float32 of shape \(60, 7, 1\)"),
        (_bad(lambda rows: rows.astype(object)), r"no whole file of rows \(Python objects are never"),
        (lambda path: np.savez(path, a=elsewhere(), b=elsewhere()), r"holds a, b; expected x_pool,"),
        (lambda path: np.savez(path), r"holds nothing; expected x_pool"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), r"is no whole file of rows"),
        (lambda path: path.write_bytes(b""), r"is no whole file of rows"),
        (lambda path: None, r"does not exist \(looked for "),
        (lambda path: path.mkdir(), r"does not exist \(looked for "),
    ],
)  # fmt: skip
def test_a_file_that_does_not_serve_is_one_line(
    write: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.npz"
    write(path)
    with pytest.raises(UserError, match=told) as caught:
        asked("core-set", tmp_path, features=f"npz:{path}")
    assert str(caught.value).startswith("strategy.features: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["autoencodr", "npz", "npz:", "", "pixels"])
def test_a_space_that_does_not_exist_is_one_line(value: str) -> None:
    given = {"task": "digits-ten", "strategy": {"name": "core-set", "features": value}}
    with pytest.raises(UserError, match=r"Unknown value of strategy\.features .*npz:FILE"):
        bind(given)


def test_dimensions_of_rows_that_are_taken_whole_are_refused(given: str) -> None:
    for name in ("typiclust", "prob-cover"):
        with pytest.raises(UserError, match=r"strategy\.pca_dims is of items and auto-encoders"):
            registry.resolve_strategy(name, features=given, pca_dims=3)
        registry.resolve_strategy(name, features="items", pca_dims=3)


# Keys --------------------------------------------------------------------------------------------


def key(name: str, **parameters: Any) -> str:
    spec = resolve(
        {"task": "digits-ten", "strategy": {"name": name, **parameters}, "device": "cpu"}
    )
    return spec.run_key


@pytest.mark.parametrize(
    "name", [*NAMES, "seals:4:core-set", "subset:9:seals:4:badge", "asal-gray"]
)
def test_the_files_content_is_in_the_runs_key_and_the_default_is_not(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, features=elsewhere())
    given = f"npz:{path}"
    one = key(name, features=given)
    assert key(name, features="auto") == key(name) != one
    np.savez(path, features=2 * elsewhere())
    assert key(name, features=given) != one
    path.unlink()
    with pytest.raises(UserError, match=r"strategy\.features: .* does not exist"):
        key(name, features=given)


def test_a_stopped_run_is_not_continued_on_another_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, features=elsewhere())
    strategy = {"name": "seals:4:margin", "features": f"npz:{path}"}
    spec = resolve({"task": "digits-ten", "strategy": strategy, "device": "cpu"})
    assert spec.strategy.parameters == {"features": f"npz:{path}"}
    assert rebind(spec).strategy.identity() == spec.plugins
    np.savez(path, features=2 * elsewhere())
    with pytest.raises(UserError, match=r"'strategy\.features' is not what it was"):
        rebind(spec)


def test_one_setting_reaches_the_strategy_around_and_the_one_inside(given: str) -> None:
    both = registry.resolve_strategy("seals:4:cluster-margin", features=given, candidates=3)
    assert both.own.features == both.inner.parameters.features == given  # type: ignore[attr-defined]
    assert both.parameters.candidates == 3  # type: ignore[attr-defined]
    alone = registry.resolve_strategy("seals:4:margin", features=given)
    assert alone.own.features == given  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="feature"):
        registry.resolve_strategy("subset:4:margin", features=given)


def test_rows_of_length_one_are_a_matter_of_the_published_methods() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert spaces.unit_rows(rows).tolist() == [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
