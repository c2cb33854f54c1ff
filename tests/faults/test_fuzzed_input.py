"""Whatever a file, an option or a table holds: it is read, or refused in one line.

Every reader of text or bytes from outside gets a good input that hypothesis damages: places are
overwritten, cut out or lengthened, words are exchanged for ones that mean something elsewhere (``nan``,
a byte order mark, a number without end), or the whole is something else. Anything but a ``UserError``
is a fault of ours. The campaign: ``pytest tests/faults/test_fuzzed_input.py -m slow`` (10,000 inputs
over all readers; ``ALHARNESS_INPUTS=100000`` for more).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import resource
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import psutil
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from alharness.artefacts import ArtefactStore, read_notes, write_tensors
from alharness.cli.options import overrides
from alharness.comparison.runs import read_failure, read_run
from alharness.errors import UserError
from alharness.executors.plans import extend_plan, read_plan
from alharness.executors.sweeps import Choices, expand, parse_seeds, read_sweep
from alharness.files import merge
from alharness.generative.autoencoder import AutoencoderTraining
from alharness.generative.settings import AUTOENCODER_RECIPES, GENERATOR_RECIPES
from alharness.generative.wgan import Training
from alharness.learners.weights import read_weights
from alharness.oracle.desk import AnnotationPendingError, Desk
from alharness.pool import ArrayPool
from alharness.records import QueryLog, RunFolder, read_conformance
from alharness.registry import resolve_task
from alharness.run.opening import Places
from alharness.run.runner import execute
from alharness.scaling.claims import ClaimsFile
from alharness.scaling.study import Study
from alharness.spec import parse_set, resolve
from alharness.tasks.base import DataLocations
from alharness.tasks.celeba import read_attributes, read_partition
from alharness.tasks.cifar10 import CIFAR10_DATASET, read_batch
from alharness.tasks.mnist import read_idx
from alharness.tasks.originals.cache import CacheMissingError, ImageCache
from alharness.tasks.svhn import read_mat
from alharness.tracking import check_uri
from alharness.tracking.view import read_folder

#: Inputs of the campaign, over all readers.
N_LONG = int(os.environ.get("ALHARNESS_INPUTS", "10000"))

RNG = np.random.default_rng(0)
RUN = {"task": "digits-two", "strategy": "random", "device": "cpu"}
SMALL = {**RUN, "budget": 20, "query_size": 10, "initial_size": 10}

#: A good input, and what reads it.
Reader = tuple[bytes, Callable[[bytes], object]]
READERS: dict[str, Callable[[Path], Reader]] = {}


def reader(make: Callable[[Path], Reader]) -> Callable[[Path], Reader]:
    READERS[make.__name__] = make
    return make


def from_file(path: Path, read: Callable[[Path], object], whole: bytes) -> Reader:
    """Of a file with that content."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def go(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return whole, go


def from_text(read: Callable[[str], object], whole: str) -> Reader:
    """Of an argument of the command line, which a shell never hands on with a NUL in it."""
    return whole.encode(), lambda content: read(os.fsdecode(content.replace(b"\0", b"")))


# -------------------------------------------------------------------- settings, sweeps, claims, plans


@reader
def sweep_file(folder: Path) -> Reader:
    text = """name = "s"
note = "n"
split_by = ["budget"]
[base]
task = "digits-two"
device = "cpu"
learner.kind = "linear"
[[runs]]
strategy = ["random", {name = "core-set"}]
seed = "0-1"
[profiles.paper]
budget = 40
"""

    def read(path: Path) -> object:
        return expand(read_sweep(path), Choices(), folder / "runs")

    return from_file(folder / "sweep.toml", read, text.encode())


@reader
def config_file(folder: Path) -> Reader:
    text = """task = "digits-two"
seed = 3
budget = 60
initial_size = 20
[strategy]
name = "max-entropy"
[learner]
kind = "mlp"
lr = 1e-3
[oracle]
mode = "abstain"
"""

    def read(path: Path) -> object:
        return resolve({**overrides(config=path, settings=["device=cpu"])})

    return from_file(folder / "config.toml", read, text.encode())


@reader
def set_values(folder: Path) -> Reader:
    def read(text: str) -> object:
        return resolve(merge({**RUN, "task": {"name": "digits-two"}}, parse_set(text)))

    return from_text(read, "learner.min_steps=500")


@reader
def names_of_plugins(folder: Path) -> Reader:
    def read(text: str) -> object:
        strategy, _, task = text.partition(" ")
        return resolve({**RUN, "strategy": strategy, "task": task})

    return from_text(read, "subset:500:max-entropy folder:./images")


@reader
def seeds(folder: Path) -> Reader:
    def read(text: str) -> object:
        return parse_seeds(re.sub(r"\d{4,}", "7", text))  # a range of 10^20 seeds is a user's right

    return from_text(read, "0-4,7")


@reader
def tracking_uris(folder: Path) -> Reader:
    return from_text(check_uri, f"sqlite:///{folder}/mlflow.db")


@reader
def claims_file(folder: Path) -> Reader:
    text = """[[study]]
name = "s"
sizes = [1000, 2000]
strategies = ["random"]
[[claim]]
id = "c"
text = "t"
where = "w"
kind = "time_exponent"
name = "random"
accept = [0.0, 1.0]
study = "s"
"""
    return from_file(folder / "claims.toml", ClaimsFile.read, text.encode())


@reader
def plan_file(folder: Path) -> Reader:
    runs_dir = folder / "runs"
    path = folder / "plan.json"
    (folder / "s.toml").write_text(
        '[base]\ntask="digits-two"\n[[runs]]\nstrategy="random"\nseed=0\n'
    )
    jobs = expand(read_sweep(folder / "s.toml"), Choices(), runs_dir)
    extend_plan(path, "s", runs_dir, jobs)

    def read(path: Path) -> object:
        plan = read_plan(path)
        return plan.job(0, path)

    return from_file(path, read, path.read_bytes())


@reader
def timing_study(folder: Path) -> Reader:
    about = {"spec": {"sizes": [10, 20], "strategies": ["random"]}, "machine": {"cpu": "x"}}
    (folder / "timing.jsonl").touch()
    return from_file(
        folder / "study.json", lambda path: Study.read(folder), json.dumps(about).encode()
    )


@reader
def timing_lines(folder: Path) -> Reader:
    (folder / "study.json").write_text('{"spec": {}, "machine": {}}')
    line = {"kind": "select", "name": "random", "n": 10, "query_size": 5, "repeat": 0, "seconds": 1}
    whole = (json.dumps(line) + "\n").encode() * 2
    return from_file(folder / "timing.jsonl", lambda path: Study.read(folder), whole)


# ----------------------------------------------------------------------------- what a person answers


def _desk(folder: Path, ask: Callable[[Desk], object]) -> Reader:
    desk = Desk(folder / "annotations", ["Äpfel", "2", "c d"])
    with pytest.raises(AnnotationPendingError) as caught:
        ask(desk)
    *head, _, _, _ = caught.value.table.read_text(encoding="utf-8").splitlines()
    rows = ["1,Äpfel,2", "2,skip,", "3,2,0"]
    return from_file(caught.value.table, lambda path: ask(desk), "\n".join([*head, *rows]).encode())


@reader
def answers_about_images(folder: Path) -> Reader:
    images = torch.zeros(3, 1, 4, 4)
    return _desk(folder, lambda desk: desk.labels(images, 0))


@reader
def answers_about_lines(folder: Path) -> Reader:
    images = torch.zeros(3, 4, 1, 4, 4)
    return _desk(folder, lambda desk: desk.changes(images, 0))


# ------------------------------------------------------------------------------------- a user's data


def _loaded(name: str, folder: Path, **parameters: object) -> Callable[[Path], object]:
    def load(path: Path) -> object:
        task = resolve_task(f"{name}:{path}", **parameters)
        task.defaults("quick")
        return task.load(DataLocations(folder, folder / "cache"))

    return load


def _frame() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "a": np.arange(12) / 7,
            "b": ["x", "y z", "ü"] * 4,
            "c": [True, False] * 6,
            "target": ["n", "m"] * 6,
        }
    )


@reader
def csv_table(folder: Path) -> Reader:
    whole = _frame().to_csv(index=False).encode()
    return from_file(folder / "t.csv", _loaded("table", folder), whole)


@reader
def tsv_table(folder: Path) -> Reader:
    whole = _frame().to_csv(index=False, sep="\t").encode()
    return from_file(folder / "t.tsv", _loaded("table", folder), whole)


@reader
def parquet_table(folder: Path) -> Reader:
    buffer = io.BytesIO()
    _frame().to_parquet(buffer)
    return from_file(folder / "t.parquet", _loaded("table", folder), buffer.getvalue())


@reader
def npz_arrays(folder: Path) -> Reader:
    buffer = io.BytesIO()
    x = RNG.integers(0, 256, (12, 4, 4)).astype(np.uint8)
    np.savez(buffer, x=x, y=np.arange(12) % 2, class_names=np.array(["a", "b"]))
    return from_file(folder / "t.npz", _loaded("npz", folder), buffer.getvalue())


@reader
def packed_npz_rows(folder: Path) -> Reader:
    buffer = io.BytesIO()
    x, y = RNG.normal(size=(8, 3)), np.array(["a", "b"] * 4)
    np.savez_compressed(buffer, x_pool=x, y_pool=y, x_test=x, y_test=y)
    return from_file(folder / "t.npz", _loaded("npz", folder), buffer.getvalue())


def _picture(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    channels = {"RGB": (9, 9, 3), "L": (9, 9), "I;16": (9, 9)}[mode]
    pixels = RNG.integers(0, 256, channels).astype(np.uint16 if mode == "I;16" else np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _image_folder(folder: Path, suffix: str, content: bytes) -> Reader:
    """One image of a folder; the others are whole, of the same kind."""
    root = folder / "images"
    for split in ("train", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            (root / split / name / f"0.{suffix}").write_bytes(content)
    load = _loaded("folder", folder)
    return from_file(root / "train" / "a" / f"0.{suffix}", lambda path: load(root), content)


for _kind, _suffix, _mode in (
    ("PNG", "png", "RGB"),
    ("PNG", "png", "I;16"),
    ("JPEG", "jpg", "RGB"),
    ("GIF", "gif", "L"),
    ("TIFF", "tiff", "RGB"),
    ("BMP", "bmp", "RGB"),
    ("WEBP", "webp", "RGB"),
    ("PPM", "ppm", "RGB"),
):

    def _images(
        folder: Path, kind: str = _kind, suffix: str = _suffix, mode: str = _mode
    ) -> Reader:
        return _image_folder(folder, suffix, _picture(kind, mode))

    _images.__name__ = f"{_suffix}_images_{_mode.lower().replace(';', '')}"
    reader(_images)


@reader
def zipped_folder(folder: Path) -> Reader:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split in ("train", "test"):
            for name in ("a", "b"):
                archive.writestr(f"{split}/{name}/0.png", _picture("PNG"))
    return from_file(folder / "images.zip", _loaded("folder", folder), buffer.getvalue())


# ---------------------------------------------------------------------------- official originals


def _idx() -> bytes:
    values = RNG.integers(0, 256, (5, 28, 28)).astype(np.uint8)
    return bytes([0, 0, 8, 3]) + struct.pack(">3I", *values.shape) + values.tobytes()


@reader
def idx_file(folder: Path) -> Reader:
    return from_file(folder / "digits", lambda path: read_idx(path, None), _idx())


@reader
def packed_idx_file(folder: Path) -> Reader:
    return from_file(folder / "digits.gz", lambda path: read_idx(path, None), gzip.compress(_idx()))


@reader
def mat_file(folder: Path) -> Reader:
    from scipy.io import savemat

    buffer = io.BytesIO()
    images = RNG.integers(0, 256, (32, 32, 3, 4)).astype(np.uint8)
    savemat(buffer, {"X": images, "y": np.array([[1], [10], [2], [3]], np.uint8)})
    return from_file(folder / "test_32x32.mat", read_mat, buffer.getvalue())


def _batch() -> bytes:
    return pickle.dumps({"labels": [0, 1], "data": np.zeros((2, 3072), np.uint8)}, protocol=2)


@reader
def cifar_batch(folder: Path) -> Reader:
    return _batch(), partial(read_batch, where="batch")


@reader
def cifar_archive(folder: Path) -> Reader:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(_batch())
            archive.addfile(info, io.BytesIO(_batch()))

    def read(path: Path) -> object:
        locations = DataLocations(folder, folder / "cache", rebuild=True)
        return CIFAR10_DATASET.prepare(locations, source=path, partial=True)

    return from_file(folder / "cifar-10-python.tar.gz", read, buffer.getvalue())


@reader
def celeba_attributes(folder: Path) -> Reader:
    names = [f"A{number}" for number in range(40)]
    rows = [f"{number:06d}.jpg " + " ".join(["1", "-1"] * 20) for number in range(1, 4)]
    whole = "\n".join(["3", " ".join(names), *rows]).encode()
    return whole, partial(read_attributes, where="table")


@reader
def celeba_partition(folder: Path) -> Reader:
    whole = b"000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"
    return whole, partial(read_partition, where="table")


# --------------------------------------------------------------- what we wrote ourselves, meanwhile


def _a_run(folder: Path) -> RunFolder:
    return execute(resolve(SMALL), Places(folder / "runs", DataLocations.resolve()))


def _everything(run: RunFolder) -> object:
    """As ``compare``, ``sync`` and the next run read it."""
    for read in (lambda: read_run(run.path), lambda: read_folder(run)):
        try:
            read()
        except UserError:
            continue
    return execute(resolve(SMALL), Places(run.path.parents[2], DataLocations.resolve()))


def _file_of_a_run(folder: Path, name: str, *, seal: bool = True) -> Reader:
    run = _a_run(folder)
    path = run.path / name
    whole = path.read_bytes()
    if not seal:  # as version 0.1.0 wrote it
        values = {key: value for key, value in run.environment().items() if key != "sealed"}
        whole = json.dumps(values, indent=2).encode()
        lines = run.cycles.read_text().splitlines()[:1]
        plain = {key: value for key, value in json.loads(lines[0]).items() if key != "chain"}
        run.cycles.write_text(json.dumps({**plain, "files": None, "rows": None}) + "\n")

    def read(path: Path) -> object:
        kept = {other: other.read_bytes() for other in run.path.iterdir() if other != path}
        try:
            return _everything(run)
        finally:
            for other, content in kept.items():
                other.write_bytes(content)

    return from_file(path, read, whole)


for _name in ("cycles.jsonl", "queries.npz", "spec.toml", "env.json"):

    def _run_file(folder: Path, name: str = _name) -> Reader:
        return _file_of_a_run(folder, name)

    _run_file.__name__ = _name.replace(".", "_")
    reader(_run_file)


@reader
def env_json_without_a_seal(folder: Path) -> Reader:
    return _file_of_a_run(folder, "env.json", seal=False)


@reader
def rows_alone(folder: Path) -> Reader:
    log = QueryLog()
    log.add(0, {"indices": np.arange(4), "targets": np.ones(4, np.int64)})
    log.write(folder / "queries.npz")
    return from_file(folder / "queries.npz", QueryLog.read, (folder / "queries.npz").read_bytes())


@reader
def failure_file(folder: Path) -> Reader:
    whole = b'{"reason": "KeyError", "traceback": ["a"]}'
    return from_file(folder / "failed.json", lambda path: read_failure(folder), whole)


@reader
def conformance_file(folder: Path) -> Reader:
    whole = b'{"random": {"passed": 3, "skipped": 0, "failed": []}}'
    return from_file(folder / "conformance.json", lambda path: read_conformance(folder), whole)


def _an_artefact(folder: Path) -> tuple[ArtefactStore, str]:
    def build(place: Path, progress: object) -> dict[str, object]:
        write_tensors(place / "weights.safetensors", {"w": torch.ones(3)})
        return {"quality": {"x": 1.0}}

    store = ArtefactStore(folder / "store")
    return store, store.obtain("thing", {"a": 1}, build).key


@reader
def artefact_meta(folder: Path) -> Reader:
    store, key = _an_artefact(folder)

    def read(path: Path) -> object:
        for look in (store.finished, lambda: store.find(key)):
            try:
                look()
            except UserError:
                continue
        return store.load("thing", key)

    path = folder / "store" / "thing" / key / "meta.json"
    return from_file(path, read, path.read_bytes())


@reader
def exported_artefact(folder: Path) -> Reader:
    store, key = _an_artefact(folder)
    path = store.export("thing", key, folder / "a.tar")

    def read(path: Path) -> object:
        shutil.rmtree(folder / "other", ignore_errors=True)
        return ArtefactStore(folder / "other").import_file(path)

    return from_file(path, read, path.read_bytes())


def _pool() -> ArrayPool:
    return ArrayPool(RNG.integers(0, 16, (30, 1, 8, 8)).astype(np.uint8), pixel_max=16)


@reader
def generator_checkpoint(folder: Path) -> Reader:
    small = {"steps": 2, "batch_size": 4, "width": 4, "critic_steps": 1, "latent_dim": 2}
    training = Training.start(_pool(), GENERATOR_RECIPES["fc-8"].model_copy(update=small))
    training.run_chunk()
    training.save(folder / "checkpoint.safetensors")
    path = folder / "checkpoint.safetensors"
    return from_file(path, training.restore, path.read_bytes())


@reader
def autoencoder_checkpoint(folder: Path) -> Reader:
    recipe = next(recipe for recipe in AUTOENCODER_RECIPES.values() if recipe.network == "fc")
    small = {"steps": 2, "batch_size": 4, "width": 4, "code_dim": 2}
    training = AutoencoderTraining.start(_pool(), recipe.model_copy(update=small))
    training.run_chunk(1)
    training.save(folder / "checkpoint.safetensors")
    path = folder / "checkpoint.safetensors"
    return from_file(path, training.restore, path.read_bytes())


@reader
def notes_of_tensors(folder: Path) -> Reader:
    path = folder / "n.safetensors"
    write_tensors(path, {"w": torch.ones(3)}, {"step": "1"})
    return from_file(path, read_notes, path.read_bytes())


@reader
def weights_safetensors(folder: Path) -> Reader:
    path = folder / "w.safetensors"
    write_tensors(path, {"w": torch.ones(3)})
    return from_file(path, lambda path: read_weights("mlp", str(path)), path.read_bytes())


@reader
def weights_of_torch(folder: Path) -> Reader:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"w": torch.ones(3)}}, buffer)
    return from_file(
        folder / "w.pt", lambda path: read_weights("mlp", str(path)), buffer.getvalue()
    )


@reader
def old_weights_of_torch(folder: Path) -> Reader:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(3)}, buffer, _use_new_zipfile_serialization=False)
    return from_file(
        folder / "w.pth", lambda path: read_weights("mlp", str(path)), buffer.getvalue()
    )


def _cache_file(folder: Path, name: str) -> Reader:
    _, load = _image_folder(folder, "png", _picture("PNG"))
    load(_picture("PNG"))
    (place,) = (path.parent for path in (folder / "cache").rglob("meta.json"))

    def read(path: Path) -> object:
        try:
            return ImageCache.open(place)
        except CacheMissingError:
            return None

    return from_file(place / name, read, (place / name).read_bytes())


for _name in ("meta.json", "labels.npy", "images.npy", "stamps.json"):

    def _of_cache(folder: Path, name: str = _name) -> Reader:
        return _cache_file(folder, name)

    _of_cache.__name__ = f"cache_{_name.replace('.', '_')}"
    reader(_of_cache)


# ------------------------------------------------------------------------------------------ damage

#: Words that mean something to one reader or another.
WORDS = [
    *(b"", b"nan", b"-inf", b"1e999", b"-1", b"0", b"9" * 30, b"1" + b"0" * 400, b"true", b"null"),
    *(b"[]", b"{}", b'""', b"''", b"[" * 4000, b'{"a":' * 3000, b"(" * 2000, b"{a=" * 2000),
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\r", b"\n", b"\r\n\n", b"\x1a"),
    *(b"../../x", b"~", b"/", b"a" * 5000, "é".encode(), b"=", b",", b":", b"#", b"%s", b"$1", b'"'),
    *(b"1979-05-27T07:32:00Z", b"0x1F", b"1_000", b"True", b"None", b"digits-two", b"random"),
]  # fmt: skip
TOKEN = re.compile(rb'"[^"\n]*"|[\w.+-]+')


def _overwritten(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in edits:
        at %= len(content) + 1
        content = content[:at] + new + content[at + length :]
    return content


def _exchanged(content: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    for number, word in edits:
        tokens = list(TOKEN.finditer(content))
        if tokens:
            token = tokens[number % len(tokens)]
            content = content[: token.start()] + word + content[token.end() :]
    return content


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The content with places or words that are others; now and then something else altogether."""
    anywhere = st.integers(0, max(len(whole), 1)) | st.integers(0, 64)
    new = st.binary(max_size=12) | st.sampled_from(WORDS)
    places = st.lists(st.tuples(anywhere, st.integers(0, 12), new), min_size=1, max_size=3)
    cut = st.integers(0, len(whole)).map(lambda at: whole[:at])
    bits = st.tuples(anywhere, st.integers(0, 7)).map(partial(_bit, whole))
    words = st.lists(st.tuples(st.integers(0, 500), st.sampled_from(WORDS)), min_size=1, max_size=3)
    return st.one_of(
        places.map(partial(_overwritten, whole)),
        words.map(partial(_exchanged, whole)),
        bits,
        cut,
        st.binary(max_size=60)
        | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")),
    )


def _bit(whole: bytes, place: tuple[int, int]) -> bytes:
    changed = bytearray(whole or b"\0")
    changed[place[0] % len(changed)] ^= 1 << place[1]
    return bytes(changed)


@pytest.mark.timeout(3600)  # for the campaign
@pytest.mark.filterwarnings("ignore")  # what libraries think of damaged files
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "times", [5, pytest.param(-(-N_LONG // len(READERS)), marks=pytest.mark.slow)]
)
def test_it_is_read_or_refused_in_one_line(name: str, times: int, tmp_path: Path) -> None:
    whole, read = READERS[name](tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=times,
        deadline=None,
        database=None,
        derandomize=times < 100,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(whole))
    def go(content: bytes) -> None:
        try:
            read(content)
        except UserError as error:
            told = str(error)
            if "\n" in told:
                raise AssertionError(f"{told!r} are several lines") from error

    with at_most(8 << 30):
        go()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1 << 20, f"{grown >> 10:,} MB of memory for {len(whole):,} bytes"


@contextmanager
def at_most(n_bytes: int) -> Iterator[None]:
    """So much more memory: who wants it all fails, and not the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (psutil.Process().memory_info().data + n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
