"""Drawn faces at 64x64 with CelebA's four attributes: synthetic, for places without downloads.

They make the 64x64 path run and be tested anywhere; results on them say nothing about photographs,
and everything that shows them says so. The same faces can be written in CelebA's own layout, so
that the real loader can be tried on files in the genuine format.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from alharness.lazily import Image
from alharness.lazily import numpy as np
from alharness.progress import Progress, silent
from alharness.tasks.base import (
    DataLocations,
    TaskParameters,
)
from alharness.tasks.celeba import COUNTS, N_IMAGES, AttributeTask
from alharness.tasks.drawn_faces import ATTRIBUTES, DRAWING, SEED, FacesReader, attributes, draw
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.dataset import Dataset

#: Where ``alharness list`` shows it.
FAMILY = "At hand (nothing to fetch)"

N_POOL, N_TEST = 20_000, 4_000
ORIGIN = {"seed": str(SEED), "drawing": str(DRAWING)}
NOTE = "synthetic: drawn faces, no photographs"


class FacesDataset(Dataset):
    """So many drawn faces."""

    title = "Drawn faces (synthetic)"
    files = "nothing: they are drawn on this machine"
    needs_originals = False

    def __init__(self, n_pool: int = N_POOL, n_test: int = N_TEST) -> None:
        usual = (n_pool, n_test) == (N_POOL, N_TEST)
        self.name = "faces" if usual else f"faces-{n_pool}-{n_test}"
        self.size = "a minute or two" if usual else "drawn here"
        self.counts = {"pool": n_pool, "test": n_test}

    def find(self, root: Path) -> Path | None:
        return root

    def parts(self, originals: Path) -> Sequence[Path]:
        return ()

    def is_stale(self, cache: ImageCache) -> bool:
        return bool(cache.meta["origin"] != ORIGIN)

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Conversion:
        n = sum(self.counts.values())
        reader = FacesReader(self.counts["pool"])
        return Conversion(
            shape=(n, 3, 64, 64),
            read=reader,
            labels=attributes(SEED, reader.indices(0, n)),
            label_names=tuple(ATTRIBUTES),
            splits=self.counts,
            origin=ORIGIN,
            notes={"source": NOTE, "synthetic": NOTE},
            parallel=True,
        )


class FacesParameters(TaskParameters):
    """``--set task.NAME=VALUE`` for ``faces-*``."""

    n_pool: int = Field(N_POOL, ge=100, description="number of faces in the pool")
    n_test: int = Field(N_TEST, ge=100, description="number of faces in the test set")


class _FacesTask(AttributeTask):
    """What the four tasks share: everything but the attribute."""

    Parameters = FacesParameters
    source = f"{NOTE}; nothing to fetch"
    dataset = FacesDataset()
    pool = "pool"
    parameters: FacesParameters

    def open_cache(self, locations: DataLocations, progress: Progress = silent) -> ImageCache:
        dataset = FacesDataset(self.parameters.n_pool, self.parameters.n_test)
        return dataset.prepare(locations, progress)


class FacesBlondHair(_FacesTask):
    """Drawn faces (synthetic), blond hair or not (15 % are): pool of 20,000, nothing to fetch."""

    attribute = "Blond_Hair"


class FacesWearingHat(_FacesTask):
    """Drawn faces (synthetic), wearing a hat or not (5 % do): pool of 20,000, nothing to fetch."""

    attribute = "Wearing_Hat"


class FacesBangs(_FacesTask):
    """Drawn faces (synthetic), bangs or not (15 % have them): pool of 20,000, nothing to fetch."""

    attribute = "Bangs"


class FacesEyeglasses(_FacesTask):
    """Drawn faces (synthetic), glasses or not (6.5 % wear them): pool of 20,000, nothing to fetch."""

    attribute = "Eyeglasses"


#: The columns of CelebA's attribute file, in its order.
_CELEBA_COLUMNS = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair
Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face
Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair
Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""
CELEBA_ATTRIBUTES = tuple(_CELEBA_COLUMNS.split())


def write_as_celeba(folder: Path, n: int, progress: Progress = silent) -> None:
    """Write ``n`` drawn faces in CelebA's own layout: 218x178 JPEG files and the two text tables.

    Attributes that the drawing does not know are -1. The partition has CelebA's proportions.
    """
    images = folder / "img_align_celeba"
    images.mkdir(parents=True, exist_ok=True)
    names = [f"{number:06d}.jpg" for number in range(1, n + 1)]
    step = 256
    for start in range(0, n, step):
        faces = draw(SEED, np.arange(start, min(start + step, n)), height=218, width=178)
        for name, face in zip(names[start : start + step], faces, strict=True):
            Image.fromarray(face.transpose(1, 2, 0)).save(images / name, quality=95)
        progress("write faces in CelebA's layout", min(start + step, n), n)
    known = attributes(SEED, np.arange(n))
    table = np.full((n, len(CELEBA_ATTRIBUTES)), -1)
    for column, name in enumerate(ATTRIBUTES):
        table[:, CELEBA_ATTRIBUTES.index(name)] = np.where(known[:, column] > 0, 1, -1)
    rows = [str(n), " ".join(CELEBA_ATTRIBUTES)]
    rows += [
        f"{name} " + " ".join(f"{value:2d}" for value in row)
        for name, row in zip(names, table, strict=True)
    ]
    (folder / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n")
    ends = np.cumsum(list(COUNTS.values())) / N_IMAGES * n
    splits = np.searchsorted(np.rint(ends), np.arange(n), side="right")
    lines = [f"{name} {split}" for name, split in zip(names, splits, strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
