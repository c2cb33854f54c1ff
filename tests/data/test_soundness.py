"""What a task of one's own loads is held against what a run does with it: no figure from a wrong array."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alharness.cli import call
from alharness.engine.evaluation import figures_of
from alharness.errors import PluginError, UserError
from alharness.registry import resolve_task
from alharness.tasks.base import (
    DataLocations,
    Profile,
    TaskData,
    TaskDefaults,
    TaskPlugin,
    load_data,
)

NOWHERE = DataLocations(Path("nowhere"), Path("nowhere"))
RNG = np.random.default_rng(0)
GOOD = TaskData(
    pool_images=RNG.integers(0, 255, (30, 1, 8, 8)).astype(np.uint8),
    pool_targets=np.arange(30) % 3,
    test_images=RNG.integers(0, 255, (12, 1, 8, 8)).astype(np.uint8),
    test_targets=np.arange(12) % 3,
    class_names=("ant", "bee", "cow"),
    fingerprint="a",
    pool_fingerprint="b",
)


class Mine(TaskPlugin):
    """Whatever it was given."""

    given: Any

    def defaults(self, profile: Profile) -> TaskDefaults:
        return resolve_task("digits-ten").defaults(profile)

    def load(self, locations: DataLocations, progress: Any = None) -> TaskData:
        return self.given() if callable(self.given) else self.given  # type: ignore[no-any-return]


def load(given: Any) -> TaskData:
    plugin = Mine("./mine.py:Mine")
    plugin.given = given
    return load_data(plugin, NOWHERE)


def floats(shape: tuple[int, ...]) -> Any:
    return np.ones(shape, dtype=np.float32)


def holed(n: int) -> Any:
    rows = floats((n, 4))
    rows[n - 1, 2] = np.nan
    return rows


ROWS = {"pool_images": floats((30, 4)), "test_images": floats((12, 4))}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pool_targets": np.arange(35) % 3}, "pool_targets .* found 35 labels for 30 items"),
        ({"pool_targets": np.arange(20) % 3}, "pool_targets .* found 20 labels for 30 items"),
        ({"test_targets": np.arange(24) % 3}, "test_targets .* found 24 labels for 12 items"),
        ({"pool_targets": np.arange(30) % 4}, r"must lie in 0 \.\. 2.* found 3 at position 3"),
        ({"test_targets": np.arange(12) % 3 - 1}, r"must lie in 0 \.\. 2.* found -1 at position 0"),
        ({"test_targets": np.full(12, 2**63, np.uint64)}, "found 9223372036854775808"),
        ({"test_targets": np.arange(12) % 3 / 1}, "whole numbers.* found float64"),
        ({"test_targets": (np.arange(12) % 3)[:, None]}, r"found int64 of shape \(12, 1\)"),
        ({"test_targets": [0, 1, 2] * 4}, "found list"),
        ({"class_names": ("ant", "bee", "bee")}, "two different texts"),
        ({"class_names": ("ant",)}, "at least two"),
        ({"class_names": (0, 1, 2)}, "different texts"),
        ({"test_images": GOOD.test_images[:, :, :7]}, r"uint8 \(1, 8, 8\) and uint8 \(1, 7, 8\)"),
        ({"test_images": floats((12, 1, 8, 8))}, r"float32 of shape.*astype\('uint8'\)"),
        ({"pool_images": GOOD.pool_images.astype(np.uint16)}, "found uint16"),
        ({"pool_images": GOOD.pool_images[:, 0]}, r"images\[:, None\]"),
        ({"pool_images": GOOD.pool_images.tolist()}, "found list.*numpy.asarray"),
        ({"test_images": GOOD.test_images[:0]}, "at least one item"),
        ({**ROWS, "test_images": GOOD.test_images}, "of one type and shape"),
        ({**ROWS, "pool_images": floats((30, 4)).astype(np.float64)}, r"found float64.*'float32'"),
        ({**ROWS, "test_images": holed(12)}, "test_images .* finite; row 11"),
        ({**ROWS, "pool_images": holed(30)}, "pool_images .* finite; row 29"),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        load(replace(GOOD, **changes))
    assert "data set './mine.py:Mine'" in str(caught.value)


def test_any_whole_numbers_are_labels() -> None:
    for dtype in (np.uint8, np.int32, np.uint64):
        data = load(replace(GOOD, test_targets=GOOD.test_targets.astype(dtype)))
        assert data.test_targets.dtype == np.int64
        assert data.test_targets.tolist() == GOOD.test_targets.tolist()
    two = replace(GOOD, class_names=("ant", "bee"), test_targets=np.arange(12) % 2 == 0)
    data = load(replace(two, pool_targets=np.arange(30) % 2))
    assert data.test_targets.tolist() == [1, 0] * 6


def test_figures_do_not_depend_on_the_type_of_the_labels() -> None:
    """With 20 classes a cell's number does not fit a byte, which is what idx files hold."""
    targets = np.arange(20).repeat(5)
    log_p_NC = torch.log_softmax(
        torch.randn(100, 20, generator=torch.Generator().manual_seed(0)), 1
    )
    log_p_NC[torch.arange(100), torch.from_numpy(targets)] += 3
    whole, bytes_ = (figures_of(log_p_NC, targets.astype(t)) for t in (np.int64, np.uint8))
    assert bytes_ == whole
    assert whole.accuracy == float((log_p_NC.argmax(1).numpy() == targets).mean())


def test_classes_without_an_item_in_the_pool_are_told() -> None:
    data = load(replace(GOOD, class_names=("ant", "bee", "cow", "dog")))
    told = "absent: 1 of 4 classes have no item in the pool: dog"
    assert data.warnings == (told,)
    assert load(GOOD).warnings == ()
    few = load_data(resolve_task("augmented:digits-ten:5"), NOWHERE)
    assert few.warnings[0].startswith("absent: 5 of 10 classes have no item in the pool")


def test_a_load_that_raises_or_gives_something_else_is_one_line() -> None:
    with pytest.raises(
        PluginError, match=r"data set './mine.py:Mine'.*KeyError: 'train'.*line \d+"
    ):
        load(lambda: {}["train"])
    with pytest.raises(PluginError, match="expected a TaskData from load, found TypeError: tuple"):
        load((GOOD.pool_images, GOOD.pool_targets))


def test_a_run_and_a_look_at_the_data_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "short.py"
    file.write_text(
        "from dataclasses import replace\n"
        "from alharness.tasks.digits import DigitsTen\n\n\n"
        "class Short(DigitsTen):\n"
        '    """Labels of other items."""\n\n'
        "    def load(self, locations, progress=None):\n"
        "        data = super().load(locations)\n"
        "        return replace(data, pool_targets=data.pool_targets[50:])\n"
    )
    for command in (
        [
            "run",
            "--strategy",
            "random",
            "--dataset",
            f"{file}:Short",
            "--no-tracking",
            "--runs-dir",
        ],
        ["data", "prepare", f"{file}:Short", "--data-root"],
    ):
        assert call([*command, str(tmp_path / "runs")]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1, told
        assert f"pool_targets of data set '{file}:Short' must be one label per item" in told
