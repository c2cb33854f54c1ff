"""Names to plug-ins: entry points of a fake distribution, classes by module, classes by file."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from alharness import registry
from alharness.errors import UserError
from alharness.plugins.names import installed_in, own_packages
from alharness.strategy import Strategy
from alharness_strategies.subset import SubsetStrategy

PLUGIN = '''
"""A third party's module."""
from alharness.strategy import PoolQuery, Strategy


class Newest(Strategy):
    """Ask about the last unlabelled items."""

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[-query_size:])


class Unfinished(Strategy):
    """Has no select."""


class Own(Newest):
    def __init__(self, k=3):
        self.k = k


NUMBER = 3
'''


@pytest.fixture
def fake_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution on disk: a package, and metadata as an installer would have written it."""
    package = tmp_path / "thirdparty_newest"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported too early')\n")
    (tmp_path / "thirdparty_newest_plain.py").write_text(PLUGIN)
    info = tmp_path / "thirdparty_newest-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty-newest\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(
        "[alharness.strategies]\n"
        "newest = thirdparty_newest_plain:Newest\n"
        "explodes = thirdparty_newest.module:Thing\n"
        "gone = thirdparty_newest_plain:Missing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("thirdparty_newest")]:
        del sys.modules[name]


def test_a_third_partys_plugin_is_found_like_ours(fake_distribution: Path) -> None:
    found = {entry.name: entry for entry in registry.listings(registry.STRATEGIES)}
    assert found["newest"].summary == "Ask about the last unlabelled items."
    assert found["newest"].distribution == "thirdparty-newest 2.1"
    assert found["random"].distribution.startswith("alharness ")
    assert "thirdparty_newest_plain" not in sys.modules  # listing imported nothing
    strategy = registry.resolve_strategy("newest")
    assert isinstance(strategy, Strategy)
    assert registry.provider(registry.STRATEGIES, "newest") == "thirdparty-newest 2.1"


def test_listing_survives_a_plugin_that_cannot_be_imported(fake_distribution: Path) -> None:
    assert "explodes" in registry.names(registry.STRATEGIES)
    assert any(entry.name == "explodes" for entry in registry.listings(registry.STRATEGIES))
    with pytest.raises(UserError, match=r"'gone' of thirdparty-newest 2.1 cannot be loaded"):
        registry.strategy_class("gone")


def test_two_distributions_that_claim_one_name_are_named(
    fake_distribution: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = tmp_path_factory.mktemp("rival") / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[alharness.strategies]\nnewest = rival:Newest\n")
    monkeypatch.syspath_prepend(str(info.parent))
    with pytest.raises(UserError, match=r"claim the name 'newest'.*(rival|thirdparty)"):
        registry.strategy_class("newest")


def test_a_class_by_module_or_by_file_needs_no_installation(fake_distribution: Path) -> None:
    by_module = registry.strategy_class("thirdparty_newest_plain:Newest")
    assert by_module.__name__ == "Newest"
    path = fake_distribution / "mine.py"
    path.write_text(PLUGIN)
    by_file = registry.strategy_class(f"{path}:Newest")
    assert by_file.__name__ == "Newest"
    assert by_file is registry.strategy_class(f"{path}:Newest")
    assert by_file is not by_module


def test_a_plugin_with_an_init_of_its_own_is_told_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    with pytest.raises(UserError, match=r"never calls super\(\).__init__"):
        registry.resolve_strategy(f"{path}:Own")
    with pytest.raises(UserError, match=r"is a file; name the plug-in in it: .*mine.py:Newest or"):
        registry.group_of(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "max-entrpy",
            r"Unknown strategy 'max-entrpy'. Did you mean 'max-entropy'\? Available: .*",
        ),
        ("no_such_module:Class", "Unknown strategy 'no_such_module:Class'"),
        ("./nowhere.py:Class", "does not exist"),
        ("some/where:Class", r"Expected ./file.py:Class"),
        ("collections:OrderedDict", "not a strategy. Derive a class"),
        ("alharness.strategy:Strateg", "Did you mean 'Strategy'"),
        ("alharness.strategy:ScoreStrategy", "does not define score"),
        ("subset:x:max-entropy", "Expected subset:SIZE:STRATEGY"),
        ("subset:10:full", "expects a strategy that chooses among"),
    ],
)
def test_a_wrong_strategy_gets_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        registry.resolve_strategy(name)


def test_subset_wraps_any_scoring_strategy() -> None:
    strategy = registry.resolve_strategy("subset:500:max-entropy")
    assert isinstance(strategy, SubsetStrategy)
    assert strategy.size == 500
    assert registry.provider(registry.STRATEGIES, "subset:500:max-entropy").startswith("alharness")


def test_tasks_with_and_without_an_argument() -> None:
    assert registry.resolve_task("digits-two").argument is None
    assert registry.resolve_task("folder:/some/where").argument == "/some/where"
    with pytest.raises(UserError, match="needs an argument"):
        registry.resolve_task("folder")
    with pytest.raises(UserError, match="Did you mean 'digits-two'"):
        registry.resolve_task("digit-two")
    with pytest.raises(UserError, match="takes nothing after a colon"):
        registry.resolve_task("digits-two:7")


#: What stands behind the colon of data sets that want something there.
ARGUMENTS = {
    "folder": ":x",
    "augmented": ":digits-two:100",
    "long-tail": ":10:digits-two",
    "npz": ":x.npz",
    "parquet": ":x",
    "table": ":x.csv",
    "torchvision": ":MNIST",
}


def test_our_own_entry_points_all_load() -> None:
    for name in registry.names(registry.STRATEGIES):
        assert issubclass(registry.strategy_class(name), Strategy), name
        assert registry.strategy_class(name).source, f"{name} does not say where it comes from"
    for name in registry.names(registry.TASKS):
        argument = ARGUMENTS.get(name, "")
        plugin = registry.resolve_task(name + argument)
        if name not in ARGUMENTS:
            for profile in ("quick", "paper"):
                defaults = plugin.defaults(profile)  # type: ignore[arg-type]
                assert defaults.initial_size < defaults.budget


def test_an_argument_may_follow_a_file_or_a_module() -> None:
    from alharness.plugins import split

    assert split(registry.TASKS, "./a.b/mine.py:Task:x:y") == ("./a.b/mine.py:Task", "x:y")
    assert split(registry.TASKS, "./mine.py:Task") == ("./mine.py:Task", None)
    assert split(registry.TASKS, "package.module:Task:x") == ("package.module:Task", "x")
    assert split(registry.TASKS, "folder:./x.py:y") == ("folder", "./x.py:y")


TASK = '''
from alharness.tasks.base import TaskPlugin


class Mine(TaskPlugin):
    """Takes an argument."""

    takes_argument = True

    def defaults(self, profile):
        raise NotImplementedError

    def load(self, locations, progress=None):
        raise NotImplementedError
'''


def test_a_data_set_in_a_file_takes_an_argument(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(TASK)
    assert registry.resolve_task(f"{path}:Mine:a/b:c").argument == "a/b:c"
    with pytest.raises(UserError, match="needs an argument"):
        registry.resolve_task(f"{path}:Mine")


# identity_of: what goes into a run's key ---------------------------------------------------


def test_our_own_plugins_need_no_identity() -> None:
    for name in ("max-entropy", "subset:500:margin", "alharness_strategies.margin:Margin"):
        assert registry.identity_of(registry.STRATEGIES, name) == {}
    for name in ("digits-two", "folder:/some/where.d:x", "augmented:digits-two:1000"):
        assert registry.identity_of(registry.TASKS, name) == {}


def test_what_is_ours_is_known_by_its_distribution() -> None:
    """No file of the harness names the package of the strategies that come with it."""
    ours = Path(registry.__file__).parent
    naming = [
        path.name for path in ours.rglob("*.py") if "alharness_strategies" in path.read_text()
    ]
    assert naming == []


def test_a_preset_is_listed_with_the_summary_that_its_call_gives() -> None:
    told = {listing.name: listing.summary for listing in registry.listings(registry.STRATEGIES)}
    for name in ("asal-rgb-rerank", "asal-disc-random-latent"):
        assert told[name] == inspect.getdoc(registry.strategy_class(name))
    assert all(told.values())


def test_a_files_identity_changes_with_its_source_and_not_with_its_place(tmp_path: Path) -> None:
    here, there = tmp_path / "mine.py", tmp_path / "sub" / "mine.py"
    there.parent.mkdir()
    for path in (here, there):
        path.write_text(PLUGIN)
    (before,) = registry.identity_of(registry.STRATEGIES, f"{here}:Newest").values()
    (elsewhere,) = registry.identity_of(registry.STRATEGIES, f"{there}:Newest").values()
    here.write_text(PLUGIN + "# changed\n")
    (after,) = registry.identity_of(registry.STRATEGIES, f"{here}:Newest").values()
    assert before == elsewhere != after
    inside = registry.identity_of(registry.STRATEGIES, f"subset:500:{here}:Newest")
    assert inside == {str(here): after}
    with pytest.raises(UserError, match="does not exist"):
        registry.identity_of(registry.STRATEGIES, "./nowhere.py:Class")


def test_a_changed_file_is_loaded_anew(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    before = registry.strategy_class(f"{path}:Newest")
    path.write_text(PLUGIN.replace("last unlabelled", "very last"))
    assert registry.strategy_class(f"{path}:Newest") is not before


def test_local_modules_that_a_file_imports_belong_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "localparts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "outer.py").write_text("import json, numpy\nfrom . import inner\n")
    (package / "inner.py").write_text("VALUE = 1\n")
    path = tmp_path / "mine.py"
    path.write_text("def late():\n    from localparts.outer import inner\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def identities() -> list[dict[str, str]]:
        names = (f"{path}:Mine", "localparts.outer:Mine")
        return [registry.identity_of(registry.LEARNERS, name) for name in names]

    before = identities()
    assert before == identities()
    assert all(before)
    (package / "inner.py").write_text("VALUE = 2\n")
    after = identities()
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert "localparts" not in sys.modules


def test_an_installed_plugin_is_told_by_distribution_and_version(fake_distribution: Path) -> None:
    found = registry.identity_of(registry.STRATEGIES, "subset:9:newest")
    assert list(found) == ["newest"]
    assert found["newest"].startswith("thirdparty-newest 2.1 ")  # its source is not installed
    forest = registry.identity_of(registry.LEARNERS, "sklearn.ensemble:RandomForestClassifier")
    assert list(forest) == ["sklearn.ensemble"]
    assert forest["sklearn.ensemble"].startswith("scikit-learn ")
    assert len(forest["sklearn.ensemble"].split()) == 2


def test_a_file_or_a_folder_without_its_colon_is_answered_with_what_works(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class One: pass\n\nclass Other: pass\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.py:One or .*mine\.py:Other"):
        registry.find_strategy(str(path))
    with pytest.raises(UserError, match=f"--dataset folder:{tmp_path}"):
        registry.resolve_task(str(tmp_path))


def test_files_of_installed_distributions_are_not_read_for_every_module_of_a_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plug-in's identity asks for hundreds of modules whether they are ours."""
    ours = own_packages()
    read: list[str] = []
    monkeypatch.setattr(PathDistribution, "read_text", lambda _, name: read.append(name))
    assert own_packages() == ours
    assert {"alharness", "alharness_strategies"} <= ours
    assert read == []


def test_what_a_user_writes_beside_a_plug_in_is_no_reason_to_read_the_installed_names_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders of plug-ins lie on the import path, and runs are written into them."""
    monkeypatch.syspath_prepend(tmp_path)
    before = installed_in()
    (tmp_path / "rows.npz").write_bytes(b"")
    assert installed_in() == before
    assert str(tmp_path) not in dict(before)
    (tmp_path / "beside-1.0.dist-info").mkdir()  # one that was installed is found at once
    points = "[alharness.strategies]\nbeside = beside:Strategy\n"
    (tmp_path / "beside-1.0.dist-info" / "entry_points.txt").write_text(points)
    (tmp_path / "beside-1.0.dist-info" / "METADATA").write_text("Name: beside\nVersion: 1.0\n")
    assert str(tmp_path) in dict(installed_in())
    assert "beside" in registry.names(registry.STRATEGIES)
