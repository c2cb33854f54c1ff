"""What an image is: every picture arrives as it is looked at, or is refused by name."""

from __future__ import annotations

import io
import os
import shutil
import struct
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations, TaskData
from alharness.tasks.originals import images as images_module
from alharness.tasks.originals import tree
from alharness.tasks.originals.class_folders import scan
from alharness.tasks.originals.images import image_suffixes
from alharness.tasks.originals.layout import split_of

Write = Callable[..., Path]

#: Bright above, dark below: turned or mirrored, it is another picture.
PICTURE = np.repeat(np.array([200, 40], np.uint8), 6)[:, None].repeat(8, axis=1)


@pytest.fixture
def folder(tmp_path: Path, locations: DataLocations) -> Callable[..., TaskData]:
    """A folder task whose images ``save(path)`` writes: six of class a and six of class b."""

    def load(save: Callable[[Path], None], suffix: str = ".png", **parameters: object) -> TaskData:
        root = tmp_path / "mine"
        shutil.rmtree(root, ignore_errors=True)
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
            for number in range(6):
                save(root / name / f"{number}{suffix}")
        return resolve_task(f"folder:{root}", **parameters).load(locations)

    return load


def load(root: Path, locations: DataLocations, **parameters: object) -> TaskData:
    return resolve_task(f"folder:{root}", **parameters).load(locations)


def refused(root: Path, locations: DataLocations, **parameters: object) -> str:
    with pytest.raises(UserError) as caught:
        load(root, locations, **parameters)
    message = str(caught.value)
    assert "\n" not in message
    message.encode()  # a terminal can show it
    return message


# ------------------------------------------------------------------------------- what a file holds


@pytest.mark.parametrize(
    "suffix", [pytest.param(".jpg", id="jpeg"), ".png", pytest.param(".tiff", id="tiff"), ".webp"]
)
def test_a_camera_held_sideways_is_turned_upright(
    suffix: str, folder: Callable[..., TaskData]
) -> None:
    exif = Image.Exif()
    exif[images_module.ORIENTATION] = 6  # to be turned by 90 degrees clockwise
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(PICTURE))).convert("RGB")
    more = {"lossless": True} if suffix == ".webp" else {}
    data = folder(lambda path: stored.save(path, exif=exif, **more), suffix)
    assert data.pool_images.shape[2:] == PICTURE.shape
    np.testing.assert_allclose(data.pool_images[0, 0], PICTURE, atol=8)
    assert "12 turned upright (EXIF)" in data.notes["fit"]


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
@pytest.mark.parametrize(("bits", "white"), [(16, 65_535), (12, 4_095)])
def test_16_bit_is_scaled_by_its_range(
    bits: int, white: int, suffix: str, folder: Callable[..., TaskData]
) -> None:
    # What a camera of 12 bit writes into files of 16 is as bright as what one of 16 bit writes.
    deep = (PICTURE.astype(np.uint32) * white // 255).astype(np.uint16)
    data = folder(lambda path: Image.fromarray(deep).save(path), suffix, mode="gray")
    np.testing.assert_allclose(data.pool_images[0, 0], PICTURE, atol=1)
    assert f"0 .. {white:,} becomes 0 .. 255" in data.notes["fit"]
    if bits == 12:
        darker = folder(lambda p: Image.fromarray(deep).save(p), suffix, mode="gray", white=65_535)
        assert darker.pool_images.max() == round(int(deep.max()) * 255 / 65_535)


def deep_png(white: int, alpha: int | None = None) -> Callable[[Path], None]:
    """Writes the picture in 16 bit for each colour, which Pillow cannot; with a channel of that alpha."""
    values = (PICTURE.astype(np.uint32) * white // 255).astype(">u2")[..., None].repeat(3, 2)
    if alpha is not None:
        values = np.concatenate([values, np.full_like(values[..., :1], alpha)], axis=2)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    colours = 2 if alpha is None else 6  # RGB, RGBA
    head = struct.pack(">IIBBBBB", 8, 12, 16, colours, 0, 0, 0)  # width, height, 16 bit
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + body) and None


def test_colours_of_16_bit_are_shortened_only_on_demand(folder: Callable[..., TaskData]) -> None:
    with pytest.raises(UserError, match=r"RGB of 16 bit .a/0.png and 11 more"):
        folder(deep_png(65_535))
    data = folder(deep_png(65_535), mode="rgb")
    np.testing.assert_allclose(data.pool_images[0, 1], PICTURE, atol=1)
    assert "colours of 16 bit: the upper 8" in data.notes["fit"]
    with pytest.raises(UserError, match=r"values up to 3,072 of 65,535 only"):
        folder(deep_png(4_095), mode="rgb")


@pytest.mark.parametrize(("ground", "value"), [("white", 255), ("black", 0)])
def test_transparent_pictures_lie_on_a_stated_ground(
    ground: str, value: int, folder: Callable[..., TaskData]
) -> None:
    icon = np.zeros((12, 8, 4), np.uint8)
    icon[:6] = (10, 20, 30, 255)
    as_rgba = folder(lambda p: Image.fromarray(icon).save(p), mode="rgb", ground=ground)
    assert as_rgba.pool_images[0, :, 0, 0].tolist() == [10, 20, 30]
    assert (as_rgba.pool_images[0, :, 6:] == value).all()
    assert f"transparent ones on {ground}" in as_rgba.notes["fit"]

    def with_colour_key(path: Path) -> None:
        Image.fromarray(icon[..., 0] + 7).save(path, transparency=7)

    keyed = folder(with_colour_key, mode="gray", ground=ground)
    assert (keyed.pool_images[0, 0, 6:] == value).all()
    assert (keyed.pool_images[0, 0, :6] == 17).all()


def test_transparent_colours_of_16_bit_lie_on_the_ground_and_say_so(
    folder: Callable[..., TaskData],
) -> None:
    data = folder(deep_png(65_535, alpha=0), mode="rgb")
    assert (data.pool_images == 255).all()
    assert data.notes["fit"].endswith("colours of 16 bit: the upper 8, transparent ones on white")


def test_floats_and_large_integers_are_refused(folder: Callable[..., TaskData]) -> None:
    for values, complaint in (
        (PICTURE.astype(np.float32) / 255, "a/0.tiff .floats have no stated white"),
        (PICTURE.astype(np.int32) * 1000, "a/0.tiff .values from 40000 to 200000"),
    ):
        with pytest.raises(UserError, match=complaint):
            folder(lambda p, v=values: Image.fromarray(v).save(p), ".tiff", mode="gray")


@pytest.mark.parametrize("suffix", [".tiff", ".gif", ".webp", ".png"])
def test_stacks_and_animations_are_refused_by_name(
    suffix: str, folder: Callable[..., TaskData]
) -> None:
    def stack(path: Path) -> None:
        image = Image.fromarray(PICTURE)
        black = Image.new("L", image.size)
        if path.stem == "3":
            black.save(path, save_all=True, append_images=[image, image])
        else:
            image.save(path)

    with pytest.raises(UserError, match=rf"a/3{suffix} \(it holds [23] pictures.*b/3{suffix}"):
        folder(stack, suffix, mode="gray")


def test_a_photograph_with_its_preview_is_one_picture(folder: Callable[..., TaskData]) -> None:
    def with_preview(path: Path) -> None:
        preview = Image.new("RGB", (4, 4))
        image = Image.fromarray(PICTURE).convert("RGB")
        image.save(path, format="MPO", save_all=True, append_images=[preview])

    assert folder(with_preview, ".jpg").pool_images[0].max() > 150


def test_bombs_and_giants_are_named_before_they_are_read(
    tmp_path: Path,
    locations: DataLocations,
    class_folders: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = class_folders(tmp_path / "mine", {"a": 6, "b": 6})
    Image.new("1", (13_000, 7_000)).save(root / "b" / "bomb.png")  # Pillow would only warn
    assert "b/bomb.png" in refused(root, locations)
    (root / "b" / "bomb.png").unlink()
    monkeypatch.setattr(tree, "MAX_FILE_BYTES", 5_000)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)).save(
        root / "b" / "giant.png"
    )
    assert "b/giant.png (10," in refused(root, locations)
    archive = Path(shutil.make_archive(str(tmp_path / "mine"), "zip", root))
    assert "b/giant.png (10," in refused(archive, locations)


# ------------------------------------------------------------------------------- what lies in folders


def test_every_suffix_that_pillow_reads_is_read(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    root = class_folders(tmp_path / "mine", {"a": 12, "b": 3}, suffix="png", mode="L")
    for suffix, kind in ((".jfif", "JPEG"), (".jpe", "JPEG"), (".PGM", "PPM"), (".tga", "TGA")):
        Image.new("L", (12, 12), 99).save(root / "b" / f"more{suffix}", format=kind)
    (root / "b" / "notes.txt").write_text("")
    (root / "b" / "raw").write_text("")
    data = load(root, locations)
    assert np.bincount(np.concatenate([data.pool_targets, data.test_targets])).tolist() == [12, 7]
    assert data.notes["left out"] == "2 files that are no images (1 .txt, 1 without suffix)"
    assert f"left out: {data.notes['left out']}" in data.warnings
    assert {".webp", ".jp2", ".ppm"} <= image_suffixes()
    assert not {".eps", ".pdf", ".mpg", ".txt"} & image_suffixes()


def test_links_are_followed_and_those_that_point_nowhere_are_named(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    store = class_folders(tmp_path / "store", {"a": 5, "b": 5}, splits=("train", "test"))
    root = tmp_path / "mine"
    root.mkdir()
    (root / "train").symlink_to(store / "train")
    (root / "test").mkdir()
    for name in ("a", "b"):
        (root / "test" / name).symlink_to(store / "test" / name)
    assert len(load(root, locations).pool_targets) == 10
    (store / "train" / "b" / "7.png").symlink_to(tmp_path / "annex" / "7.png")
    assert "1 links" in (message := refused(root, locations))
    assert "train/b/7.png" in message
    (store / "train" / "b" / "7.png").unlink()
    (store / "train" / "b" / "up").symlink_to(store / "train")
    assert "train/b/up is a link to a folder that it lies in" in refused(root, locations)


@pytest.mark.parametrize(
    ("folders", "pool", "test"),
    [
        ({"training": 4, "testing": 3}, 4, 3),
        ({"train": 4, "validation": 3}, 4, 3),  # Hugging Face
        ({"Train": 4, "Valid": 2, "Test": 3}, 4, 3),
        ({"seg_train/seg_train": 4, "seg_test/seg_test": 3}, 4, 3),  # Kaggle
        ({"wrapper/training_set/training_set": 4, "wrapper/test_set/test_set": 3}, 4, 3),
        ({"train-data": 4, "01_val": 2, "eval": 3}, 4, 3),
    ],
)
def test_splits_that_people_use(
    folders: dict[str, int],
    pool: int,
    test: int,
    tmp_path: Path,
    locations: DataLocations,
    class_folders: Write,
) -> None:
    for split, n in folders.items():
        class_folders(tmp_path / "mine", {"a": n, "b": n}, splits=(split,))
    data = load(tmp_path / "mine", locations)
    assert (len(data.pool_targets), len(data.test_targets)) == (2 * pool, 2 * test)
    assert data.notes["splits"].startswith("pool: ")
    if len(folders) == 3:
        assert "4 items, not used" in data.notes["splits"]  # never merged into the test set


def test_a_class_may_be_called_like_a_split(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    assert [split_of(name) for name in ("train", "constraint", "train_test", "bus")] == [
        "train",
        None,
        None,
        None,
    ]
    flat = class_folders(tmp_path / "flat", {"train": 5, "test1": 5})  # as Kaggle's cats and dogs
    assert "test1, train hold images without class folders" in refused(flat, locations)
    places = class_folders(tmp_path / "places", {"train_station": 5, "test_site": 5})
    assert load(places, locations).class_names == ("test_site", "train_station")
    deep = class_folders(tmp_path / "deep", {"1": 5, "2": 5}, splits=("a", "b"))
    assert "folders within folders that are no splits: a/1/000.png" in refused(deep, locations)
    root = class_folders(tmp_path / "mine", {"train": 5, "bus": 5, "tram": 5})
    assert load(root, locations).class_names == ("bus", "train", "tram")


def test_what_lies_elsewhere_is_named_and_not_the_rest(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    both = ("data/train", "data/test")
    root = class_folders(tmp_path / "mine", {"a": 5, "b": 5}, splits=both)
    stray = Image.new("RGB", (12, 12))
    stray.save(root / "sample.png")
    assert "1 image does not lie" in (message := refused(root, locations))
    assert "sample.png" in message
    assert "000.png" not in message
    (root / "sample.png").unlink()
    (root / "data" / "train" / "a" / "deep").mkdir()
    stray.save(root / "data" / "train" / "a" / "deep" / "1.png")
    assert "data/train/a/deep/1.png" in refused(root, locations)
    shutil.rmtree(root / "data" / "train" / "a" / "deep")
    class_folders(root, {"a": 1, "b": 1}, splits=("data/extra",))
    assert "extra beside test, train is no split" in refused(root, locations)
    shutil.rmtree(root / "data" / "extra")
    (root / "data" / "seg_pred").mkdir()
    stray.save(root / "data" / "seg_pred" / "1.png")
    assert load(root, locations).notes["left out"] == "1 images without labels"
    class_folders(root, {"a": 1, "b": 1}, splits=("data/training",))
    assert "train and training both mean the train split" in refused(root, locations)


def test_names_that_look_alike(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    one, other = (unicodedata.normalize(form, "Äpfel") for form in ("NFC", "NFD"))
    root = class_folders(tmp_path / "unicode", {one: 4, "b": 4}, splits=("train",))
    class_folders(root, {other: 4, "b": 4}, splits=("test",))
    assert load(root, locations).class_names == ("b", one)
    class_folders(root, {other: 4}, splits=("train",))
    assert "two spellings of Unicode" in refused(root, locations)
    root = class_folders(tmp_path / "case", {"Cat": 4, "dog": 4}, splits=("train",))
    class_folders(root, {"cat": 4, "dog": 4}, splits=("test",))
    assert "differ in upper and lower case only" in refused(root, locations)


def test_names_in_latin_1(tmp_path: Path, locations: DataLocations, class_folders: Write) -> None:
    root = class_folders(tmp_path / "mine", {"a": 5, "b": 5})
    os.rename(root / "a" / "003.png", os.fsencode(root / "a") + b"/caf\xe9.png")  # noqa: PTH104
    data = load(root, locations)
    assert len(data.pool_targets) == 8
    with open(os.fsencode(root / "a") + b"/caf\xe9.png", "wb") as file:  # noqa: PTH123
        file.write(b"no picture")
    assert "a/caf\\udce9.png" in refused(root, locations)
    os.rename(root / "b", os.fsencode(root) + b"/caf\xe9")  # noqa: PTH104
    assert "caf\\udce9 has a name that is not UTF-8" in refused(root, locations)
    with pytest.raises(UserError, match="not UTF-8"):
        resolve_task("folder:" + os.fsdecode(b"caf\xe9"))


def test_members_that_stand_twice_in_an_archive(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    root = class_folders(tmp_path / "mine", {"a": 8, "b": 8})
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile sees what is being done
        for file in sorted(root.rglob("*.png")) * 2:
            archive.write(file, file.relative_to(root))
    data = load(path, locations)
    assert len(data.pool_targets) + len(data.test_targets) == 16
    assert data.notes["left out"] == "16 members that stand in the archive twice"
    assert "duplicates" not in data.notes
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.write(root / "a" / "001.png", "a/000.png")
    assert "two different files under one name: a/000.png" in refused(path, locations)


def test_test_images_that_are_in_the_pool_are_counted(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    root = class_folders(tmp_path / "mine", {"a": 5, "b": 5}, splits=("train", "test"))
    Image.new("RGB", (12, 12), (1, 2, 3)).save(root / "test" / "a" / "new.png")
    data = load(root, locations)
    assert data.notes["duplicates"] == "10 of 11 test images are in the pool too"
    assert data.warnings == ("duplicates: 10 of 11 test images are in the pool too",)


def test_members_of_an_archive_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    """What macOS adds, and a name that leads out of the archive, are no images of a class."""
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in ("train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"):
            archive.writestr(name, file.getvalue())
        for name in ("__MACOSX/train/a/._0.png", "train/.DS_Store", "../out.png"):
            archive.writestr(name, b"x")
    notes = scan(tmp_path / "images.zip").notes
    assert "3 hidden members of the archive" in notes["left out"]


# ---------------------------------------------------------------------- what is lost, and what lies beside


def test_what_the_centre_square_cuts_off_and_an_odd_size_are_said(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    wide = class_folders(tmp_path / "wide", {"a": 9, "b": 9}, size=(20, 40))
    assert "cut off" not in load(wide, locations).notes  # they are kept as they are
    cut = resolve_task(f"folder:{wide}", image_size=16).load(locations)
    assert any("cut off: the centre squares leave out 50% of" in text for text in cut.warnings)
    odd = class_folders(tmp_path / "odd", {"a": 15, "b": 15}, size=(12, 12))
    Image.new("RGB", (30, 30)).save(odd / "a" / "odd.png")
    (told,) = [text for text in load(odd, locations).warnings if text.startswith("sizes")]
    assert "1 of 31 images are not 12x12: so all become 64x64; task.image_size=12" in told
    small = resolve_task(f"folder:{odd}", image_size=12).load(locations)
    assert small.pool_images.shape[2:] == (12, 12)


@pytest.mark.parametrize(
    "name", ["lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_folders_of_the_system_are_passed_over_and_told(
    name: str, packed: bool, tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    root = class_folders(tmp_path / "disk", {"a": 9, "b": 9})
    before = load(root, locations).fingerprint
    (root / name).mkdir()
    Image.new("RGB", (12, 12)).save(root / name / "x.png")
    if packed:
        root = Path(shutil.make_archive(str(tmp_path / "disk"), "zip", root))
    data = load(root, locations)
    assert data.fingerprint == before
    assert f"left out: the system's own {name}" in data.warnings


def test_classes_in_a_table_beside_the_images_are_told_and_taken_when_asked(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    root = class_folders(tmp_path / "made", {"only": 24}) / "only"
    (root.parent / "images").mkdir()
    root = root.rename(root.parent / "images" / "train")
    root = root.parent
    rows = [f"{number:03d}.png,{'cd'[number % 2]},{number < 18}" for number in range(24)]
    (root / "train" / "metadata.csv").write_text("\n".join(["file_name,label,is_train", *rows]))
    with pytest.raises(
        UserError, match=r"set task.table=train/metadata.csv if it says the classes"
    ):
        load(root, locations)
    data = resolve_task(f"folder:{root}", table="train/metadata.csv").load(locations)
    assert data.class_names == ("c", "d")
    assert (len(data.pool_targets), len(data.test_targets)) == (18, 6)
    (root / "train" / "metadata.csv").write_text(
        "\n".join(["file_name,label", *rows[:20], "x.png,c"])
    )
    with pytest.raises(
        UserError, match=r"20 of 21 rows from line 2 on have 3|names 1 images that are not there"
    ):
        resolve_task(f"folder:{root}", table="train/metadata.csv").load(locations)


def test_the_split_of_cub_is_told_and_taken_when_asked(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    root = class_folders(tmp_path / "birds" / "images", {"001.Auk": 20, "002.Tern": 20})
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    numbered = list(enumerate(files, 1))
    (root.parent / "images.txt").write_text("".join(f"{k} {name}\n" for k, name in numbered))
    split = "".join(f"{k} {int(k % 20 < 10)}\n" for k, _ in numbered)
    (root.parent / "train_test_split.txt").write_text(split)
    for place, table in ((root.parent, "train_test_split.txt"), (root, "../train_test_split.txt")):
        (told,) = [w for w in load(place, locations).warnings if w.startswith("author's split")]
        assert f"task.table={table} takes it" in told
        data = resolve_task(f"folder:{place}", table=table).load(locations)
        assert (len(data.pool_targets), len(data.test_targets)) == (20, 20)
        assert data.class_names == ("001.Auk", "002.Tern")


def test_classes_in_the_names_of_images_are_told(tmp_path: Path, locations: DataLocations) -> None:
    (tmp_path / "cats").mkdir()
    for number in range(20):
        Image.new("L", (8, 8)).save(
            tmp_path / "cats" / f"{('cat', 'dog')[number % 2]}.{number}.png"
        )
    with pytest.raises(UserError, match=r"names begin with cat, dog: sort them into folders"):
        load(tmp_path / "cats", locations)
