"""Classifiers on the command line: listed, shown, checked."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from alharness.cli import call
from alharness.learners.kinds import network_kind

NET = '''
from torch import nn


class Net(nn.Module):
    """A net of mine."""

    def __init__(self, item_shape, n_classes):
        super().__init__()
        self.a = nn.Linear(64, 9)
        self.b = nn.Linear(9, n_classes)

    def forward(self, x):
        return self.b(self.a(x.flatten(1)).relu())


class Drunk(Net):
    """Never the same twice."""

    def forward(self, x):
        return self.b(nn.functional.dropout(self.a(x.flatten(1)), training=True))


class Number(int):
    """No classifier."""
'''


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def test_classifiers_are_listed_with_their_summaries(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["list", "learners"]) == 0
    table = capsys.readouterr().out
    assert "mlp          One hidden layer on flattened items" in table
    assert "resnet18" in table


def test_a_classifier_is_shown_wherever_it_is(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["show", f"{net}:Net"]) == 0
    shown = capsys.readouterr().out
    assert "A net of mine." in shown
    assert f"--set learner.kind={net}:Net" in shown
    assert "dropout" in shown
    assert call(["show", "linear"]) == 0
    assert "learner.warm_start do not apply" in capsys.readouterr().out
    assert call(["show", "sklearn.ensemble:RandomForestClassifier"]) == 0
    assert "random forest" in capsys.readouterr().out


def test_a_classifier_is_checked(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", f"{net}:Net", "--set", "learner.dropout=0.5"]) == 0
    assert "ok    samples" in capsys.readouterr().out
    assert call(["check", f"{net}:Drunk"]) == 1
    assert "FAIL  evaluation-mode" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["check", "mpl"],
            "Unknown strategy, data set, classifier or stopping rule 'mpl'. Did you mean 'mlp'?",
        ),
        (["check", "mlp", "--set", "learner.dropout=2"], "learner.dropout"),
        (["show", "NET:Number"], "neither a strategy nor a data set, classifier or stopping rule"),
    ],
)
def test_what_is_no_classifier_gets_one_line(
    net: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([argument.replace("NET", str(net)) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) == 1


def test_a_copy_of_anyones_network_stands_for_itself(net: Path) -> None:
    kind = network_kind(f"{net}:Net")
    first = kind.build((1, 8, 8), 3, width=1, dropout=0.5).eval()
    copied = copy.deepcopy(first)
    items = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        copied.last_layer.weight.zero_()
    assert not torch.equal(first(items), copied(items))
    assert torch.equal(first.features(items), copied.features(items))
    copied.train()
    assert not first.training
