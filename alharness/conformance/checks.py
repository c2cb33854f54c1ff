"""The checks of a strategy, each on a bench."""

from __future__ import annotations

import copy
import inspect
import sys
import unittest
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from alharness import plugins, seeds
from alharness.border.answers import RULES, faults
from alharness.border.guard import Guard
from alharness.border.marks import (
    contents,
    label_marks,
    learner_marks,
    modes,
    reseeded,
)
from alharness.border.state import Marks, changed, global_marks
from alharness.conformance.effects import SEEN_ELSEWHERE, Tried, deeds, seen_elsewhere
from alharness.conformance.outcomes import Checks
from alharness.conformance.process import helper
from alharness.conformance.queries import digest, same
from alharness.conformance.scene import N_POOL, QUERY_SIZE, Bench, Sample, Scene
from alharness.learners.learner import Learner
from alharness.oracle import Oracle
from alharness.queries import PoolQuery, Query
from alharness.strategy import CycleView

CHECKS: Checks[Bench] = Checks()

#: Cycles in a row, each with the labels of those before it: what a strategy does from some cycle on shows
#: in them, and by the number of the cycle in a late one.
N_CYCLES = 4
LATE_CYCLE = 30
#: Seeds that a query may follow; among so many, draws of one item of 78 differ in all but one of 10^9 cases.
N_SEEDS = 6
#: Items of the pool in which who looks at a few hundred drawn candidates does not look at all.
MANY = 1_500


# What a query must be: the rules of a run ------------------------------------------------------


def _keep(scene: Scene, query: Any, rule: str) -> None:
    """Refuse a query that breaks the rule, in the words of a run."""
    for fault in faults(query, scene.pool, scene.available, QUERY_SIZE):
        if fault.rule == rule:
            scene.stage.author.refuse(fault.expected, fault.found)


def _register(rule: str) -> None:
    def check(bench: Bench) -> None:
        scene = bench.scene()
        _keep(scene, scene.answer(), rule)

    check.__doc__ = RULES[rule]
    CHECKS[rule] = check


for rule in RULES:
    _register(rule)


@CHECKS.named("distinct")
def _distinct(bench: Bench) -> None:
    """no item twice in one query"""
    query = bench.scene().answer()
    # A run takes equal synthetic items, which an annotator may answer differently; a check does not.
    items = query.indices if isinstance(query, PoolQuery) else query.content()[0].flatten(1)
    n_distinct = len(items.unique(dim=0))
    assert n_distinct == len(query), f"{len(query)} items, only {n_distinct} of them distinct"


@CHECKS.named("never-test-items")
def _never_test_items(bench: Bench) -> None:
    """only items of the pool, or images that are not in the test set"""
    scene = bench.scene()
    query = scene.answer()
    _keep(scene, query, "never-test-items")
    if isinstance(query, PoolQuery):
        return
    asked = query.content()[-1].reshape(-1, *bench.sample.images.shape[1:])
    test = torch.from_numpy(bench.sample.test).float() / 255
    nearest = torch.cdist(asked.flatten(1), test.flatten(1)).min()
    assert float(nearest) > 1e-3, "asks about an image of the test set"


@CHECKS.named("pool-indices")
def _pool_indices_not_positions(bench: Bench) -> None:
    """pool indices, not positions among the unlabelled items"""
    # With the first half labelled, every small position names a labelled item.
    half = N_POOL // 2
    indices = _pool_indices(bench.scene(bench.labelling(torch.arange(half))).answer())
    assert int(indices.min()) >= half, (
        f"with items 0 .. {half - 1} labelled, asks about {indices.tolist()}: "
        "these look like positions in view.unlabelled; return view.unlabelled[positions]"
    )


def _pool_indices(query: Query) -> torch.Tensor:
    """Pool items that a query asks about; skips the check for synthetic items."""
    if not isinstance(query, PoolQuery):
        raise unittest.SkipTest("asks about synthetic items")
    return query.indices


# Situations in which a run's own check must find nothing -----------------------------------------


@CHECKS.named("rejected-items")
def _rejected_items(bench: Bench) -> None:
    """nor items that were asked about and that nobody could label"""
    scene = bench.scene()
    rejected = scene.available.indices[::2]
    scene.available = scene.available.taking(rejected)
    scene.labelled = replace(scene.labelled, n_asked=scene.labelled.n_asked + len(rejected))
    scene.ask()


@CHECKS.named("query-size-one")
def _query_size_one(bench: Bench) -> None:
    """works when a single item is asked for"""
    bench.scene().ask(1)


@CHECKS.named("whole-rest")
def _whole_rest(bench: Bench) -> None:
    """works when everything that is left is asked for"""
    scene = bench.scene()
    scene.ask(len(scene.available))


@CHECKS.named("last-item")
def _last_item(bench: Bench) -> None:
    """works when a single item is left"""
    everything = torch.arange(N_POOL)
    bench.scene(bench.labelling(everything[everything != 41])).ask(1)


@CHECKS.named("second-cycle")
def _second_cycle(bench: Bench) -> None:
    """asks about something new once its query is answered"""
    scene = bench.scene()
    scene.extend(scene.ask())
    scene.ask(cycle=1)


@CHECKS.named("empty-class")
def _empty_class(bench: Bench) -> None:
    """works while a class has no labelled item"""
    initial = bench.sample.initial
    bench.scene(bench.labelling(initial[bench.sample.targets[initial] != 0])).ask()


@CHECKS.named("one-class")
def _one_class(bench: Bench) -> None:
    """works on a pool whose items are all of one class"""
    targets = torch.zeros_like(bench.sample.targets)
    bench.scene(replace(bench.sample, targets=targets)).ask()


@CHECKS.named("constant-images")
def _constant_images(bench: Bench) -> None:
    """works on a pool of equal images"""
    bench.scene(bench.sample.with_equal_images()).ask()


@CHECKS.named("linear-classifier")
def _linear_classifier(bench: Bench) -> None:
    """works with the linear classifier, too"""
    bench.scene(kind="linear").ask()


# What must be left alone: the marks of a run -----------------------------------------------------


@CHECKS.named("as-in-a-run")
def _as_in_a_run(bench: Bench) -> None:
    """a run of four cycles refuses none of its answers, and finds everything as it was after them"""
    scene = bench.scene()
    problem, sample = scene.stage.problem, scene.sample
    vault = Oracle(sample.targets, sample.n_classes).vault
    guard = Guard(scene.stage.author, problem.pool, problem.test, vault)
    for cycle in range(N_CYCLES):
        _, query = guard.ask(scene, QUERY_SIZE, cycle=cycle, seed=0)
        scene.extend(query)
    guard.conclude(N_CYCLES)


def _leaves(bench: Bench, what: str, marks: Callable[[Scene, CycleView], Marks]) -> None:
    """Compare some marks before and after a selection."""
    scene = bench.scene()
    view = scene.view()
    before = marks(scene, view)
    with scene.stage.author.blamed("a query from select"):
        scene.strategy.select(view, QUERY_SIZE)
    touched = changed(before, marks(scene, view))
    assert not touched, f"select {what}: {', '.join(touched)}"


@CHECKS.named("learner-unchanged")
def _learner_unchanged(bench: Bench) -> None:
    """select leaves the classifier's parameters as they were"""
    _leaves(bench, "changed", lambda scene, view: learner_marks(scene.learner))


@CHECKS.named("evaluation-mode")
def _evaluation_mode(bench: Bench) -> None:
    """select leaves the classifier in evaluation mode, without gradients"""
    _leaves(bench, "left the classifier changed", lambda scene, view: modes(scene.learner))


@CHECKS.named("view-unchanged")
def _view_unchanged(bench: Bench) -> None:
    """select leaves the pool and the labelled set as they were"""

    def visible(scene: Scene, view: CycleView) -> Marks:
        return {
            "the pool's items": contents(view.pool),
            "view.available": view.available.is_taken.tolist(),
            **label_marks(view.labelled, view.available),
        }

    _leaves(bench, "changed", visible)


# Honesty -------------------------------------------------------------------------------------


@CHECKS.named("hidden-targets")
def _hidden_targets(bench: Bench) -> None:
    """the query stays the same when the hidden targets are poisoned"""

    def ask(poison: int) -> Query:
        targets = bench.sample.targets.clone()
        unlabelled = torch.ones(len(targets), dtype=torch.bool)
        unlabelled[bench.sample.initial] = False
        targets[unlabelled] = (targets[unlabelled] + poison) % bench.sample.n_classes
        scene = bench.scene(replace(bench.sample, targets=targets), anew=True)
        # Within reach of a strategy that looks into its caller or into the collector's list.
        oracle = Oracle(targets, bench.sample.n_classes)
        oracle.vault.deal(poison)
        with reseeded(1):
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


@CHECKS.named("global-randomness")
def _global_randomness(bench: Bench) -> None:
    """neither uses nor sets the global random state of torch, numpy or random"""

    def ask(seed: int) -> Query:
        with reseeded(seed):
            scene = bench.scene(anew=True)  # which refuses a prepare that touches it
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


@CHECKS.named("same-seed-same-query")
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


@CHECKS.named("other-process")
def _other_process(bench: Bench) -> None:
    """another process gives the same query"""
    name = plugins.attribute_of(bench.strategy_class)
    try:
        path = inspect.getsourcefile(bench.strategy_class)
    except TypeError:  # made in a shell
        path = None
    if path is None or name is None:
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


@CHECKS.named("device")
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


@CHECKS.named("permutation")
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


@CHECKS.named("work-bound")
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
    scene.select(view, QUERY_SIZE)
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


# Settings and seeds that do something -------------------------------------------------------------


@CHECKS.named("parameters")
def _parameters(bench: Bench) -> None:
    """every parameter changes the query, its figures or the counted work"""
    model = bench.strategy_class.Parameters
    if not model.model_fields:
        raise unittest.SkipTest("has no parameters")
    tried = Tried(bench, _sampled(bench))
    silent, unknown = [], []
    for name, field in model.model_fields.items():
        values = tried.values(name)
        if seen_elsewhere(field):
            continue
        if not values:
            unknown.append(name)
        elif not tried.shows(name):
            silent.append(f"{name} (as {values[0]!r} as {tried.usual[name]!r})")
    assert not silent, (
        f"other values change nothing: {', '.join(silent)}. Use the parameter, or leave it out. What no "
        f"small problem can show says so: Field(..., json_schema_extra={{'{SEEN_ELSEWHERE}': 'why'}})"
    )
    if unknown:
        raise unittest.SkipTest(
            f"no other value of {', '.join(unknown)} can be guessed; the rest does something"
        )


def _sampled(bench: Bench) -> Scene:
    """A scene whose classifier draws its samples: an ensemble has its members, whatever is asked of it."""
    needs = bench.strategy().learner_needs  # of the instance: a peer's needs follow from its name
    return bench.scene(dropout=0.5 if "samples" in needs else 0.0)


@CHECKS.named("seed")
def _seed(bench: Bench) -> None:
    """who draws from the view's random numbers draws otherwise with another seed"""
    n_draws = 0

    def counted(draw: Callable[..., Any]) -> Callable[..., Any]:
        def later(*purpose: str | int) -> Any:
            nonlocal n_draws
            n_draws += 1
            return draw(*purpose)

        return later

    for scene in _where_seeds_show(bench):
        found = []
        for seed in range(N_SEEDS):
            view = scene.view(seed=seed)
            view.rng = counted(view.rng)  # type: ignore[method-assign]
            view.torch_rng = counted(view.torch_rng)  # type: ignore[method-assign]
            found.append(deeds(scene, view, QUERY_SIZE))
            if found[-1] != found[0]:
                return
        if not n_draws:
            raise unittest.SkipTest("draws no random numbers")
    raise AssertionError(
        f"draws from view.rng or view.torch_rng, and {N_SEEDS} seeds give one query, on noisy, on equal "
        "and on many images: the numbers are not used, or their generator is seeded anew"
    )


def _where_seeds_show(bench: Bench) -> Iterator[Scene]:
    """Scenes one after the other: almost everybody who draws shows it in the first."""
    scene = _sampled(bench)
    yield scene
    # Of equal images everybody's scores are equal: who draws to break ties shows it there.
    yield bench.scene(bench.sample.with_equal_images(), learner=scene.learner)
    # Who looks at a few hundred drawn candidates shows it where there are more.
    shape = bench.sample.images.shape[1:]
    many = Sample.usual(bench.sample.n_classes, shape, n_pool=MANY)
    yield bench.scene(many, learner=scene.learner)
