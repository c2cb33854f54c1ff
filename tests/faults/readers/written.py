"""What we wrote ourselves, and what somebody may have touched meanwhile."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch

from alharness.artefacts import ArtefactStore, read_notes, write_tensors
from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.generative.autoencoder import AutoencoderTraining
from alharness.generative.settings import AUTOENCODER_RECIPES, GENERATOR_RECIPES
from alharness.generative.wgan import GeneratorTraining
from alharness.learners.weights import read_weights
from alharness.pool import ArrayPool
from alharness.records import QueryLog, RunFolder, read_conformance, read_run
from alharness.spec import resolve
from alharness.tasks.base import DataLocations
from alharness.tasks.originals.cache import CacheMissingError, ImageCache
from alharness.tracking.content import content_of
from readers.base import RNG, SMALL, Reader, from_file, reader
from readers.own_data import image_folder, picture


def _a_run(folder: Path) -> RunFolder:
    return execute(resolve(SMALL), Places(folder / "runs", DataLocations.resolve()))


def _everything(run: RunFolder) -> object:
    """As ``compare``, ``sync`` and the next run read it."""
    for read in (lambda: read_run(run.path), lambda: content_of(run)):
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
        whole = json.dumps(run.facts().as_written(), indent=2).encode()
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
    return from_file(folder / "failure.json", lambda path: RunFolder(folder).failure(), whole)


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


def _pool() -> ArrayPool:
    return ArrayPool(RNG.integers(0, 16, (30, 1, 8, 8)).astype(np.uint8), pixel_max=16)


@reader
def generator_checkpoint(folder: Path) -> Reader:
    small = {"steps": 2, "batch_size": 4, "width": 4, "critic_steps": 1, "latent_dim": 2}
    training = GeneratorTraining(_pool(), GENERATOR_RECIPES["fc-8"].model_copy(update=small))
    training.run_chunk()
    training.save(folder / "checkpoint.safetensors")
    path = folder / "checkpoint.safetensors"
    return from_file(path, training.restore, path.read_bytes())


@reader
def autoencoder_checkpoint(folder: Path) -> Reader:
    recipe = next(recipe for recipe in AUTOENCODER_RECIPES.values() if recipe.network == "fc")
    small = {"steps": 2, "batch_size": 4, "width": 4, "code_dim": 2}
    training = AutoencoderTraining(_pool(), recipe.model_copy(update=small))
    training.run_chunk()
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
    _, load = image_folder(folder, "png", picture("PNG"))
    load(picture("PNG"))
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
