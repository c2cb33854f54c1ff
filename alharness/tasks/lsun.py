"""LSUN scenes from its ten LMDB folders: ten classes, pool of 9.6 million (Sec. 4.1, Table 1).

The paper splits the training images into pool and test set without saying how; Table 1's pool is
9,604k of 9,895,373. Here each scene's last 2.94 % in the order of the keys are the test set: keys
are digests, so their order is as good as a shuffle, and files are read in their own order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.progress import Progress
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.dataset import Dataset, check_targets
from alharness.tasks.originals.images import Fit
from alharness.tasks.originals.lmdb_folders import LmdbImages, LmdbSegment, lmdb_anchors
from alharness.tasks.selection import CachedTask, CachePart
from alharness.tasks.settings import row

#: Where ``alharness list`` shows it.
FAMILY = "Originals that you fetch (156 GB: 'alharness show lsun')"

#: Training images per scene, as the makers count them.
SCENES = {
    "bedroom": 3_033_042,
    "bridge": 818_687,
    "church_outdoor": 126_227,
    "classroom": 168_103,
    "conference_room": 229_069,
    "dining_room": 657_571,
    "kitchen": 2_212_277,
    "living_room": 1_315_802,
    "restaurant": 626_331,
    "tower": 708_264,
}
N_IMAGES = sum(SCENES.values())  # 9,895,373
POOL_SHARE = 9_604_000 / N_IMAGES  # Table 1: 9604k
SIZE = (64, 64)  # Sec. 4.1


def pool_size(n: int) -> int:
    """How many of a scene's images belong to the pool; at least one stays for the test set."""
    return min(n - 1, round(n * POOL_SHARE)) if n > 1 else n


COUNTS = {
    "pool": sum(pool_size(n) for n in SCENES.values()),
    "test": sum(n - pool_size(n) for n in SCENES.values()),
}


class LsunDataset(Dataset):
    """Ten folders ``SCENE_train_lmdb``, unpacked."""

    name = "lsun"
    title = "LSUN scenes"
    size = "156 GB, and 122 GB for the cache"
    files = "SCENE_train_lmdb/data.mdb for ten scenes (unpacked)"
    counts = COUNTS

    def find(self, root: Path) -> Path | None:
        for folder in (root / "lsun", root / "LSUN", root):
            if any(_folder(folder, scene).is_dir() for scene in SCENES):
                return folder
        return None

    def parts(self, originals: Path) -> Sequence[Path]:
        files = (_folder(originals, scene) / "data.mdb" for scene in SCENES)
        return [path for path in files if path.is_file()]

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Conversion:
        missing = [scene for scene in SCENES if not _folder(originals, scene).is_dir()]
        if missing:
            raise UserError(
                f"LSUN in {originals}: expected SCENE_train_lmdb folders for ten scenes; missing: "
                f"{', '.join(missing)}. Fetch the archives from the makers and unpack them."
            )
        pool, test, pool_labels, test_labels, origin = [], [], [], [], {}
        is_partial = False
        for label, (scene, official) in enumerate(SCENES.items()):
            progress("read LSUN's keys", label, len(SCENES))
            path = _folder(originals, scene)
            n, anchors = lmdb_anchors(path)
            if n != official:
                is_partial = True
                if not partial:
                    raise UserError(
                        f"{path} is not complete: expected {official:,} images; found {n:,}. Fetch "
                        "and unpack it again; --partial accepts it and says so in every record."
                    )
            n_pool = pool_size(n)
            pool.append(LmdbSegment(path, anchors, 0, n_pool))
            test.append(LmdbSegment(path, anchors, n_pool, n - n_pool))
            pool_labels.append(np.full(n_pool, label))
            test_labels.append(np.full(n - n_pool, label))
            # No digest: 156 GB would be read for it.
            origin[path.name] = f"{n} entries, {(path / 'data.mdb').stat().st_size} bytes"
        labels = np.concatenate([*pool_labels, *test_labels]).astype(np.int64)
        check_targets(labels, tuple(SCENES), f"LSUN in {originals}")
        return Conversion(
            shape=(len(labels), 3, *SIZE),
            # Some of the makers' images are gray.
            read=LmdbImages((*pool, *test), Fit(3, SIZE, crop=0, convert=True)),
            labels=labels,
            label_names=tuple(SCENES),
            splits={
                "pool": sum(map(len, pool_labels)),
                "test": sum(map(len, test_labels)),
            },
            origin=origin,
            notes={
                "source": "LSUN scenes, LMDB folders",
                "crop": f"centre square, shrunk to {SIZE[0]}x{SIZE[1]}",
                "split": "test: the last 2.94 % of each scene in the order of the keys",
            },
            parallel=True,
            standing="partial" if is_partial else "complete",
        )


LSUN_DATASET = LsunDataset()


def _folder(root: Path, scene: str) -> Path:
    return root / f"{scene}_train_lmdb"


class Lsun(CachedTask):
    """LSUN, ten scenes at 64x64: pool of 9.6 million, strided CNN (Table 1, seventh row)."""

    source = "LSUN scenes, 156 GB from the makers: 'alharness data prepare lsun --source DIR'"
    dataset = LSUN_DATASET
    problem = (3, 64, 64), 10
    # The only task with augmentation (Sec. 4.2).
    paper = row(
        30_000, 1000, 1000, kind="strided-cnn", augment="flip-crop",
        width=32, batch_size=128, epochs=50, min_steps=2000,
    )  # fmt: skip
    quick = row(
        1000, 250, 500, kind="strided-cnn", augment="flip-crop",
        width=8, batch_size=50, epochs=5, min_steps=200,
    )  # fmt: skip

    def selection(self, cache: ImageCache) -> CachePart:
        return CachePart(pool=["pool"], test="test", class_names=tuple(SCENES))
