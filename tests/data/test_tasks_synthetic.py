"""Digits, drawn faces, users' folders and virtual pools."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.tasks import drawn_faces
from alharness.tasks.augmented import augment
from alharness.tasks.base import DataLocations
from alharness.tasks.drawn_faces import ATTRIBUTES, SEED, TEST_FROM, attributes
from alharness.tasks.faces import write_as_celeba
from alharness.tasks.folder import Folder

CPU = torch.device("cpu")
FACES = Path(__file__).with_name("faces.txt")
Write = Callable[..., Path]


def test_digits_are_split_by_class_and_never_overlap(locations: DataLocations) -> None:
    ten = resolve_task("digits-ten").load(locations)
    assert (len(ten.pool_targets), len(ten.test_targets)) == (1198, 599)
    shares = np.bincount(ten.test_targets) / np.bincount(
        np.concatenate([ten.pool_targets, ten.test_targets])
    )
    np.testing.assert_allclose(shares, 1 / 3, atol=0.005)
    pool = {image.tobytes() for image in ten.pool_images}
    assert not any(image.tobytes() in pool for image in ten.test_images)
    assert float(ten.open_pool(CPU).gather(torch.arange(50)).max()) == 1.0
    again = resolve_task("digits-ten").load(locations)
    assert again.fingerprint == ten.fingerprint
    assert not (np.diff(ten.pool_targets) >= 0).all()  # not sorted by class


def test_a_face_is_a_function_of_its_index_alone() -> None:
    alone = drawn_faces.draw(SEED, np.array([77]))
    among = drawn_faces.draw(SEED, np.array([3, 77, TEST_FROM + 5]))
    np.testing.assert_array_equal(alone[0], among[1])
    assert (among[0] != among[1]).any()
    np.testing.assert_array_equal(
        drawn_faces.attributes(SEED, np.array([77]))[0],
        drawn_faces.attributes(SEED, np.arange(100))[77],
    )


def test_faces_look_as_they_did() -> None:
    """Means of blocks of 4x4 pixels, written down: a stroke that is elsewhere shows in one of them.

    Levels of 255; the last bit of a sine may move a pixel by one of them, and a block by a fraction.
    """
    faces = drawn_faces.draw(SEED, np.array([0, 3, 4, 9, 14, 25, 69, TEST_FROM + 4]), 32, 40)
    blocks = faces.reshape(8, 3, 8, 4, 10, 4).mean(axis=(3, 5)).round(1).reshape(8, -1)
    if os.environ.get("ALHARNESS_GOLDEN") == "write":
        FACES.write_text("".join(" ".join(map(str, row)) + "\n" for row in blocks.tolist()))
    np.testing.assert_allclose(blocks, np.loadtxt(FACES), atol=0.2)


def test_faces_have_celebas_balance_and_independent_attributes() -> None:
    table = drawn_faces.attributes(SEED, np.arange(40_000)).astype(float)
    np.testing.assert_allclose(table.mean(0), [0.15, 0.05, 0.15, 0.065], atol=0.006)
    correlation = np.corrcoef(table.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.02


@pytest.mark.parametrize("attribute", range(4))
def test_each_attribute_shows_in_the_picture(attribute: int) -> None:
    table = drawn_faces.attributes(SEED, np.arange(4000))
    with_it = np.flatnonzero(table[:, attribute] == 1)[:40]
    without = np.flatnonzero(table[:, attribute] == 0)[:40]
    faces = drawn_faces.draw(SEED, np.concatenate([with_it, without])) / 255.0
    difference = np.abs(faces[:40].mean(0) - faces[40:].mean(0)).max()
    assert difference > 0.12


def test_faces_are_cached_and_said_to_be_synthetic(locations: DataLocations) -> None:
    task = resolve_task("faces-bangs", n_pool=150, n_test=100)
    data = task.load(locations)
    assert data.synthetic
    assert data.pool_images.shape == (150, 3, 64, 64)
    np.testing.assert_array_equal(data.pool_images[149], drawn_faces.draw(SEED, np.array([149]))[0])
    np.testing.assert_array_equal(
        data.test_images[0], drawn_faces.draw(SEED, np.array([TEST_FROM]))[0]
    )
    larger = resolve_task("faces-bangs", n_pool=200, n_test=100).load(locations)
    np.testing.assert_array_equal(larger.test_images, data.test_images)


def test_a_folder_with_train_and_test(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    path = class_folders(tmp_path / "mine", {"cat": 6, "dog": 4}, splits=("train", "test"))
    data = resolve_task(f"folder:{path}").load(locations)
    assert data.class_names == ("cat", "dog")
    assert data.pool_images.shape == (10, 3, 12, 12)  # the images' own size
    assert np.bincount(data.pool_targets).tolist() == [6, 4]
    assert data.pool_images[0, 0, 0, 0] == 60


def test_a_folder_without_split_is_split_by_class_and_seed(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    path = class_folders(tmp_path / "mine", {"a": 20, "b": 10}, mode="L")
    first = resolve_task(f"folder:{path}").load(locations)
    assert np.bincount(first.test_targets).tolist() == [4, 2]
    assert len(first.pool_targets) == 24
    other = resolve_task(f"folder:{path}", split_seed=1).load(locations)
    assert other.fingerprint != first.fingerprint
    resized = resolve_task(f"folder:{path}", image_size=8, mode="rgb").load(locations)
    assert resized.pool_images.shape == (24, 3, 8, 8)


def test_a_folder_of_any_sizes_is_cropped_and_shrunk(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    path = class_folders(
        tmp_path / "mine", {"a": 5, "b": 5}, splits=("train", "test"), size=(100, 80)
    )
    Image.new("RGB", (300, 200), (10, 10, 10)).save(path / "train" / "a" / "wide.jpg")
    data = resolve_task(f"folder:{path}").load(locations)
    assert data.pool_images.shape == (11, 3, 64, 64)


def test_a_folder_that_changed_is_converted_again(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    path = class_folders(tmp_path / "mine", {"a": 5, "b": 5}, splits=("train", "test"))
    before = resolve_task(f"folder:{path}").load(locations)
    Image.new("RGB", (12, 12), (1, 2, 3)).save(path / "train" / "a" / "new.png")
    after = resolve_task(f"folder:{path}").load(locations)
    assert len(after.pool_targets) == len(before.pool_targets) + 1
    assert after.fingerprint != before.fingerprint


def test_a_plain_task_refuses_an_argument() -> None:
    with pytest.raises(UserError, match="takes nothing after a colon"):
        resolve_task("digits-two:7")
    assert Folder.takes_argument


def test_a_virtual_item_is_a_function_of_seed_and_index(locations: DataLocations) -> None:
    data = resolve_task("augmented:digits-two:5000").load(locations)
    source = resolve_task("digits-two").load(locations)
    assert data.pool_images.shape == (5000, 1, 8, 8)
    n = len(source.pool_targets)
    np.testing.assert_array_equal(data.pool_targets, source.pool_targets[np.arange(5000) % n])
    pool = data.open_pool(CPU)
    assert pool.residency == "virtual"
    assert pool.fingerprint == data.pool_fingerprint
    everything = torch.cat([items for _, items in pool.blocks(block_size=700)])
    for index in (0, 17, 4999):
        assert torch.equal(pool.gather(torch.tensor([index]))[0], everything[index])
    chosen = torch.tensor([4000, 3, 2999])
    assert torch.equal(pool.gather(chosen), everything[chosen])
    assert not torch.equal(everything[5], everything[5 + n])  # another variation of one source
    assert float(everything.max()) <= 1.0
    other = resolve_task("augmented:digits-two:5000", seed=1).load(locations)
    assert other.fingerprint != data.fingerprint
    assert not torch.equal(other.open_pool(CPU).gather(chosen), everything[chosen])


def test_augmentation_keeps_what_the_picture_shows() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[..., 10:18, 10:18] = 0.8
    varied = augment(image.repeat(200, 1, 1, 1), torch.arange(200), 0, flip=False)
    assert float(varied.mean()) == pytest.approx(float(image.mean()), rel=0.05)
    centre = (varied * torch.arange(28.0)).sum((1, 2, 3)) / varied.sum((1, 2, 3))
    assert float((centre - 13.5).abs().max()) < 3.0
    assert float(centre.std()) > 0.5


@pytest.mark.parametrize("argument", ["mnist-two", "mnist-two:0", "mnist-two:many", ":5"])
def test_augmented_says_what_it_expects(argument: str) -> None:
    with pytest.raises(UserError, match="Expected augmented:NAME:N"):
        resolve_task(f"augmented:{argument}")


def test_faces_in_celebas_layout_say_what_is_drawn_and_minus_one_of_all_else(
    tmp_path: Path,
) -> None:
    n = 9
    write_as_celeba(tmp_path, n)
    head, names, *rows = (tmp_path / "list_attr_celeba.txt").read_text().splitlines()
    assert (head, len(names.split()), len(rows)) == (str(n), 40, n)
    known = attributes(SEED, np.arange(n))
    for number, row in enumerate(rows):
        name, *values = row.split()
        assert name == f"{number + 1:06d}.jpg"
        for attribute, value in zip(names.split(), values, strict=True):
            drawn = attribute in ATTRIBUTES and known[number, list(ATTRIBUTES).index(attribute)] > 0
            assert value == ("1" if drawn else "-1"), (name, attribute)
