"""The checks themselves: each takes a bench, and raises AssertionError, or SkipTest, or returns."""

from __future__ import annotations

import copy
import inspect
import sys
import unittest
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from alharness import seeds
from alharness.conformance.process import helper
from alharness.conformance.queries import digest, same
from alharness.conformance.scene import N_POOL, QUERY_SIZE, Bench, Scene
from alharness.border.guard import Guard
from alharness.border.marks import changed, global_marks, modes, reseeded
from alharness.learners.learner import Learner
from alharness.oracle import Oracle
from alharness.queries import ImageQuery, LineQuery, PoolQuery, Query
from alharness.strategy import CycleView

Check = Callable[[Bench], None]
CHECKS: dict[str, Check] = {}

#: Cycles in a row, each with the labels of those before it: what a strategy does from some cycle on shows
#: in them, and by the number of the cycle in a late one.
N_CYCLES = 4
LATE_CYCLE = 30


def _check(name: str) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return register


# What a query must be ------------------------------------------------------------------------


@_check("query-type")
def _query_type(bench: Bench) -> None:
    """the answer is a query of known type, with the shapes and value ranges of its type"""
    scene = bench.scene()
    query = scene.ask()
    if isinstance(query, PoolQuery):
        indices = query.indices
        assert isinstance(indices, torch.Tensor), "indices must be a torch tensor"
        assert indices.dtype == torch.int64, f"indices must be int64, found {indices.dtype}"
        assert indices.device.type == "cpu", f"indices must be on the CPU, found {indices.device}"
        assert indices.ndim == 1, f"indices must have one axis, found shape {tuple(indices.shape)}"
    elif isinstance(query, ImageQuery):
        _image_values(query.items, scene.pool.item_shape)
    elif isinstance(query, LineQuery):
        _image_values(query.images.flatten(0, 1), bench.sample.images.shape[1:])
        assert query.points.shape[2:] == scene.pool.item_shape, "points are not items of the pool"
    else:
        raise AssertionError(f"select returned {type(query).__name__}, not a Query")


def _image_values(items: torch.Tensor, shape: tuple[int, ...]) -> None:
    assert items.dtype == torch.float32, f"items must be float32, found {items.dtype}"
    assert tuple(items.shape[1:]) == tuple(shape), f"items must be {shape}, found {items.shape[1:]}"
    assert bool(items.isfinite().all()), "items must be finite"
    assert 0 <= float(items.min()) <= float(items.max()) <= 1, "images must lie in [0, 1]"


@_check("exact-count")
def _exact_count(bench: Bench) -> None:
    """exactly as many items as asked for"""
    _count(bench.scene().ask(), QUERY_SIZE)


def _count(query: Query, size: int) -> None:
    assert len(query) == size, f"asked for {size} items, got {len(query)}"


def _pool_indices(query: Query) -> torch.Tensor:
    """Pool items that a query asks about; skips the check for synthetic items."""
    if not isinstance(query, PoolQuery):
        raise unittest.SkipTest("asks about synthetic items")
    return query.indices


@_check("distinct")
def _distinct(bench: Bench) -> None:
    """no item twice in one query"""
    _all_differ(bench.scene().ask())


def _all_differ(query: Query) -> None:
    items = query.indices if isinstance(query, PoolQuery) else query.content()[0].flatten(1)
    n_distinct = len(items.unique(dim=0))
    assert n_distinct == len(query), f"{len(query)} items, only {n_distinct} of them distinct"


@_check("unlabelled-only")
def _unlabelled_only(bench: Bench) -> None:
    """only items without a label"""
    scene = bench.scene()
    _none_labelled(scene, _pool_indices(scene.ask()))


def _none_labelled(scene: Scene, indices: torch.Tensor) -> None:
    inside = indices[(indices >= 0) & (indices < scene.pool.n)]
    known = inside[torch.isin(inside, scene.available.taken)]
    assert len(known) == 0, f"asks about items that are labelled already: {known.tolist()}"


@_check("rejected-items")
def _rejected_items(bench: Bench) -> None:
    """nor items that were asked about and that nobody could label"""
    scene = bench.scene()
    rejected = scene.available.indices[::2]
    scene.available = scene.available.taking(rejected)
    scene.labelled = replace(scene.labelled, n_asked=scene.labelled.n_asked + len(rejected))
    _valid(scene, QUERY_SIZE)


@_check("pool-indices")
def _pool_indices_not_positions(bench: Bench) -> None:
    """pool indices, not positions among the unlabelled items"""
    # With the first half labelled, every small position names a labelled item.
    half = N_POOL // 2
    scene = bench.scene(replace(bench.sample, initial=torch.arange(half)))
    indices = _pool_indices(scene.ask())
    assert int(indices.min()) >= half, (
        f"with items 0 .. {half - 1} labelled, asks about {indices.tolist()}: "
        "these look like positions in view.unlabelled; return view.unlabelled[positions]"
    )


@_check("never-test-items")
def _never_test_items(bench: Bench) -> None:
    """only items of the pool, or images that are not in the test set"""
    scene = bench.scene()
    query = scene.ask()
    if isinstance(query, PoolQuery):
        outside = query.indices[(query.indices < 0) | (query.indices >= scene.pool.n)]
        assert len(outside) == 0, f"asks about items outside the pool: {outside.tolist()}"
        return
    asked = query.content()[-1].reshape(-1, *bench.sample.images.shape[1:])
    test = torch.from_numpy(bench.sample.test).float() / 255
    nearest = torch.cdist(asked.flatten(1), test.flatten(1)).min()
    assert float(nearest) > 1e-3, "asks about an image of the test set"


@_check("query-size-one")
def _query_size_one(bench: Bench) -> None:
    """works when a single item is asked for"""
    _valid(bench.scene(), 1)


@_check("whole-rest")
def _whole_rest(bench: Bench) -> None:
    """works when everything that is left is asked for"""
    scene = bench.scene()
    _valid(scene, len(scene.available))


@_check("last-item")
def _last_item(bench: Bench) -> None:
    """works when a single item is left"""
    everything = torch.arange(N_POOL)
    initial = everything[everything != 41]
    _valid(bench.scene(replace(bench.sample, initial=initial)), 1)


@_check("second-cycle")
def _second_cycle(bench: Bench) -> None:
    """asks about something new once its query is answered"""
    scene = bench.scene()
    scene.extend(scene.ask())
    _valid(scene, QUERY_SIZE, cycle=1)


def _valid(scene: Scene, size: int, *, cycle: int = 0, differ: bool = True) -> None:
    query = scene.ask(size, cycle=cycle)
    _count(query, size)
    if differ or isinstance(query, PoolQuery):
        _all_differ(query)
    _none_labelled(scene, query.touched)
    for values in query.content():
        assert bool(values.isfinite().all()), "a value of the query is not finite"


@_check("figures")
def _figures(bench: Bench) -> None:
    """diagnostics are finite numbers, arrays are numbers with a row per item of the query"""
    fault = bench.scene().ask().figures_fault()
    assert fault is None, f"expected {fault[0]}, found {fault[1]}"


@_check("as-in-a-run")
def _as_in_a_run(bench: Bench) -> None:
    """a run of four cycles refuses none of its answers, and finds everything as it was after them"""
    scene = bench.scene()
    guard = Guard(scene.stage, Oracle(scene.sample.targets, scene.sample.n_classes))
    for cycle in range(N_CYCLES):
        _, query = guard.ask(
            scene.labelled, scene.learner, scene.available, QUERY_SIZE, cycle=cycle, seed=0
        )
        scene.extend(query)
    guard.conclude(N_CYCLES)


# Problems at the edge ------------------------------------------------------------------------


@_check("empty-class")
def _empty_class(bench: Bench) -> None:
    """works while a class has no labelled item"""
    sample = bench.sample
    initial = sample.initial[sample.targets[sample.initial] != 0]
    _valid(bench.scene(replace(sample, initial=initial)), QUERY_SIZE)


@_check("one-class")
def _one_class(bench: Bench) -> None:
    """works on a pool whose items are all of one class"""
    sample = bench.sample
    targets = torch.zeros_like(sample.targets)
    _valid(bench.scene(replace(sample, targets=targets)), QUERY_SIZE)


@_check("constant-images")
def _constant_images(bench: Bench) -> None:
    """works on a pool of equal images"""
    sample = bench.sample
    images = np.full_like(sample.images, 128)
    _valid(bench.scene(replace(sample, images=images)), QUERY_SIZE, differ=False)


@_check("linear-classifier")
def _linear_classifier(bench: Bench) -> None:
    """works with the linear classifier, too"""
    _valid(bench.scene(kind="linear"), QUERY_SIZE)


# Honesty -------------------------------------------------------------------------------------


@_check("hidden-targets")
def _hidden_targets(bench: Bench) -> None:
    """the query stays the same when the hidden targets are poisoned"""

    def ask(poison: int) -> Query:
        targets = bench.sample.targets.clone()
        unlabelled = torch.ones(len(targets), dtype=torch.bool)
        unlabelled[bench.sample.initial] = False
        targets[unlabelled] = (targets[unlabelled] + poison) % bench.sample.n_classes
        scene = bench.scene(replace(bench.sample, targets=targets))
        # Within reach of a strategy that looks into its caller or into the collector's list.
        oracle = Oracle(targets, bench.sample.n_classes)
        oracle.vault.deal(poison)
        with reseeded():
            return scene.ask()

    first = ask(0)
    if digest(first) != digest(ask(1)):
        _require_steady(first, ask(0))
        raise AssertionError(
            "the query changes with hidden targets: the strategy peeks at them; it may use "
            "view.labelled.targets only"
        )


def _require_steady(one: Query, other: Query) -> None:
    """Two answers to one question; tells a strategy without determinism apart from a dishonest one."""
    same(
        one,
        other,
        "not deterministic: two fresh instances answer the same view differently; draw from "
        "view.rng(...), and follow neither the clock nor an order that Python does not promise",
    )


@_check("global-randomness")
def _global_randomness(bench: Bench) -> None:
    """neither uses nor sets the global random state of torch, numpy or random"""

    def ask(seed: int) -> Query:
        with reseeded(seed):
            scene = bench.scene()  # which refuses a prepare that touches it
            before = global_marks()
            query = scene.ask()
            touched = changed(before, global_marks())
        assert not touched, (
            f"select uses or sets {touched[0]}; draw from view.rng(...) or seeds.rng(...)"
        )
        return query

    first = ask(1)
    if digest(first) != digest(ask(2)):
        _require_steady(first, ask(1))
        raise AssertionError(
            "the query depends on the global random state; draw from view.rng(...)"
        )


@_check("same-seed-same-query")
def _same_seed(bench: Bench) -> None:
    """the same view gives the same query: again, and from a fresh instance, in cycles 0 to 3 and 30"""
    scene = bench.scene()
    for cycle in (*range(N_CYCLES), LATE_CYCLE):
        where = f" in cycle {cycle}" if cycle else ""
        first = scene.ask(cycle=cycle)
        again = scene.ask(cycle=cycle)
        same(first, again, f"asked twice with the same view, it answers differently{where}")
        fresh = bench.scene(learner=scene.learner)
        fresh.labelled, fresh.available = scene.labelled, scene.available
        same(
            first,
            fresh.ask(cycle=cycle),
            f"the answer in cycle {cycle} depends on having been asked before: a resumed run would differ"
            if cycle
            else "a fresh instance answers differently",
        )
        if cycle < N_CYCLES - 1:
            scene.extend(first)


@_check("other-process")
def _other_process(bench: Bench) -> None:
    """another process gives the same query"""
    name = bench.strategy_class.__qualname__
    try:
        path = inspect.getsourcefile(bench.strategy_class)
    except TypeError:  # made in a shell
        path = None
    if path is None or not name.isidentifier():
        raise unittest.SkipTest("the class cannot be found from another process")
    if any(not isinstance(value, str | int | float | bool) for value in bench.parameters.values()):
        raise unittest.SkipTest("a parameter cannot be told to another process")
    request = {
        "path": sys.path,
        "module": bench.strategy_class.__module__,
        "file": path,
        "class": name,
        "parameters": dict(bench.parameters),
        "root": str(bench.root),
        "threads": torch.get_num_threads(),
    }
    here = bench.scene().ask()
    answer = helper().ask(request)
    assert "error" not in answer, f"in another process: {answer['error']}"
    if answer["digest"] != digest(here):
        _require_steady(here, bench.scene().ask())
        raise AssertionError("another process asks differently")


@_check("device")
def _device(bench: Bench) -> None:
    """CPU and GPU ask alike, up to ties and rounding"""
    if not torch.cuda.is_available():
        raise unittest.SkipTest("no CUDA device here")
    on_cpu = bench.scene()
    on_gpu = bench.scene(device="cuda", learner=_moved(on_cpu.learner, torch.device("cuda")))
    cpu, gpu = on_cpu.ask(), on_gpu.ask()
    if isinstance(cpu, PoolQuery) and isinstance(gpu, PoolQuery):
        shared = len(set(cpu.indices.tolist()) & set(gpu.indices.tolist()))
        assert shared >= QUERY_SIZE - 1, (
            f"of {QUERY_SIZE} items, CPU and GPU agree on {shared}: "
            f"{cpu.indices.tolist()} and {gpu.indices.tolist()}"
        )
        return
    for a, b in zip(cpu.content(), gpu.content(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=0.02), "CPU and GPU ask differently"


def _moved(learner: Learner, device: torch.device) -> Learner:
    """The same learner, its tensors, networks and members on another device."""
    moved = object.__new__(type(learner))
    for name, value in vars(learner).items():
        if isinstance(value, list):
            value = [_moved(m, device) if isinstance(m, Learner) else m for m in value]
        if isinstance(value, nn.Module):
            value = copy.deepcopy(value)  # a module moves in place
        movable = isinstance(value, torch.Tensor | nn.Module)
        setattr(moved, name, value.to(device) if movable else value)
    moved.device = device
    return moved


@_check("learner-unchanged")
def _learner_unchanged(bench: Bench) -> None:
    """select leaves the classifier's parameters as they were"""
    scene = bench.scene()
    before = scene.learner.digest()
    scene.ask()
    assert scene.learner.digest() == before, "select changed the classifier's parameters"


@_check("evaluation-mode")
def _evaluation_mode(bench: Bench) -> None:
    """select leaves the classifier in evaluation mode, without gradients"""
    scene = bench.scene()
    before = modes(scene.learner)
    scene.ask()
    after = modes(scene.learner)
    left = changed(before, after)
    assert not left, f"select left the classifier changed: {', '.join(left)}"


@_check("view-unchanged")
def _view_unchanged(bench: Bench) -> None:
    """select leaves the pool and the labelled set as they were"""
    scene = bench.scene()
    view = scene.view()
    before = _visible(view)
    scene.select(view)
    after = _visible(view)
    touched = [name for name in before if not torch.equal(before[name], after[name])]
    assert not touched, f"select changed {', '.join(touched)}"


def _visible(view: CycleView) -> dict[str, torch.Tensor]:
    return {
        "the pool's items": view.pool.read_range(0, view.pool.n).clone(),
        "view.available": view.available.is_taken.clone(),
        "view.labelled.indices": view.labelled.indices.clone(),
        "view.labelled.targets": view.labelled.targets.clone(),
    }


@_check("permutation")
def _permutation(bench: Bench) -> None:
    """with the items permuted, the query is permuted"""
    scene = bench.scene()
    first = _pool_indices(scene.ask())
    if scene.strategy.follows_order:
        raise unittest.SkipTest("follows the order of the pool by declaration")
    if any(not torch.equal(first, _pool_indices(scene.ask(seed=seed))) for seed in (1, 2, 3)):
        raise unittest.SkipTest("draws at random")
    order = torch.from_numpy(seeds.rng(0, "permutation").permutation(N_POOL))
    position = torch.argsort(order)  # where an item went
    sample = bench.sample
    permuted = replace(
        sample,
        images=sample.images[order.numpy()],
        targets=sample.targets[order],
        initial=position[sample.initial],
    )
    answer = _pool_indices(bench.scene(permuted, learner=scene.learner).ask())
    assert set(order[answer].tolist()) == set(first.tolist()), (
        "with the pool in another order, other items are asked about: "
        f"{sorted(first.tolist())} before, {sorted(order[answer].tolist())} after. "
        "A strategy that means to declares follows_order = True"
    )


@_check("work-bound")
def _work_bound(bench: Bench) -> None:
    """the work counters stay within the declared bound, and count every pool item read"""
    scene = bench.scene()
    with scene.stage.author.blamed("counters by name, or None, from work_bound"):
        bound = scene.strategy.work_bound(len(scene.available), QUERY_SIZE)
    view = scene.view()
    n_read = 0
    read, read_range = scene.pool.read, scene.pool.read_range

    def counted(indices: torch.Tensor) -> torch.Tensor:
        nonlocal n_read
        n_read += len(indices)
        return read(indices)

    def counted_range(start: int, stop: int) -> torch.Tensor:
        nonlocal n_read
        n_read += stop - start
        return read_range(start, stop)

    scene.pool.read, scene.pool.read_range = counted, counted_range  # type: ignore[method-assign]
    scene.select(view)
    counts = view.work.counts
    told = counts.get("pool_items_scored", 0) + counts.get("pool_items_featurised", 0)
    # The labelled items may be read as anchors, those asked about for the record.
    assert n_read <= told + len(scene.labelled) + QUERY_SIZE, (
        f"select read {n_read} pool items but counted {told} as scored or featurised. view.scan(...) "
        "counts by itself; after reading with view.pool.gather or view.pool.blocks, say "
        "view.work.add('pool_items_scored', len(indices)), or 'pool_items_featurised'"
    )
    if bound is None:
        raise unittest.SkipTest(
            "declares no bound; work_bound(n_unlabelled, query_size) may return the most that a "
            "select adds to a counter, as in {'pool_items_scored': n_unlabelled}"
        )
    for name, most in bound.items():
        found = counts.get(name, 0)
        assert found <= most, (
            f"counted {found} {name}, declared at most {most} by work_bound; count less, or declare more"
        )
