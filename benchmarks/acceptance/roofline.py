"""What a step must take on a card, by exact counts: kernel by kernel, whichever is longest.

    python benchmarks/roofline.py            the table of benchmarks/results/device-counts.md

Each kernel that the program's own step launches moves so many bytes and does so many operations: at best
it takes as long as the longer of the two, and no less than a launch. The sum is the step's *ideal*; kernels
reach 40 to 55 % of it together, which is what is *likely* (estimated from scans on an H200).
Steps are run on the pretended device of ``tests/device``, with shapes and no values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from alharness import acquisition, numerics
from alharness.generative.latent_search import LatentSearch
from alharness.generative.networks import build_generator
from alharness.generative.settings import GENERATOR_RECIPES, WRITTEN_FOR
from alharness.generative.wgan import GeneratorTraining
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner, LearnerSettings, NetworkLearner
from alharness.matching import ExactIndex
from alharness.matching.streamed import StreamedRows, StreamedSearch
from alharness.pool import ArrayPool


class Card(NamedTuple):
    """What a card does at best.

    Attributes:
        bytes_s: bytes that it reads and writes in a second.
        flop_s: operations in a second, by precision of the products.
        launch_s: seconds of a kernel that does nothing, inside a graph.
    """

    name: str
    bytes_s: float
    flop_s: dict[str, float]
    launch_s: float = 2e-6


#: Bandwidth as measured there, rates as its maker says (dense).
H200 = Card("H200", 4.3e12, {"fp32": 67e12, "tf32": 495e12, "bf16": 989e12})
#: Share of the ideal that kernels reach together: slow and fast end.
REACHED = (0.4, 0.55)


@dataclass(frozen=True)
class Kernel:
    """One launch."""

    name: str
    n_bytes: int
    flop: int

    def seconds(self, card: Card, precision: str) -> float:
        return max(
            self.n_bytes / card.bytes_s, self.flop / card.flop_s[precision], card.launch_s
        )  # fmt: skip


#: Operations that launch nothing.
NO_KERNEL = frozenset(
    ["empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view"]
)  # fmt: skip


#: cuDNN works in one layout: images and weights in another are copied before, which launches are not told.
CONVOLUTIONS = frozenset(["convolution", "convolution_backward"])
#: In place, without a look at what was there.
OVERWRITES = frozenset(["copy_", "fill_", "zero_", "_foreach_copy_"])
GATHERS = frozenset(["index_select", "index", "gather", "embedding"])


class Kernels(TorchDispatchMode):
    """Notes what is launched in its ``with`` block over tensors that are not the host's."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Kernel] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        aliases = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
        is_view = bool(aliases) and not any(alias.is_write for alias in aliases)
        name = func._schema.name.partition("::")[2]
        tensors = {id(t): t for t in _tensors([args, kwargs, result])}
        if is_view or name in NO_KERNEL or all(t.device.type == "cpu" for t in tensors.values()):
            return result
        count = flop_registry.get(func._overloadpacket)
        flop = count(*args, **(kwargs or {}), out_val=result) if count is not None else 0
        if name in GATHERS:  # of what they pick from they read what they give
            tensors.pop(id(args[0]), None)
        n_bytes = sum(_bytes(t) for t in tensors.values()) + _changed(func, args)
        if name in CONVOLUTIONS:
            n_bytes += 2 * sum(map(_bytes, _relaid(args[:3])))
        self.found.append(Kernel(name, n_bytes, int(flop)))
        return result


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _changed(func: Any, args: Any) -> int:
    """Bytes that are written where they were read; a gradient is not, though a fused optimiser's may be."""
    if func._schema.name.partition("::")[2] in OVERWRITES:
        return 0
    changes = [
        given
        for argument, given in zip(func._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
        if argument.name != "grads"
    ]
    return sum(map(_bytes, _tensors(changes)))


def _relaid(given: Any) -> list[torch.Tensor]:
    """Images and weights of a convolution that are not channels last where others are."""
    four = [t for t in _tensors(list(given)) if t.dim() == 4]
    is_last = [t.is_contiguous(memory_format=torch.channels_last) for t in four]
    plain = [t.is_contiguous() for t in four]
    if not any(last and not flat for last, flat in zip(is_last, plain, strict=True)):
        return []
    return [t for t, last in zip(four, is_last, strict=True) if not last]


def kernels_of(step: Callable[[], object], *, warm_up: int = 1) -> list[Kernel]:
    """What one call launches, after calls in which optimisers make their state."""
    for _ in range(warm_up):
        step()
    with Kernels() as mode:
        step()
    return mode.found


def ideal_s(kernels: list[Kernel], card: Card = H200, precision: str = "fp32") -> float:
    """Seconds of a step on a card if each kernel reached its own roof."""
    return sum(kernel.seconds(card, precision) for kernel in kernels)


# The program's steps -----------------------------------------------------------------------------


@contextmanager
def weightless() -> Iterator[Any]:
    """A device of any size whose tensors have no values."""
    from pretended_cuda import pretended_cuda

    with pretended_cuda(1 << 50, is_weightless=True) as device, numerics.exact():
        yield device


def _pool(n: int, shape: tuple[int, ...]) -> ArrayPool:
    raw = torch.empty(n, *shape, dtype=torch.uint8, device="cuda")
    return ArrayPool(raw, "cuda", fingerprint="weightless")


def _learner(settings: LearnerSettings, shape: tuple[int, ...], n_classes: int) -> Learner:
    return learner_factory(settings)(shape, n_classes, torch.device("cuda"))


def fit_step(kind: str, shape: tuple[int, ...], width: int, batch: int) -> list[Kernel]:
    """A step of a network's fit: what ten steps launch more than nine."""

    def fitted(steps: int) -> list[Kernel]:
        settings = LearnerSettings(
            kind=kind, width=width, batch_size=batch, min_steps=steps, epochs=1
        )
        pool = _pool(batch, shape)
        labelled = LabelledSet(torch.arange(batch), torch.arange(batch) % 10, n_asked=batch)
        learner = NetworkLearner(shape, 10, torch.device("cuda"), settings, capture=False)
        with Kernels() as mode:
            learner.fit(labelled, pool, seed=0)
        return mode.found

    fewer, more = Counter(fitted(9)), Counter(fitted(10))
    return list((more - fewer).elements())


def search_step(kind: str, width: int, query: int) -> list[Kernel]:
    """A step of the latent search with conv-28: what seven steps launch more than six."""
    shape = (1, 28, 28)
    settings = LearnerSettings(kind=kind, width=width, min_steps=1, epochs=1)
    learner = _learner(settings, shape, 10)
    labelled = LabelledSet(torch.arange(20), torch.arange(20) % 10, n_asked=20)
    learner.fit(labelled, _pool(20, shape), seed=0)
    generator = build_generator(GENERATOR_RECIPES["conv-28"], shape).to("cuda").eval()
    generator.requires_grad_(False)

    def score(images: torch.Tensor) -> torch.Tensor:
        return acquisition.entropy(learner.logits(images).log_softmax(dim=-1))

    def searched(steps: int) -> list[Kernel]:
        z = torch.empty(query, GENERATOR_RECIPES["conv-28"].latent_dim, device="cuda")
        with Kernels() as mode:
            LatentSearch(generator, score, steps=steps, cuda_graph=False)(z)
        return mode.found

    return list((Counter(searched(7)) - Counter(searched(6))).elements())


def training_step(recipe_name: str, step: str, **changes: Any) -> list[Kernel]:
    """A critic's or generator's step of a recipe with changes."""
    recipe = GENERATOR_RECIPES[recipe_name].model_copy(update=changes)
    training = GeneratorTraining(_pool(1_000, WRITTEN_FOR[recipe_name]), recipe, capture=False)
    inputs = training.draw(1)[0]
    if step == "critic":
        return kernels_of(
            lambda: training._critic_step(inputs.reals[0], inputs.critic_z[0], inputs.mix[0])
        )
    return kernels_of(lambda: training._generator_step(inputs.generator_z))


def scan_block(
    kind: str, shape: tuple[int, ...], width: int, n_classes: int
) -> tuple[list[Kernel], int]:
    """A block of a scan by the best class, and how many items it has."""
    pool = _pool(1 << 20, shape)
    settings = LearnerSettings(kind=kind, width=width, min_steps=1, epochs=1)
    learner = _learner(settings, shape, n_classes)
    labelled = LabelledSet(torch.arange(20), torch.arange(20) % n_classes, n_asked=20)
    learner.fit(labelled, pool, seed=0)
    size = pool.block_size()
    wanted = torch.arange(size).to("cuda")
    return kernels_of(lambda: learner.log_probs(pool.gather(wanted)).max(dim=1).values), size


#: Rows, dimensions and queries of the promised match, and how many rows are taken.
MATCH = (16_000_000, 50, 10, 100)


def match_pass() -> tuple[list[Kernel], float]:
    """What a match launches until the host knows its neighbours, and the bytes of the features."""
    n, n_dims, n_queries, n_taken = MATCH
    rows = torch.empty(n, n_dims, device="cuda")
    source = StreamedRows(rows, torch.empty(n, device="cuda"), ExactIndex.GROUP, len(rows))
    queries, taken = torch.empty(n_queries, n_dims, device="cuda"), torch.arange(n_taken)
    with Kernels() as mode:
        queries.isfinite().all()  # as ``match`` asks
        StreamedSearch(source, lambda at: rows.index_select(0, at), queries, taken, None)
    return mode.found, float(rows.numel() * rows.element_size())


def steps() -> dict[str, list[Kernel]]:
    """Steps whose lists of kernels are golden (``tests/device/kernels.json``); inside ``weightless``."""
    from acceptance.speed import CELEBA

    found = {
        "fit mnist-cnn": fit_step("mnist-cnn", (1, 28, 28), 512, 50),
        "fit all-cnn": fit_step("all-cnn", (3, 32, 32), 96, 128),
        "fit strided-cnn": fit_step("strided-cnn", (3, 64, 64), 32, 50),
        "fit mlp": fit_step("mlp", (1, 8, 8), 64, 10),
        "search conv-28, linear": search_step("linear", 8, 10),
        "search conv-28, mnist-cnn": search_step("mnist-cnn", 512, 50),
        "scan mnist-cnn": scan_block("mnist-cnn", (1, 28, 28), 512, 10)[0],
    }
    for recipe in ("conv-28", "resnet-64"):
        for step in ("critic", "generator"):
            found[f"{step} {recipe}"] = training_step(recipe, step)
    for step in ("critic", "generator"):
        found[f"{step} resnet-64, folded"] = training_step("resnet-64", step, folded=True)
        found[f"{step} resnet-64, CelebA's"] = training_step("resnet-64", step, **CELEBA)
    return found


def listed(kernels: list[Kernel]) -> dict[str, Any]:
    """A step's list as the golden file has it."""
    return {
        "kernels": dict(sorted(Counter(kernel.name for kernel in kernels).items())),
        "flop": sum(kernel.flop for kernel in kernels),
        "bytes": sum(kernel.n_bytes for kernel in kernels),
    }


# Forecasts of what is promised ---------------------------------------------------------------------


class Forecast(NamedTuple):
    """A promised figure and what the counts say of it.

    Attributes:
        target, ideal: in the figure's unit.
    """

    name: str
    target: float
    ideal: float
    unit: str
    kernels: list[Kernel]

    @property
    def likely(self) -> tuple[float, float]:
        return self.ideal / REACHED[1], self.ideal / REACHED[0]


def forecasts(card: Card = H200) -> list[Forecast]:
    """Of the promised figures that are steps of networks; to be called inside ``weightless``."""
    from acceptance.speed import CELEBA, TARGETS

    fit = fit_step("mnist-cnn", (1, 28, 28), 512, 50)
    mnist, n_mnist = scan_block("mnist-cnn", (1, 28, 28), 512, 10)
    lsun, n_lsun = scan_block("strided-cnn", (3, 64, 64), 32, 10)
    search = search_step("mnist-cnn", 512, 10)
    matched, n_bytes = match_pass()
    recipe = GENERATOR_RECIPES["resnet-64"]
    critic, generator = (
        training_step("resnet-64", step, **CELEBA) for step in ("critic", "generator")
    )
    precision = CELEBA["precision"].removesuffix("-all")
    hour = recipe.steps / 3600
    celeba = hour * (
        recipe.critic_steps * ideal_s(critic, card, precision) + ideal_s(generator, card, precision)
    )
    return [
        Forecast("fit step", TARGETS["fit step"], 1e3 * ideal_s(fit, card), "ms", fit),
        Forecast(
            "a million MNIST images", TARGETS["a million MNIST images"],
            math.ceil(1e6 / n_mnist) * ideal_s(mnist, card), "s", mnist,
        ),
        Forecast(
            "LSUN-sized scan", TARGETS["LSUN-sized scan"],
            math.ceil(1e7 / n_lsun) * ideal_s(lsun, card), "s", lsun,
        ),
        Forecast(
            "matching 10 in 16 million", TARGETS["matching"],
            ideal_s(matched, card) / (n_bytes / card.bytes_s), "reads", matched,
        ),
        Forecast(
            "ASAL select: 100 steps of the search", TARGETS["ASAL select"],
            100 * ideal_s(search, card), "s", search,
        ),
        Forecast(
            "CelebA's generator", TARGETS["CelebA's generator"], celeba, "h",
            recipe.critic_steps * critic + generator,
        ),
    ]  # fmt: skip


def table(found: list[Forecast], card: Card = H200) -> str:
    """The forecasts as Markdown."""
    lines = [
        f"| figure | kernels | GFLOP | GB | ideal on {card.name} | likely | asked |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        flop, n_bytes = (
            sum(getattr(k, field) for k in one.kernels) for field in ("flop", "n_bytes")
        )
        fast, slow = one.likely
        lines.append(
            f"| {one.name} | {len(one.kernels):,} | {flop / 1e9:,.1f} | {n_bytes / 1e9:,.2f} | "
            f"{one.ideal:.3g} {one.unit} | {fast:.3g} to {slow:.3g} {one.unit} | "
            f"{one.target:g} {one.unit} |"
        )
    return "\n".join(lines)
