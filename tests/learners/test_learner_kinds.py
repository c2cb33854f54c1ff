"""Bring your own classifier: its three forms, its weights, its frozen features, and what is refused."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alharness.artefacts import ArtefactStore, Supply, write_tensors
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners import weights as weights_module
from alharness.learners.factory import learner_factory
from alharness.learners.frozen import embed
from alharness.learners.kinds import find_kind, kind_of
from alharness.learners.learner import Learner, LearnerSettings
from alharness.pool import ArrayPool
from alharness.seeds import derive
from alharness.spec import resolve

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
NETS = '''
import torch
from torch import nn


class Told(nn.Module):
    """A network that names its head, which is not the last linear layer that runs."""

    def __init__(self, item_shape, n_classes):
        super().__init__()
        self.body = nn.Linear(64, 5)
        self.parts = nn.ModuleDict({"out": nn.Linear(5, n_classes), "aux": nn.Linear(5, n_classes)})
        self.head = "parts.out"

    def forward(self, x):
        hidden = self.body(x.flatten(1)).tanh()
        logits = self.parts["out"](hidden)
        self.parts["aux"](hidden)
        return logits


class Found(Told):
    def __init__(self, item_shape, n_classes):
        super().__init__(item_shape, n_classes)
        del self.head
        del self.parts["aux"]

    def forward(self, x):
        return self.parts["out"](self.body(x.flatten(1)).tanh())


class Beside(Found):
    """A path around the head that gives nothing for items of zeros."""

    def __init__(self, item_shape, n_classes):
        super().__init__(item_shape, n_classes)
        self.skip = nn.Linear(64, n_classes, bias=False)

    def forward(self, x):
        return super().forward(x) + self.skip(x.flatten(1))


class Wild(Found):
    def forward(self, x):
        logits = super().forward(x)
        return logits + torch.randn_like(logits)


class Endless(Found):
    def forward(self, x):
        return super().forward(x) / 0


class Softmax(Found):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Short(Found):
    def __init__(self, item_shape, n_classes):
        super().__init__(item_shape, n_classes - 1)


class Halves(Found):
    def forward(self, x):
        return super().forward(x.reshape(len(x), 3, -1)[:, 0])


def number(item_shape, n_classes):
    return 7


NUMBER = 7
'''


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def problem(n: int = 24) -> tuple[ArrayPool, LabelledSet]:
    rng = np.random.default_rng(0)
    pool = ArrayPool(rng.integers(0, 255, (n, *SHAPE)).astype(np.uint8))
    index = torch.arange(n - 4)
    return pool, LabelledSet(index, index % 3)


def fitted(**settings: Any) -> tuple[Learner, torch.Tensor]:
    pool, labelled = problem()
    given = LearnerSettings(**{"width": 8, "min_steps": 5, "epochs": 1, **settings})
    learner = learner_factory(given)(pool.item_shape, 3, CPU)
    learner.fit(labelled, pool, seed=1)
    return learner, pool.gather(torch.arange(4))


# The three forms ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Told", "Found"])
def test_features_are_the_input_of_the_head_named_or_found(nets: Path, name: str) -> None:
    learner, items = fitted(kind=f"{nets}:{name}")
    network = learner.network.network  # type: ignore[attr-defined]
    expected = network.body(items.flatten(1)).tanh()
    assert torch.equal(learner.features(items), expected)
    assert torch.equal(learner.head_weights()[0], network.parts["out"].weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Beside", r"output of a linear layer"),
        ("Wild", "other logits each time for the same items"),
        ("Endless", "logits that are not finite"),
        ("Softmax", r"output of a linear layer \(logits, without softmax\)"),
        ("Short", r"must give logits \[B, 3\].*two items gave \(2, 2\)"),
        ("Halves", r"does not fit items of shape \(1, 8, 8\): RuntimeError"),
        ("number", r"gave a int.*expected a torch.nn.Module"),
        ("NUMBER", r"is a int, not a classifier. Expected a function or nn.Module"),
        ("Fund", r"Did you mean 'Found'"),
    ],
)
def test_a_network_that_will_not_do_gets_one_line(nets: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        learner_factory(LearnerSettings(kind=f"{nets}:{name}"))(SHAPE, 3, CPU)
    assert "\n" not in str(told.value)


def test_an_estimators_random_state_follows_from_the_seed() -> None:
    forest = "sklearn.ensemble:RandomForestClassifier"
    learner, items = fitted(kind=forest)
    assert learner.estimator.random_state == 1  # type: ignore[attr-defined]
    assert not learner.differentiable
    with pytest.raises(UserError, match="has no gradients"):
        learner.logits(items.requires_grad_())
    with pytest.raises(UserError, match="no linear last layer"):
        learner.head_weights()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("sklearn.svm:LinearSVC", "has no predict_proba"),
        ("sklearn.ensemble:VotingClassifier", "cannot be made without arguments"),
        ("sklearn.ensemble:RandomForestClasifier", "Did you mean 'RandomForestClassifier'"),
    ],
)
def test_an_estimator_that_will_not_do_gets_one_line(kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fitted(kind=kind)


def test_an_estimator_that_cannot_predict_gets_one_line() -> None:
    """Nearest neighbours are trained on three items, and fail when they are asked for five."""
    pool, labelled = problem()
    few = LabelledSet(labelled.indices[:3], labelled.targets[:3], n_asked=3)
    kind = LearnerSettings(kind="sklearn.neighbors:KNeighborsClassifier")
    learner = learner_factory(kind)(pool.item_shape, 3, CPU)
    with pytest.raises(
        UserError, match=r"cannot predict items .* n_neighbors .*Raise --initial-size"
    ):
        learner.fit(few, pool, seed=0)


MINE = """
from sklearn.ensemble import StackingClassifier
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.semi_supervised import LabelPropagation
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
categorical, propagation, without = CategoricalNB(), LabelPropagation(), SVC(probability=False)
stacking = StackingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier())], cv=2)
"""


def test_an_estimator_that_predicts_once_it_is_trained_will_do(tmp_path: Path) -> None:
    """A stacking classifier has no ``predict_proba`` before it is trained."""
    (tmp_path / "mine.py").write_text(MINE)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    learner, items = fitted(kind=f"{tmp_path}/mine.py:stacking")
    assert learner.log_probs(items).exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-4)
    after = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    assert after == before, "what is tried draws from nobody's numbers"
    with pytest.raises(UserError, match="has no predict_proba"):
        fitted(kind=f"{tmp_path}/mine.py:without")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        # An index that is out of bounds is the estimator's way to say that it saw no such category.
        ("categorical", r"cannot predict items .* out of bounds .*\. Raise --initial-size"),
        ("propagation", r"gives no finite probabilities for 3 of 3 items\. Raise --initial-size"),
    ],
)
def test_what_an_estimator_cannot_say_is_one_line(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    pool = ArrayPool(np.abs(np.random.default_rng(0).normal(size=(40, 3)) * 0.1).astype(np.float32))
    labelled = LabelledSet(torch.arange(10), torch.arange(10) % 2, n_asked=10)
    settings = LearnerSettings(kind=f"{tmp_path}/mine.py:{name}")
    learner = learner_factory(settings)(pool.item_shape, 2, CPU)
    learner.fit(labelled, pool, seed=0)
    with pytest.raises(UserError, match=message):
        learner.log_probs(torch.full((3, 3), 1e6))


def test_resnet18_keeps_something_of_small_images() -> None:
    for size, side in ((32, 4), (64, 4)):
        network = find_kind("resnet18").make((3, size, size), 5)  # type: ignore[union-attr]
        body = nn.Sequential(*list(network.children())[:-2])
        assert body.eval()(torch.zeros(1, 3, size, size)).shape == (1, 512, side, side)


# Several sets of parameters -------------------------------------------------------------------


def test_members_are_trained_with_seeds_of_their_own_and_averaged() -> None:
    ensemble, items = fitted(kind="mlp", members=3)
    pool, labelled = problem()
    alone = learner_factory(ensemble.members[0].settings.model_copy(update={"members": 1}))  # type: ignore[attr-defined]
    log_p = []
    for number in range(3):
        member = alone(SHAPE, 3, CPU)
        member.fit(labelled, pool, seed=derive(1, "member", number))
        log_p.append(member.log_probs(items))
    rng = torch.Generator()
    assert torch.equal(ensemble.sample_log_probs(items, 99, rng), torch.stack(log_p))
    mean = torch.stack(log_p).exp().mean(0)
    torch.testing.assert_close(ensemble.log_probs(items).exp(), mean)
    with pytest.raises(UserError, match=r"learner.members=1"):
        ensemble.head_weights()


def test_dropout_samples_are_those_of_a_thinned_network() -> None:
    learner, items = fitted(kind="mlp", dropout=0.5)
    samples = learner.sample_log_probs(items, 6, torch.Generator().manual_seed(0))
    masks = torch.Generator().manual_seed(0)
    weight, bias = learner.head_weights()
    for sample in samples:
        keep = (torch.rand([1, 8], generator=masks) >= 0.5).float()
        expected = (learner.features(items) * keep * 2) @ weight.T + bias
        torch.testing.assert_close(sample, expected.log_softmax(1))


def test_the_setting_replaces_a_networks_own_dropout_before_the_head() -> None:
    learner, _ = fitted(kind="mnist-cnn", dropout=0.25)
    found = [m.p for m in learner.network.modules() if isinstance(m, nn.Dropout)]  # type: ignore[attr-defined]
    assert found == [0.25]


def test_what_cannot_be_sampled_says_what_to_set() -> None:
    for settings in ({"kind": "linear"}, {"kind": "mlp"}):
        learner, items = fitted(**settings)
        with pytest.raises(UserError, match=r"learner.members=5.*learner.dropout=0.5"):
            learner.sample_log_probs(items, 2, torch.Generator())


# Weights ----------------------------------------------------------------------------------------


def saved(tmp_path: Path, nets: Path) -> tuple[nn.Module, Path, Path]:
    """A pretrained network of five classes, in both formats."""
    torch.manual_seed(5)
    network = find_kind(f"{nets}:Found").make(SHAPE, 5)  # type: ignore[union-attr]
    torch.save(network.state_dict(), tmp_path / "net.pt")
    write_tensors(tmp_path / "net.safetensors", network.state_dict())
    return network, tmp_path / "net.pt", tmp_path / "net.safetensors"


def test_weights_start_the_body_and_a_head_for_other_classes_is_new(
    nets: Path, tmp_path: Path
) -> None:
    network, *files = saved(tmp_path, nets)
    for file in files:
        learner = learner_factory(LearnerSettings(kind=f"{nets}:Found", weights=str(file)))
        built = learner(SHAPE, 3, CPU).build()  # type: ignore[attr-defined]
        assert torch.equal(built.network.body.weight, network.body.weight)
        assert built.last_layer.weight.shape == (3, 5)


def test_weights_that_will_not_do_get_one_line(nets: Path, tmp_path: Path) -> None:
    network, file, _ = saved(tmp_path, nets)
    state = network.state_dict()
    kind = f"{nets}:Found"
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "foreign.pt")
    torch.save({**state, "body.weight": torch.zeros(5, 9)}, tmp_path / "shape.pt")
    torch.save(network, tmp_path / "pickle.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name, message in {
        "foreign.pt": "'extra' is foreign",
        "shape.pt": r"'body.weight' has shape \(5, 9\) instead of \(5, 64\)",
        "pickle.pt": "is not a file of weights",
        "text.pt": "is not a file of weights",
        "none.pt": "does not exist",
    }.items():
        with pytest.raises(UserError, match=message) as told:
            fitted(kind=kind, weights=str(tmp_path / name))
        assert "\n" not in str(told.value), name
    with pytest.raises(UserError, match=r"learner.weights is for networks"):
        fitted(kind="linear", weights=str(file))


def test_torchvisions_weights_are_named_and_a_failed_download_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    name = weights_module.weights_identity("resnet18", "IMAGENET1K_V1")
    assert name.startswith("resnet18-")
    with pytest.raises(UserError, match=r"could not be fetched.*no network.*bring the file to"):
        weights_module.read_weights("resnet18", "IMAGENET1K_V1")
    with pytest.raises(UserError, match="it has IMAGENET1K_V1"):
        weights_module.read_weights("resnet18", "IMAGENET")
    with pytest.raises(UserError, match="torchvision has no weights for 'mlp'"):
        weights_module.read_weights("mlp", "IMAGENET1K_V1")


def test_what_a_classifier_rests_on_belongs_to_the_runs_key(nets: Path, tmp_path: Path) -> None:
    _, file, same = saved(tmp_path, nets)
    own, foreign = (
        LearnerSettings(kind="mlp"),
        LearnerSettings(kind=f"{nets}:Found", weights=str(file)),
    )
    assert kind_of(own).sources(own) == {}
    assert set(kind_of(foreign).identity()) == {str(nets)}
    first = kind_of(foreign).sources(foreign)
    assert set(first) == {"learner.weights"}
    file.write_bytes(same.read_bytes())
    second = kind_of(foreign).sources(foreign)
    assert first["learner.weights"] != second["learner.weights"]
    given = {"task": "digits-ten", "strategy": "random", "learner": {"kind": f"{nets}:Found"}}
    spec = resolve(given)
    assert set(spec.plugins) == {str(nets)}
    before = spec.run_key
    nets.write_text(NETS + "# changed\n")
    assert resolve(given).run_key != before


# Frozen -----------------------------------------------------------------------------------------


def test_frozen_features_are_made_once_and_a_head_learns_on_them(
    nets: Path, tmp_path: Path
) -> None:
    network, *files = saved(tmp_path, nets)
    pool, labelled = problem()
    test = ArrayPool(np.zeros((3, *SHAPE), dtype=np.uint8))
    found = []
    for number, file in enumerate(files):
        settings = LearnerSettings(kind=f"{nets}:Found", weights=str(file), freeze=True)
        supply = Supply(ArtefactStore(tmp_path / "store"))
        rows, test_rows = embed(settings, pool, test, 3, supply)
        (entry,) = supply.ledger.entries
        assert (entry.name, entry.cached) == ("embeddings", number == 1)  # by content, not by file
        found.append(rows.gather(torch.arange(24)))
        assert test_rows.n == 3
    items = pool.gather(torch.arange(24))
    torch.testing.assert_close(found[0], network.body(items.flatten(1)).tanh().detach())
    assert torch.equal(*found)
    head = learner_factory(settings)(rows.item_shape, 3, CPU)
    assert head.fit(labelled, rows, seed=0).converged
    assert head.head_weights()[0].shape == (3, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "linear", "freeze": True}, "learner.freeze is for networks"),
        ({"kind": "linear", "dropout": 0.5}, "learner.dropout is for networks"),
        ({"kind": "mlp", "freeze": True, "dropout": 0.5}, "Use learner.members=5"),
        ({"kind": "mlp", "freeze": True, "augment": "flip-crop"}, "learner.augment=none"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        learner_factory(LearnerSettings(**settings))


def test_rows_are_not_augmented_and_only_the_harness_freezes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"moves images.*learner.augment=none"):
        learner_factory(LearnerSettings(kind="mlp", augment="flip-crop"))((4,), 3, CPU)
    path = tmp_path / "own.py"
    path.write_text(
        "from alharness.learners.learner import LinearLearner\n\n\n"
        "class Own(LinearLearner):\n    pass\n"
    )
    reads_settings = LearnerSettings(kind=f"{path}:Own", dropout=0.5)
    assert learner_factory(reads_settings)(SHAPE, 3, CPU).settings.dropout == 0.5  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"learner.freeze is for networks"):
        learner_factory(reads_settings.model_copy(update={"freeze": True}))


def test_a_frozen_network_of_chance_is_refused(tmp_path: Path) -> None:
    pool, _ = problem()
    settings = LearnerSettings(kind="mlp", freeze=True)
    with pytest.raises(UserError, match="needs pretrained weights"):
        embed(settings, pool, pool, 3, Supply(ArtefactStore(tmp_path)))


# Said before data are loaded ------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["asal-gray", "gaal", "adba", "subset:20:max-entropy"])
def test_a_search_by_gradients_refuses_a_forest_before_anything_is_loaded(strategy: str) -> None:
    forest = {"learner": {"kind": "sklearn.ensemble:RandomForestClassifier"}}
    given = {"task": "mnist-two", "strategy": strategy, **forest}
    if strategy.startswith("subset"):
        assert resolve(given).learner.kind.startswith("sklearn")
        return
    with pytest.raises(UserError, match=r"gradients of the classifier.*learner.kind=mlp"):
        resolve(given)


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"kind": "sklearn.naive_bayes:GaussianNB"}, "beside a network"),
        ({"kind": "mlp", "members": 3}, r"learner.members=1"),
    ],
)
def test_learning_loss_says_early_what_it_cannot_use(learner: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve({"task": "mnist-two", "strategy": "learning-loss", "learner": learner})


def lacking(need: str, **settings: Any) -> str | None:
    """What a classifier of these settings cannot give to a strategy."""
    given = LearnerSettings(**settings)
    return kind_of(given).lacking(given, {need})


def test_needs_are_met_or_named() -> None:
    assert "learner.members=5" in (lacking("samples", kind="linear") or "")
    assert lacking("samples", kind="linear", members=2) is None
    frozen = lacking("gradients", kind="mlp", freeze=True, weights="x.pt")
    assert "learner.freeze" in (frozen or "")
    assert lacking("gradients", kind="mlp") is None
    with pytest.raises(UserError, match="Did you mean 'mlp'"):
        resolve({"task": "digits-two", "strategy": "random", "learner": {"kind": "mpl"}})
