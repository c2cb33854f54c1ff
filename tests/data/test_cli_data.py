"""``alharness data`` as a user types it, and a short run on a miniature of every data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from alharness import plugins
from alharness.cli import call

Write = Callable[..., Path]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: no data, an empty cache."""
    (tmp_path / "originals").mkdir()
    monkeypatch.setenv("ALHARNESS_DATA", str(tmp_path / "originals"))
    monkeypatch.setenv("ALHARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def run(places: Path, dataset: str, *options: str) -> list[dict[str, object]]:
    """Two cycles of ``random`` with a tiny classifier; the records."""
    arguments = ["run", "--strategy", "random", "--dataset", dataset, "--quiet", "--no-tracking"]
    arguments += ["--budget", "40", "--query-size", "10", "--initial-size", "20"]
    for setting in ("kind=mlp", "width=4", "min_steps=5", "epochs=0", "augment=none"):
        arguments += ["--set", f"learner.{setting}"]
    arguments += ["--runs-dir", str(places / "runs"), *options]
    assert call(arguments) == 0
    records = max(
        (places / "runs").glob("*/*/*/cycles.jsonl"), key=lambda path: path.stat().st_mtime
    )
    return [json.loads(line) for line in records.read_text().splitlines()]


@pytest.mark.parametrize(
    ("dataset", "task", "fixture"),
    [
        ("mnist", "mnist-two", "mini_mnist"),
        ("cifar10", "cifar10-ten", "mini_cifar10"),
        ("svhn", "svhn", "mini_svhn"),
        ("lsun", "lsun", "mini_lsun"),
    ],
)
def test_prepare_verify_and_run_a_miniature(
    dataset: str,
    task: str,
    fixture: str,
    places: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = places / "elsewhere"
    source.mkdir()
    request.getfixturevalue(fixture)(source)
    allowed, refused = ["--partial"], []
    if dataset != "lsun":  # official, says the fixture: what is whole has no part to accept
        allowed, refused = refused, allowed
    assert call(["data", "prepare", dataset, "--source", str(source), *refused]) == 2
    assert "\n" not in capsys.readouterr().err.strip().split("alharness: ")[-1]
    assert call(["data", "prepare", dataset, "--source", str(source), *allowed]) == 0
    assert ("PARTIAL" in capsys.readouterr().out) == (dataset == "lsun")
    assert call(["data", "verify", dataset, "--source", str(source)]) == 0
    assert "digests agree" in capsys.readouterr().out
    budget = ["--budget", "22", "--query-size", "6", "--initial-size", "10"]
    records = run(places, task, *(budget if task == "mnist-two" else []))
    assert records[-1]["final"]


def test_celeba_drawn_prepared_and_run(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = places / "drawn"
    assert call(["data", "draw", str(drawn), "--count", "100"]) == 0
    assert "synthetic" in capsys.readouterr().out
    assert call(["data", "prepare", "celeba", "--source", str(drawn), "--partial"]) == 0
    assert call(["data", "verify", "celeba"]) == 0
    assert len(run(places, "celeba-bangs")) >= 2
    # The whole of ASAL at 64x64, with as little training as there can be.
    little = ["generator.steps=2", "autoencoder.steps=2", "generator.batch_size=8"]
    settings = [
        word for setting in (*little, "strategy.latent_steps=3") for word in ("--set", setting)
    ]
    assert len(run(places, "celeba-bangs", "--strategy", "asal-auto", *settings)) >= 2
    assert call(["data", "preview", "celeba-bangs", "-o", str(places / "sheet.png")]) == 0
    assert (places / "sheet.png").stat().st_size > 1000
    assert "64 of 80 items" in capsys.readouterr().out


def test_import_class_folders_and_run(
    places: Path, class_folders: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    source = class_folders(
        places / "images", {"automobile": 30, "horse": 30}, splits=("train", "test"), size=(32, 32)
    )
    command = ["data", "import", "cifar10", "--source", str(source)]
    assert call(command) == 2
    assert "must have 5,000 train images" in capsys.readouterr().err
    assert call([*command, "--partial"]) == 0
    assert call([*command, "--partial"]) == 2
    assert "--rebuild" in capsys.readouterr().err
    assert len(run(places, "cifar10-two")) >= 2
    # A run on what lacks eight classes says which and stops.
    arguments = ["run", "--strategy", "random", "--dataset", "cifar10-ten", "--no-tracking"]
    assert call([*arguments, "--runs-dir", str(places / "runs")]) == 2
    assert "Class 'airplane' has no image" in capsys.readouterr().err


def test_a_folder_of_ones_own_runs(places: Path, class_folders: Write) -> None:
    source = class_folders(places / "mine", {"cat": 40, "dog": 40})
    assert len(run(places, f"folder:{source}", "--set", "task.image_size=8")) >= 2


def test_a_virtual_pool_runs(places: Path) -> None:
    assert len(run(places, "augmented:digits-two:3000")) >= 2


def test_list_says_what_is_here(
    places: Path, mini_mnist: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    mini_mnist(places / "originals")
    assert call(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "originals here" in lines["mnist"]
    assert "mnist-ten, mnist-two" in lines["mnist"]
    assert "not here" in lines["celeba"]
    assert "1.4 GB" in lines["celeba"]
    # What needs no preparation is there, too: the user's own, and what brings its data.
    own = {"folder", "npz", "parquet", "table", "torchvision", "augmented", "long-tail"}
    assert {f"{name}:..." for name in own} | {"digits-ten"} <= set(lines)
    names = {name for line in lines.values() for name in line.replace(",", "").split()}
    assert {*plugins.names(plugins.TASKS)} <= names | {name.split(":")[0] for name in names}
    assert call(["data", "prepare", "mnist"]) == 0
    capsys.readouterr()
    assert call(["data", "list"]) == 0
    assert "160 images ready" in capsys.readouterr().out


def test_what_has_no_cache_is_loaded_and_looked_at(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["data", "verify", "digits-two"]) == 0
    told = "digits-two: 240 pool items and 121 test items of 2 classes go together"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["prepare", "mnits"], "Did you mean 'mnist'"),
        (["verify", "mnist"], "Nothing to verify"),
        (["verify", "digits-nine"], "Did you mean 'digits-ten'"),
        (["import", "celeba", "--source", "."], "cannot be imported from class folders"),
        (["prepare", "mnist", "--source", "nowhere"], "does not exist"),
        (["prepare", "lsun"], "cannot be fetched automatically"),
        (["prepare", "mnist", "--workers", "0"], "workers"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["data", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_damaged_cache_is_found_by_verify(
    places: Path, mini_mnist: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    mini_mnist(places / "originals")
    assert call(["data", "prepare", "mnist"]) == 0
    images = places / "cache" / "datasets" / "mnist" / "images.npy"
    content = bytearray(images.read_bytes())
    content[5000] ^= 255
    images.write_bytes(bytes(content))
    assert call(["data", "verify", "mnist"]) == 2
    assert "damaged" in capsys.readouterr().err
    images.write_bytes(b"")
    # Built anew from the originals, and told with the file's name.
    assert call(["data", "prepare", "mnist"]) == 0
    assert f"{images} is damaged: built anew" in capsys.readouterr().err
    assert call(["data", "verify", "mnist"]) == 0
