"""What cannot work is said before data are loaded, and a slip gets the words that were meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from alharness.cli import call
from alharness.records import run_folders

REFUSED = [
    ("bald", "mnist-ten", ["learner.kind=mlp"], "Set learner.members=5"),
    ("qbc", "mnist-two", [], "Set learner.members=5"),
    ("asal-gray", "mnist-ten", ["strategy.score=learning-loss", "learner.members=3"], "members=1"),
    ("asal-gray", "mnist-ten", ["strategy.score=learning-loss", "learner.kind=resnet18"], "ReLUs"),
    ("learning-loss", "mnist-ten", ["learner.kind=resnet18"], "ReLUs of the harness's own"),
    ("asal-gray", "mnist-two", ["learner.kind=sklearn.svm:SVC"], "searches for images by gradients"),
    ("asal-auto", "mnist-ten", ["learner.freeze=true", "learner.kind=resnet18"], "leave learner.freeze"),
    ("asal-gray", "cifar10-two", [], "asal-rgb is its counterpart"),
    ("asal-rgb", "mnist-ten", [], "asal-gray is its counterpart"),
    ("adba", "mnist-ten", [], "two classes only, the task has 10"),
    ("subset:50:bald", "svhn", [], "Set learner.members=5"),
]  # fmt: skip


@pytest.mark.parametrize(("strategy", "dataset", "settings", "told"), REFUSED)
def test_what_cannot_work_is_said_before_data_are_loaded(
    strategy: str,
    dataset: str,
    settings: list[str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["run", "--strategy", strategy, "--dataset", dataset, "--no-tracking"]
    words += ["--runs-dir", str(tmp_path / "runs"), "--data-root", str(tmp_path / "no-data")]
    for text in settings:
        words += ["--set", text]
    assert call(words) == 2
    output = capsys.readouterr()
    assert told in output.err
    assert len(output.err.splitlines()) == 1
    assert output.out == ""
    assert not (tmp_path / "runs").exists()


def test_a_classifier_that_brings_its_own_dropout_is_not_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--strategy", "bald", "--dataset", "mnist-ten", "--no-tracking"]
    words += ["--runs-dir", str(tmp_path / "runs"), "--data-root", str(tmp_path / "no-data")]
    assert call(words) == 2
    assert "MNIST not found" in capsys.readouterr().err  # it is the data that are missed


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--dataset", "mine.csv"], "--dataset table:mine.csv"),
        (["--dataset", "./some/mine.parquet"], "--dataset table:./some/mine.parquet"),
        (["--dataset", "mine.NPZ"], "--dataset npz:mine.NPZ"),
        (["--dataset", "FashionMNIST"], "--dataset torchvision:FashionMNIST"),
        (["--dataset", "fashion-mnist"], "--dataset torchvision:FashionMNIST"),
        (["--dataset", "emnist"], "--dataset torchvision:EMNIST:balanced"),
        (["--dataset", "mnist"], "torchvision:MNIST (or one of our own: mnist-ten, mnist-two)"),
        (["--dataset", "digit-ten"], "Did you mean 'digits-ten'?"),
        (["--set", "learner.kind=RandomForestClassifier"], "sklearn.ensemble:RandomForestClassifier"),
        (["--set", "learner.kind=random-forest"], "sklearn.ensemble:RandomForestClassifier"),
        (["--set", "learner.kind=SVC"], "learner.kind=sklearn.svm:SVC"),
        (["--set", "learner.kind=mpl"], "Did you mean 'mlp'?"),
        (["--set", "recipe=fc"], "Name one: generator.recipe or autoencoder.recipe."),
        (["--set", "min_steps=5", "--set", "learner.min_steps=6"], "are one setting. Give it once."),
        (["max-entropy"], "--strategy random and max-entropy name one thing"),
        (["a", "b", "c"], "a strategy and a data set; found 3 names"),
        (["--strategy", "MaxEntropy"], "Did you mean 'max-entropy'?"),
    ],
)  # fmt: skip
def test_a_slip_is_told_what_was_meant(
    typed: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--no-tracking", "--runs-dir", str(tmp_path / "runs"), *typed]
    for option, usual in (("--strategy", "random"), ("--dataset", "digits-two")):
        if option not in typed:
            words += [option, usual]
    assert call(words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_files_of_torchvision_that_are_still_packed_are_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"")
    words = ["run", "--strategy", "random", "--dataset", "torchvision:FashionMNIST"]
    words += ["--no-tracking", "--runs-dir", str(tmp_path / "runs"), "--data-root", str(tmp_path)]
    assert call(words) == 2
    assert f"Unpack them: gunzip -k {raw}/*.gz" in capsys.readouterr().err


def test_names_may_stand_without_their_options_and_a_setting_without_its_section(
    tmp_path: Path,
) -> None:
    where = ["--no-tracking", "--quiet", "--budget", "30", "--runs-dir", str(tmp_path)]
    assert call(["run", "margin", "digits-two", "--set", "max_iterations=7", *where]) == 0
    (folder,) = run_folders(tmp_path)
    assert folder.path.parent.name == "margin"
    whole = ["--strategy", "margin", "--dataset", "digits-two"]
    assert call(["run", *whole, "--set", "learner.max_iterations=7", *where]) == 0
    assert len(run_folders(tmp_path)) == 1  # the same run


@pytest.mark.parametrize("words", [[], ["artefacts"]])
def test_a_group_alone_shows_its_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    call(words)
    shown = "".join(capsys.readouterr())
    assert shown.startswith("Usage: ")
    assert "See '" not in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["digits-two", "margin"], "'margin' is a strategy; expected a data set"),
        (["--strategy", "digits-two", "--dataset", "digits-ten"], "'digits-two' is a data set;"),
        (["margin", "subset:50:random"], "'subset:50' is a strategy;"),
        (["digits-two"], "alharness run margin digits-two"),
    ],
)
def test_a_data_set_in_the_strategys_place_is_told_as_such(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Available" not in error


def test_a_stopping_rule_in_the_strategys_place_is_told_without_a_word_on_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["run", "entropy", "digits-two"]) == 2
    error = capsys.readouterr().err
    assert (
        "'entropy' is a stopping rule; expected a strategy ('alharness list strategies')." in error
    )
    assert "takes the strategy first" not in error


def test_a_misspelt_class_is_met_with_the_files_own_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from alharness.strategy import PoolQuery, Strategy\n\n\nclass Lowest(Strategy):\n"
        '    """First."""\n\n    def select(self, view, query_size):\n'
        "        return PoolQuery(view.unlabelled[:query_size])\n"
    )
    assert call(["run", f"{file}:Lowset", "digits-two"]) == 2
    assert "Did you mean 'Lowest'? Available: Lowest." in capsys.readouterr().err


def test_a_setting_typed_as_an_option_is_told_as_the_setting_that_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["run", "margin", "digits-two", "--min-steps", "20"]) == 2
    assert "It is a setting: --set learner.min_steps=VALUE." in capsys.readouterr().err
    assert call(["run", "margin", "digits-two", "--nonsense", "20"]) == 2
    assert "See 'alharness run --help'." in capsys.readouterr().err
