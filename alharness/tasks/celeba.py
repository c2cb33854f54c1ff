"""CelebA from its genuine files: four attributes, one image cache (paper, Sec. 4.1, Table 1).

Pool and test set are the standard partition's training (162,770) and test images (19,962); the
centre square of the aligned images is shrunk to 64x64. Table 1 says "Initial 1000", which
contradicts its own 190 cycles: it must be 100 (decisions T1).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.progress import Progress
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.dataset import Dataset, fetching, md5, unpacking
from alharness.tasks.originals.images import Fit, ImageFiles
from alharness.tasks.originals.tree import FileTree, in_words, listed
from alharness.tasks.selection import CachedTask, CachePart
from alharness.tasks.settings import row

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where ``alharness list`` shows it.
FAMILY = "Downloads (fetched with --download or by 'alharness data prepare NAME')"

TABLES = ("attr_celeba", "eval_partition")
COUNTS = {"train": 162_770, "valid": 19_867, "test": 19_962}
N_IMAGES = sum(COUNTS.values())  # 202,599
N_ATTRIBUTES = 40
IMAGES = "img_align_celeba"
#: Side of the centre square that is cut out of the 218x178 images: their whole width, because hats
#: and hair lie at the border. The paper says "centrally crop" without a number.
CROP = 178
SIZE = (64, 64)  # Sec. 4.1
#: (H, W) of the aligned images.
ALIGNED_SIZE = (218, 178)


@dataclass(frozen=True)
class _Originals:
    """Where the parts of a copy lie: tables and images may be in one archive or side by side."""

    tables: FileTree
    attributes: str
    partition: str
    images: FileTree
    image_names: Sequence[str]


class CelebaDataset(Dataset):
    """Images, attributes and partition, as the makers or Kaggle ship them."""

    name = "celeba"
    title = "CelebA"
    size = "1.4 GB"
    files = (
        f"{IMAGES}.zip (or the folder {IMAGES}/), list_attr_celeba.txt (or .csv) and "
        "list_eval_partition.txt (or .csv)"
    )
    counts = COUNTS

    def find(self, root: Path) -> Path | None:
        for path in (root / "celeba", root / "CelebA", root):
            if any((path / f"list_attr_celeba.{kind}").is_file() for kind in ("txt", "csv")):
                return path
        return root if root.is_file() and root.suffix == ".zip" else None

    def parts(self, originals: Path) -> Sequence[Path]:
        if originals.is_file():
            return [originals]
        # The folder of images as such: 202,599 files are looked at when they are converted.
        names = [f"list_{table}.{kind}" for table in TABLES for kind in ("txt", "csv")]
        paths = [originals / name for name in (*names, f"{IMAGES}.zip", IMAGES)]
        return [path for path in paths if path.exists()]

    def fetch(self, root: Path) -> None:
        from torchvision.datasets import CelebA

        with fetching(self, root):
            CelebA(str(root), split="all", download=True)

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Conversion:
        progress("read CelebA's tables", 0, 1)
        found = _open(originals)
        names, attribute_names, attributes = read_attributes(
            _table(found.tables, found.attributes), f"{found.attributes} in {found.tables.path}"
        )
        partition = read_partition(
            _table(found.tables, found.partition), f"{found.partition} in {found.tables.path}"
        )
        if set(partition) != set(names):
            odd = sorted(set(partition) ^ set(names))
            raise UserError(
                f"CelebA in {originals}: attributes and partition must name the same images; "
                f"{len(odd):,} differ, for instance {odd[0]}. Fetch both again."
            )
        split_of = np.array([partition[name] for name in names])
        # A cache has its splits one after the other; within each the tables' order stays.
        order = np.argsort(split_of, kind="stable")
        splits = {
            split: int((split_of == number).sum()) for number, split in enumerate(self.counts)
        }
        complete = self.check_counts(splits, originals, partial)
        paths = _match_images(names, found)
        ordered = tuple(paths[position] for position in order)
        return Conversion(
            shape=(len(ordered), 3, *SIZE),
            read=ImageFiles(found.images, ordered, Fit(3, SIZE, crop=CROP, expects=ALIGNED_SIZE)),
            labels=attributes[order],
            label_names=attribute_names,
            splits=splits,
            origin=_origin(found),
            notes={
                "source": "CelebA, aligned and cropped",
                "crop": f"centre {CROP}x{CROP}, shrunk to {SIZE[0]}x{SIZE[1]}",
            },
            parallel=True,
            standing="complete" if complete else "partial",
        )


CELEBA_DATASET = CelebaDataset()


def _open(originals: Path) -> _Originals:
    """Find tables and images in a folder or in one archive that holds all.

    Raises:
        UserError: a part is missing.
    """
    tables = FileTree(originals)
    if tables.is_archive:
        names = tables.names()
    else:
        names = sorted(path.name for path in originals.iterdir() if path.is_file())
    attributes = _one_of(names, "list_attr_celeba", originals)
    partition = _one_of(names, "list_eval_partition", originals)
    archive = originals / f"{IMAGES}.zip"
    if tables.is_archive:
        images, image_names = tables, names
    elif (originals / IMAGES).is_dir():
        images = FileTree(originals / IMAGES)
        image_names = images.names()
    elif archive.is_file():
        images = FileTree(archive)
        image_names = images.names()
    else:
        raise UserError(
            f"CelebA in {originals}: expected the folder {IMAGES}/ or {IMAGES}.zip beside the "
            "tables; found neither. Bring the aligned images there."
        )
    return _Originals(tables, attributes, partition, images, image_names)


def _table(tree: FileTree, name: str) -> bytes:
    with unpacking(f"{name} in {tree.path}"):
        return tree.read(name)


def _one_of(names: Sequence[str], stem: str, where: Path) -> str:
    found = [name for name in names if PurePosixPath(name).name in (f"{stem}.txt", f"{stem}.csv")]
    if len({PurePosixPath(name).parent for name in found}) > 1:
        raise UserError(
            f"CelebA in {where}: {stem} lies there more than once ({listed(found)}). Keep one of them."
        )
    if found:
        return found[0]
    raise UserError(f"CelebA in {where}: expected {stem}.txt or {stem}.csv; it is not there.")


def _match_images(names: Sequence[str], found: _Originals) -> list[str]:
    """The image file of each row of the tables.

    Raises:
        UserError: some are missing: a folder that was unpacked by half.
    """
    aligned = [path for path in found.image_names if IMAGES in PurePosixPath(path).parts[:-1]]
    by_name: dict[str, str] = {}
    for path in aligned or found.image_names:  # an archive may hold the images in the wild as well
        name = PurePosixPath(path).name
        if by_name.setdefault(name, path) != path:
            raise UserError(
                f"CelebA in {found.images.path}: {name} lies there more than once "
                f"({listed([by_name[name], path])}). Keep the aligned images, in {IMAGES}/."
            )
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UserError(
            f"CelebA in {found.images.path} is not complete: expected {len(names):,} images; "
            f"{len(missing):,} are missing, the first is {missing[0]}. Unpack the archive again."
        )
    return [by_name[name] for name in names]


def _origin(found: _Originals) -> dict[str, str]:
    """What identifies the originals: digests of tables, and of the archive or the list of images."""
    if found.tables.is_archive:
        return {found.tables.path.name: md5(found.tables.path)}
    tables = (found.tables.path / name for name in (found.attributes, found.partition))
    origin = {path.name: md5(path) for path in tables}
    if found.images.is_archive:
        origin[found.images.path.name] = md5(found.images.path)
    else:
        origin[found.images.path.name] = found.images.listing().digest(found.image_names)
    return origin


def read_attributes(
    content: bytes, where: str
) -> tuple[list[str], tuple[str, ...], NDArray[np.uint8]]:
    """Image names, attribute names and values 0 or 1 (uint8 ``[N, 40]``) of ``list_attr_celeba``.

    The text form starts with the number of images and the names of the attributes; the CSV form
    (Kaggle) has a header row. Values are 1 and -1.

    Raises:
        UserError: not such a table, with the row.
    """
    rows = _rows(content, where)
    try:
        header = next(rows)
        n_announced = None
        if len(header) == 1:  # the text form
            n_announced = int(header[0])
            header = ["image_id", *next(rows)]
        attribute_names = tuple(header[1:])
        if len(attribute_names) != N_ATTRIBUTES:
            raise ValueError(f"expected {N_ATTRIBUTES} attributes, found {len(attribute_names)}")
        names: list[str] = []
        values: list[bytes] = []
        for row in rows:
            if len(row) != N_ATTRIBUTES + 1 or not {"1", "-1"}.issuperset(row[1:]):
                raise ValueError(f"the row of {row[0]} is not {N_ATTRIBUTES} values of 1 or -1")
            names.append(row[0])
            values.append(bytes(value == "1" for value in row[1:]))
        if n_announced is not None and n_announced != len(names):
            raise ValueError(f"it announces {n_announced:,} images and has {len(names):,} rows")
        table = np.frombuffer(b"".join(values), np.uint8).reshape(-1, N_ATTRIBUTES)
    except (ValueError, StopIteration, IndexError) as error:
        reason = "it ends too early" if isinstance(error, StopIteration) else in_words(error)
        raise UserError(
            f"{where} is not CelebA's attribute file ({reason}). Fetch list_attr_celeba again."
        ) from error
    return names, attribute_names, table


def read_partition(content: bytes, where: str) -> dict[str, int]:
    """Image name -> 0 (train), 1 (valid) or 2 (test) of ``list_eval_partition``.

    Raises:
        UserError: not such a table.
    """
    try:
        rows = [row for row in _rows(content, where) if row[0] != "image_id"]
        partition = {name: int(value) for name, value in rows}
        if not partition or not set(partition.values()) <= {0, 1, 2}:
            raise ValueError("expected rows of an image name and 0, 1 or 2")
    except ValueError as error:
        raise UserError(
            f"{where} is not CelebA's partition file ({in_words(error)}). Fetch list_eval_partition again."
        ) from error
    return partition


def _rows(content: bytes, where: str) -> Iterator[list[str]]:
    """Cells of a table of either form, without empty lines."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not a text file. Fetch it again.") from error
    first = text.split("\n", 1)[0]
    if "," in first:
        lines: Iterator[list[str]] = csv.reader(io.StringIO(text))
    else:
        lines = (line.split() for line in text.splitlines())
    return (row for row in lines if row)


class AttributeTask(CachedTask):
    """Has a face an attribute or not: what tasks on real and on drawn faces share.

    Class attributes:
        attribute: the target, as CelebA's attribute file calls it.
        pool: the split that the pool is.
    """

    problem = (3, 64, 64), 2
    attribute: ClassVar[str]
    pool: ClassVar[str] = "train"
    # 100 initial: Table 1 says 1000, against its own number of cycles (decisions T1).
    paper = row(
        2000, 10, 100, kind="strided-cnn", width=32, batch_size=50, epochs=20, min_steps=1000
    )
    quick = row(200, 10, 100, kind="strided-cnn", width=8, batch_size=50, epochs=10, min_steps=200)

    def selection(self, cache: ImageCache) -> CachePart:
        if self.attribute not in cache.label_names:
            raise UserError(
                f"The attribute file of {cache.path} has no column {self.attribute}; it has "
                f"{', '.join(cache.label_names)}. Prepare CelebA again from the genuine file."
            )
        return CachePart(
            pool=[self.pool],
            test="test",
            class_names=(f"not {self.attribute}", self.attribute),
            attribute=self.attribute,
        )


class _CelebaTask(AttributeTask):
    """What the four tasks share: everything but the attribute."""

    source = "CelebA, 1.4 GB: 'alharness data prepare celeba'"
    dataset = CELEBA_DATASET


class CelebaBlondHair(_CelebaTask):
    """CelebA, blond hair or not (15 % are): pool of 162,770 (Table 1, fifth row)."""

    attribute = "Blond_Hair"


class CelebaWearingHat(_CelebaTask):
    """CelebA, wearing a hat or not (5 % do): pool of 162,770 (Table 1, fifth row)."""

    attribute = "Wearing_Hat"


class CelebaBangs(_CelebaTask):
    """CelebA, bangs or not (15 % have them): pool of 162,770 (Table 1, fifth row)."""

    attribute = "Bangs"


class CelebaEyeglasses(_CelebaTask):
    """CelebA, eyeglasses or not (6.5 % wear them): pool of 162,770 (Table 1, fifth row)."""

    attribute = "Eyeglasses"
