"""Published strategies run under the loop by name: equal starts, refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import alharness
from alharness import registry
from alharness.cli import call
from alharness_strategies.peers import PeerStrategy

FAMILIES = ("skactiveml", "modal", "baal", "small-text")


def peers() -> list[str]:
    found = []
    for family in FAMILIES:
        cls = registry.strategy_class(family)
        assert issubclass(cls, PeerStrategy)
        found += [f"{family}:{name}" for name in cls.peers]
    return found


def known(name: str) -> tuple[type[PeerStrategy], str]:
    family, _, peer = name.partition(":")
    cls = registry.strategy_class(family)
    assert issubclass(cls, PeerStrategy)
    return cls, peer


def patient(name: str) -> object:
    """A peer that trains many models for one query takes half a minute here."""
    cls, peer = known(name)
    slow = "subset:" in cls.peers[peer].fault
    return pytest.param(name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("name", map(patient, peers()))
def test_it_runs_or_says_why_not(name: str, tmp_path: Path) -> None:
    cls, peer = known(name)
    entry = cls.peers[peer]
    if entry.cannot:
        with pytest.raises(alharness.UserError, match="cannot be asked here"):
            registry.find_strategy(name)
        return
    pytest.importorskip(cls.module.split(".")[0], reason=cls.install)
    slow = "subset:" in entry.fault
    run = alharness.run(
        f"subset:15:{name}" if slow else name,
        "digits-two" if entry.binary_only else "digits-ten",
        budget=45,
        initial_size=40,
        query_size=5,
        learner={"kind": "mlp", "dropout": 0.3, "min_steps": 10},
        tracking=False,
        runs_dir=tmp_path,
    )
    assert list(run.cycles["n_labelled"]) == [40, 45]


def test_cycle_0_is_equal_to_the_bit_whoever_asks(tmp_path: Path) -> None:
    pytest.importorskip("skactiveml")
    digests = set()
    for name in ("random", "skactiveml:CoreSet", "skactiveml:GreedyBALD"):
        run = alharness.run(
            name,
            "digits-ten",
            budget=45,
            initial_size=40,
            query_size=5,
            learner={"kind": "mlp", "dropout": 0.3, "min_steps": 10},
            tracking=False,
            runs_dir=tmp_path,
        )
        digests.add(run.cycles["learner_digest"].iloc[0])
    assert len(digests) == 1


def test_a_peer_that_looks_at_items_alone_may_choose_the_first_labels(tmp_path: Path) -> None:
    pytest.importorskip("small_text")
    run = alharness.run(
        "margin",
        "digits-two",
        initial={"name": "small-text:EmbeddingKMeans", "space": "items"},
        budget=20,
        initial_size=10,
        query_size=10,
        tracking=False,
        runs_dir=tmp_path,
    )
    assert list(run.cycles["n_labelled"]) == [10, 20]


def test_a_known_fault_is_told_at_the_run_kept_and_told_by_compare(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("skactiveml")
    run = alharness.run(
        "subset:20:skactiveml:Badge",
        "digits-ten",
        budget=45,
        initial_size=40,
        query_size=5,
        tracking=False,
        runs_dir=tmp_path,
    )
    fault = "scikit-activeml's Badge: where items repeat each other"
    assert any(fault in note for note in run.notes)
    assert fault in run.run.facts.strategy.caveat
    assert fault in str(alharness.compare(run))


def test_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", "--strategy", "skactiveml:CoreSets", "--dataset", "digits-ten"]) == 2
    assert "Did you mean 'CoreSet'" in capsys.readouterr().err


def test_what_is_not_installed_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cls, _ = known("modal:margin_sampling")
    monkeypatch.setattr(cls, "module", "no_such_library")
    assert call(["run", "--strategy", "modal:margin_sampling", "--dataset", "digits-ten"]) == 2
    assert "pip install --no-deps modAL-python" in capsys.readouterr().err


def test_the_version_of_the_library_is_part_of_the_key() -> None:
    pytest.importorskip("skactiveml")
    strategy = registry.resolve_strategy("skactiveml:CoreSet")
    assert set(strategy.identity()) == {"library.scikit-activeml"}


def test_every_fault_names_an_issue_or_the_test_that_shows_it() -> None:
    root = Path(__file__).parents[2]
    for name in peers():
        cls, peer = known(name)
        fault = cls.peers[peer].fault
        if "found here" in fault:
            assert (root / fault.partition("found here: ")[2].rstrip(")")).is_file()


def test_a_misspelt_peer_is_met_with_those_that_can_be_asked() -> None:
    with pytest.raises(alharness.UserError, match="Unknown strategy of scikit-activeml") as told:
        alharness.run("skactiveml:Typiclust2", "digits-two")
    assert "Did you mean 'TypiClust'" in str(told.value)
    assert "GreedySamplingTarget" not in str(told.value)  # it is for regression
