"""``alharness data embed``: rows of anybody's model, whole after a kill, and good for what was embedded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alharness.api import embedding
from alharness.api.embedding import embed
from alharness.cli import call
from alharness.errors import PluginError, UserError
from alharness.matching.given import read_given
from alharness.records import run_folders
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations, load_data

MODEL = """
import numpy as np
import torch
from torch import nn

WEIGHT = torch.randn(5, 64, generator=torch.Generator().manual_seed({seed}))

def function(images):
    return images.flatten(1) @ WEIGHT.T

def in_numpy(images):
    return function(images).numpy()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(5, affine=False)
    def forward(self, images):
        return self.norm(self.dropout(function(images)))[:, :, None]

made = Net()
def factory():
    return Net()
def training():
    net = Net().train()
    return lambda images: net(images)
def by_chance():
    weight = torch.randn(5, 64)
    return lambda images: images.flatten(1) @ weight.T

def one_less(images): return function(images)[1:]
def vector(images): return function(images)[:, 0]
def text(images): return "rows"
def nan(images): return function(images) / 0 * 0
def raising(images): raise RuntimeError("no memory\\nat all")
def widening(images): return images.flatten(1)[:, : 2 + len(images) % 3]
number = 3
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text(MODEL.format(seed=0), encoding="utf-8")
    return "./model.py"


def embedded(task: str, model: str, out: str = "rows.npz", **settings: Any) -> embedding.Embedded:
    locations = DataLocations.resolve(None)
    return embed(task, model, Path(out), locations=locations, device="cpu", **settings)


def expected(task: str) -> tuple[np.ndarray, np.ndarray]:
    """What ``function`` gives, all items at once."""
    data = load_data(resolve_task(task), DataLocations.resolve(None))
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    cpu = torch.device("cpu")
    return tuple(
        (pool.gather(torch.arange(pool.n)).flatten(1) @ weight.T).numpy()
        for pool in (data.open_pool(cpu), data.open_test(cpu))
    )  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["function", "in_numpy"])
@pytest.mark.parametrize("task", ["digits-two", "digits-ten"])
def test_every_item_of_pool_and_test_set_has_its_row(task: str, name: str, model: str) -> None:
    found = embedded(task, f"{model}:{name}", batch_size=50)
    rows, test_rows = expected(task)
    with np.load("rows.npz") as file:
        np.testing.assert_allclose(file["x_pool"], rows, atol=1e-5)
        np.testing.assert_allclose(file["x_test"], test_rows, atol=1e-5)
        origin = json.loads(str(file["embedded"]))
    assert (found.n_pool, found.n_test, found.n_features, found.n_found) == (
        len(rows), len(test_rows), 5, 0,
    )  # fmt: skip
    data = load_data(resolve_task(task), DataLocations.resolve(None))
    assert (origin["fingerprint"], origin["pool"]) == (data.fingerprint, data.pool_fingerprint)
    assert origin["model"] == f"{model}:{name}"
    assert list(Path().glob("rows.npz.*")) == []


@pytest.mark.parametrize("name", ["made", "Net", "factory"])
def test_a_module_is_put_into_evaluation_mode(name: str, model: str) -> None:
    embedded("digits-two", f"{model}:{name}")
    rows, _ = expected("digits-two")
    # Running statistics of a fresh layer: mean 0, variance 1.
    np.testing.assert_allclose(
        read_given(Path("rows.npz")).rows, rows / (1 + 1e-5) ** 0.5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("training", r"another row when others stand beside it.*model\.eval\(\)"),
        ("one_less", r"expected a row of numbers for each image.*shape \(1, 5\) for 2 images"),
        ("vector", r"shape \(2,\) for 2 images"),
        ("text", r"found TypeError: a str"),
        ("nan", r"values that are not finite"),
        ("raising", r"RuntimeError: no memory .*model\.py, line"),
        ("number", r"is a int; expected a torch\.nn\.Module"),
        ("functoin", r"Unknown model in ./model\.py 'functoin'\. Did you mean 'function'\?"),
    ],
)
def test_what_is_no_model_is_one_line(name: str, told: str, model: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        embedded("digits-two", f"{model}:{name}")
    assert "\n" not in str(caught.value)
    assert not Path("rows.npz").exists()


def test_rows_of_unequal_width_are_refused(model: str) -> None:
    with pytest.raises(UserError, match="expected one width for all"):
        embedded("digits-two", f"{model}:widening", batch_size=50)


class Killed(BaseException):
    pass


def stop_after(batches: int) -> Any:
    """A progress that ends everything, as a kill between two batches would."""
    seen = []

    def progress(stage: str, done: int, total: int, notes: Any = None) -> None:
        seen.append(done)
        if len(seen) == batches:
            raise Killed

    return progress


@pytest.mark.parametrize("batches", [1, 3, 6, 7])
@pytest.mark.parametrize("torn", [0, 7, 33])
def test_a_killed_call_goes_on_and_ends_with_the_same_bytes(
    batches: int, torn: int, model: str
) -> None:
    name = f"{model}:function"
    embedded("digits-two", name, "whole.npz", batch_size=50)
    with pytest.raises(Killed):
        embedded("digits-two", name, batch_size=50, progress=stop_after(batches))
    assert not Path("rows.npz").exists()
    if torn:  # the last write was cut
        parts = sorted(
            Path("rows.npz.partial.d").glob("*.rows"), key=lambda path: path.stat().st_mtime
        )
        content = parts[-1].read_bytes()
        parts[-1].write_bytes(content[:-torn])
    found = embedded("digits-two", name, batch_size=50)
    assert found.n_found >= 50 * (batches - 2)
    assert Path("rows.npz").read_bytes() == Path("whole.npz").read_bytes()


def test_another_model_or_data_set_does_not_go_on_in_it(model: str) -> None:
    name = f"{model}:function"
    with pytest.raises(Killed):
        embedded("digits-two", name, batch_size=50, progress=stop_after(2))
    with pytest.raises(UserError, match=r"was begun with something else \(model\)\. Give --fresh"):
        embedded("digits-two", f"{model}:in_numpy", batch_size=50)
    with pytest.raises(
        UserError, match=r"begun with something else \(task, fingerprint, pool, test"
    ):
        embedded("digits-ten", name, batch_size=50)
    Path("model.py").write_text(MODEL.format(seed=1), encoding="utf-8")
    with pytest.raises(UserError, match=r"begun with something else \(source\)"):
        embedded("digits-two", name, batch_size=50)
    assert embedded("digits-two", name, batch_size=50, fresh=True).n_found == 0


def test_weights_by_chance_are_noticed_when_it_goes_on(model: str) -> None:
    with pytest.raises(Killed):
        embedded("digits-two", f"{model}:by_chance", batch_size=50, progress=stop_after(3))
    with pytest.raises(UserError, match="other rows for the first items of the pool"):
        embedded("digits-two", f"{model}:by_chance", batch_size=50)


def test_a_file_that_is_there_is_kept(model: str) -> None:
    embedded("digits-two", f"{model}:function")
    before = Path("rows.npz").read_bytes()
    again = embedded("digits-two", f"{model}:function")
    assert again.n_found == again.n_pool + again.n_test
    with pytest.raises(UserError, match=r"is there already and of something else \(model\)"):
        embedded("digits-two", f"{model}:in_numpy")
    assert Path("rows.npz").read_bytes() == before
    with pytest.raises(UserError, match=r"must end in \.npz"):
        embedded("digits-two", f"{model}:function", "rows.npy")


# What the file is good for ------------------------------------------------------------------------


def run(tmp_path: Path, *arguments: str) -> int:
    sizes = ["--budget", "30", "--query-size", "6", "--initial-size", "12"]
    learner = ["--set", "learner.kind=linear"]
    places = ["--no-tracking", "--quiet", "--runs-dir", str(tmp_path / "runs")]
    return call(["run", *places, *sizes, *learner, *arguments])


@pytest.mark.parametrize("task", ["digits-two", "digits-ten"])
def test_a_run_on_a_class_subset_takes_the_rows_of_its_own_pool(
    task: str, model: str, tmp_path: Path
) -> None:
    """Core-set by the file, under the guard, held against a search over all pairs in every cycle."""
    embedded(task, f"{model}:function")
    setting = ["--set", "strategy.features=npz:rows.npz"]
    assert run(tmp_path, "--strategy", "core-set", "--dataset", task, *setting) == 0
    (folder,) = run_folders(tmp_path / "runs")
    asked = [query.tolist() for query in _asked(folder)]
    rows = torch.from_numpy(expected(task)[0]).double()
    labelled: list[int] = asked[0]
    for query in asked[1:]:
        apart = torch.cdist(rows, rows[labelled]).amin(dim=1)
        # The first of a query is the farthest of all from what is labelled.
        assert float(apart[query[0]]) == pytest.approx(float(apart.max()), rel=1e-6)
        labelled += query
    (entry,) = [
        one for one in (folder.records()[0].time.preparation or []) if one.name == "features"
    ]
    assert entry.details["rows"] == len(rows)


def _asked(folder: Any) -> list[np.ndarray]:
    with np.load(folder.path / "queries.npz") as file:
        cycles, indices = file["indices@cycle"], file["indices"]
    return [indices[cycles == cycle] for cycle in np.unique(cycles)]


def test_rows_of_another_task_are_refused(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded("digits-ten", f"{model}:function")
    setting = ["--set", "strategy.features=npz:rows.npz"]
    assert run(tmp_path, "--strategy", "core-set", "--dataset", "digits-two", *setting) == 2
    told = capsys.readouterr().err
    assert "made of 'digits-ten' has" in told
    assert len(told.strip().splitlines()) == 1
    # As many rows, of other items: only the fingerprint tells.
    with np.load("rows.npz") as file:
        held = dict(file)
    origin = json.loads(str(held["embedded"]))
    origin["pool"] = "0" * 16
    held["embedded"] = np.array(json.dumps(origin))
    np.savez("rows.npz", **held)
    assert run(tmp_path, "--strategy", "core-set", "--dataset", "digits-ten", *setting) == 2
    assert "holds rows of other items: expected the pool" in capsys.readouterr().err


def test_the_file_is_a_data_set_whose_classifier_has_the_same_features(
    model: str, tmp_path: Path
) -> None:
    embedded("digits-ten", f"{model}:function")
    data = load_data(resolve_task("npz:rows.npz"), DataLocations.resolve(None))
    own = load_data(resolve_task("digits-ten"), DataLocations.resolve(None))
    assert data.class_names == own.class_names
    np.testing.assert_array_equal(data.pool_targets, own.pool_targets)
    np.testing.assert_array_equal(data.test_targets, own.test_targets)
    np.testing.assert_allclose(data.pool_images, expected("digits-ten")[0], atol=1e-5)
    # Whole and of length 1, as published, not reduced by PCA: the file is its own data set's space, too.
    for space in ("auto", "npz:rows.npz"):
        told = ["--strategy", "typiclust", "--set", f"strategy.features={space}"]
        assert run(tmp_path, "--dataset", "npz:rows.npz", *told) == 0
    reduced, whole = (_asked(folder)[1].tolist() for folder in run_folders(tmp_path / "runs"))
    assert reduced != whole


def test_frozen_features_in_the_pools_place_do_not_make_it_another_task(model: str) -> None:
    """``learner.freeze`` moves the pool to rows: the file is still held against the task's own images."""
    from alharness.strategy import Preparation

    embedded("digits-two", f"{model}:function")
    given = read_given(Path("rows.npz"))
    data = load_data(resolve_task("digits-two"), DataLocations.resolve(None))
    moved = np.zeros((len(data.pool_targets), 3), np.float32)
    from alharness.pool import ArrayPool

    preparation = Preparation(
        ArrayPool(moved), ArrayPool(moved), 2, 0, None, None, None, None,  # type: ignore[arg-type]
        task_fingerprint=data.pool_fingerprint,
    )  # fmt: skip
    given.require(preparation.pool.n, preparation.own_fingerprint)
    with pytest.raises(UserError, match="rows of other items"):
        given.require(preparation.pool.n, preparation.pool.fingerprint)


@pytest.mark.parametrize(("name", "code"), [("asal-gray", 0), ("asal-auto", 0)])
def test_asal_places_its_images_by_the_model_that_made_the_file(
    name: str, code: int, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded("digits-two", f"{model}:function")
    short = ["generator.steps=20", "strategy.latent_steps=3", "strategy.features=npz:rows.npz"]
    settings = [part for text in short for part in ("--set", text)]
    assert run(tmp_path, "--strategy", name, "--dataset", "digits-two", *settings) == code
    (folder,) = run_folders(tmp_path / "runs")
    assert not any(
        entry.name == "autoencoder" for entry in (folder.records()[0].time.preparation or [])
    )
    # Without the model's name nothing places the synthetic images, and with another one's rows neither.
    with np.load("rows.npz") as file:
        np.savez("bare.npz", x_pool=file["x_pool"])
    settings[-1] = "strategy.features=npz:bare.npz"
    assert run(tmp_path, "--strategy", name, "--dataset", "digits-two", *settings) == 2
    assert "does not say which model made it" in capsys.readouterr().err
    Path("model.py").write_text(MODEL.format(seed=1), encoding="utf-8")
    settings[-1] = "strategy.features=npz:rows.npz"
    assert (
        run(tmp_path, "--strategy", name, "--dataset", "digits-two", "--seed", "1", *settings) == 2
    )
    assert "gives other rows for the pool's first items" in capsys.readouterr().err


def test_the_command_says_what_was_written_and_how_to_use_it(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "embed", "digits-two", "--model", f"{model}:function", "--out", "rows.npz"]
    assert call(arguments) == 0
    told = capsys.readouterr().out
    assert "as rows of 5 numbers: rows.npz" in told
    assert "--set strategy.features=npz:rows.npz  on digits-two" in told
    assert call([*arguments[:4], f"{model}:raising", "--out", "other.npz"]) == 2
    assert "PluginError" not in capsys.readouterr().err
    with pytest.raises(PluginError):
        embedded("digits-two", f"{model}:raising", "other.npz", fresh=True)
