"""Matching on CUDA: one kernel over rows in bfloat16, and the neighbours of the exact search to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from pretended_cuda import PretendedDevice

from alharness.matching import ExactIndex, Matches, match, streamed
from alharness.matching.index import Neighbour
from alharness.matching.streamed import STORED, StreamedRows
from alharness.timing import WorkCounters

triton = pytest.importorskip("triton", reason="comes with torch's CUDA builds")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def cloud(n: int, k: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def some(n: int, of: int) -> torch.Tensor:
    return torch.randperm(of, generator=torch.Generator().manual_seed(3))[:n]


# -- the kernel --------------------------------------------------------------------------------------


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kernel in Triton's interpreter, which multiplies float32: the same numbers, widened."""
    if not INTERPRETED:
        pytest.skip("a device is there, and Triton compiles")
    import triton.language as tl

    from alharness.matching import kernels

    monkeypatch.setattr(kernels, "FACTORS", tl.float32)
    return lambda *given: kernels.group_minima(*given, streamed.BLOCK)


@pytest.mark.parametrize(("n_groups", "k", "n_queries"), [(1, 3, 1), (5, 50, 10), (2, 130, 17)])
def test_the_kernels_minima_are_as_near_as_the_search_takes_for_granted(
    n_groups: int, k: int, n_queries: int, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, queries = cloud(64 * n_groups, k), cloud(n_queries, k, seed=1)
    is_gone = torch.rand(len(rows), generator=torch.Generator().manual_seed(2)) < 0.3
    is_gone[-64:] = n_groups > 1  # a whole group
    source = StreamedRows(rows, rows.square().sum(dim=1), 64, 64)
    monkeypatch.setattr(torch.ops.alharness, "group_minima", kernel)
    found = source.minima(queries, is_gone)
    scores = (
        rows.double().square().sum(dim=1) - 2 * queries.double() @ rows.double().T
    ).masked_fill(is_gone, torch.inf)
    expected = scores.view(n_queries, n_groups, 64).amin(dim=2)
    assert torch.equal(found.isinf(), expected.isinf())
    largest = float(queries.norm(dim=1).max() * rows.norm(dim=1).max())
    differences = (found - expected)[~expected.isinf()].abs()
    assert float(differences.max()) <= 2 * STORED * largest
    assert float(differences.max()) > 0  # rows are rounded


def test_the_bound_is_the_error_of_a_row_halfway_between_two_stored_ones() -> None:
    """1 + 2^-8 lies in the middle of 1 and 1 + 2^-7, and of the two the even one is taken."""
    rows, queries = torch.full((64, 4), 1 + 2.0**-8), torch.ones(1, 4)
    stored = StreamedRows(rows, rows.square().sum(dim=1), 64, 64).rows_GKS[0].float().T
    error = float((queries @ (rows - stored)[0]).abs())
    lengths = float(queries.norm() * rows[0].norm())
    assert 0.99 * STORED * lengths < error + 2.0**-7 * STORED * lengths
    assert error <= STORED * lengths


@pytest.mark.slow
def test_the_kernel_compiles_for_a_card_of_today_and_spills_nothing() -> None:
    program = """
import re
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
import triton.language as tl
from alharness.matching import kernels
pointers = {"rows": "*bf16", "norms": "*fp32", "is_gone": "*i1", "high": "*bf16", "low": "*bf16"}
numbers = dict.fromkeys(["n_groups", "n_queries", "n_dims"], "i32")
constants = {"SIZE": 64, "GROUPS": kernels.GROUPS, "QUERIES": 16, "DIMS": 64, "FACTORS": tl.bfloat16}
signature = {**pointers, "minima": "*fp32", **numbers, **dict.fromkeys(constants, "constexpr")}
aligned = {(place,): [["tt.divisibility", 16]] for place in range(6)}
source = ASTSource(kernels._group_minima, signature, constants, aligned)
for target in (80, 90):
    options = {"num_warps": kernels.WARPS, "num_stages": 1}
    found = compile(source, target=GPUTarget("cuda", target, 32), options=options)
    assert "mma.sync" in found.asm["ptx"]
    assert "ld.global.v4.b32" in found.asm["ptx"]  # 16 bytes at a time
    assert "local" not in found.asm["ptx"]
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# -- the search --------------------------------------------------------------------------------------


def both(features: torch.Tensor) -> list[ExactIndex]:
    """The host's index and the device's, which streams."""
    host, there = ExactIndex(features), ExactIndex(features.to("cuda"))
    assert there._streamed is not None
    return [host, there]


def assert_same(found: Matches, expected: Matches) -> None:
    assert found.indices.tolist() == expected.indices.tolist()
    assert found.distances.tolist() == expected.distances.tolist()  # to the last bit
    assert found.depth.tolist() == expected.depth.tolist()


@pytest.mark.parametrize(
    ("n", "k", "n_queries", "n_taken"),
    [(1, 4, 1, 0), (63, 3, 40, 20), (64, 3, 64, 0), (65, 3, 5, 60), (3000, 50, 30, 100)],
)
def test_its_matches_are_the_hosts(
    n: int, k: int, n_queries: int, n_taken: int, device: PretendedDevice
) -> None:
    features, queries = cloud(n, k), cloud(n_queries, k, seed=1, scale=0.3)
    host, there = both(features)
    taken = some(n_taken, n)
    assert_same(match(there, queries.to("cuda"), taken=taken), match(host, queries, taken=taken))


def walks(index: ExactIndex, queries: torch.Tensor, taken: torch.Tensor) -> list[list[Neighbour]]:
    return [list(walk) for walk in index.neighbours(queries, taken)]


def crowded() -> torch.Tensor:
    """Rows that bfloat16 does not tell apart, far from zero: no minimum says which group is nearest."""
    return 10 + cloud(64 * 40, 6, scale=1e-3)


def tied() -> torch.Tensor:
    return torch.randint(0, 2, (150, 3), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("make", [crowded, tied])
def test_walks_where_the_kernel_cannot_tell_rows_apart_are_the_hosts(
    make: Any, device: PretendedDevice
) -> None:
    features = make()
    host, there = both(features)
    queries, taken = features[[5, 99]] + 1e-4, some(20, len(features))
    found = walks(there, queries.to("cuda"), taken)
    assert found == walks(host, queries, taken)
    assert [len(walk) for walk in found] == [len(features) - 20] * 2


def test_a_match_reads_once_from_the_device_and_measures_few_rows(device: PretendedDevice) -> None:
    n = 64 * 400
    index = ExactIndex(cloud(n, 50).to("cuda"))
    queries, taken, work = cloud(10, 50, seed=1).to("cuda"), some(100, n), WorkCounters()
    with device.counting() as counts:
        match(index, queries, taken=taken, work=work)
    assert counts.host_reads <= 2, counts.reads_at  # whether queries are finite; neighbours
    assert counts.launches <= 45
    assert work.counts["feature_rows_read"] == n
    assert work.counts["distances"] - 10 * n <= 20_000


def test_an_open_walk_keeps_its_taken_rows_when_another_search_begins(
    device: PretendedDevice,
) -> None:
    host, there = both(cloud(64 * 30, 4))
    query = cloud(1, 4, seed=1)
    (first,) = there.neighbours(query.to("cuda"), some(30, there.n))
    begun = [next(first) for _ in range(3)]
    walks(there, query.to("cuda"), some(300, there.n))
    assert [*begun, *first] == walks(host, query, some(30, host.n))[0]


# -- where the kernel cannot be had --------------------------------------------------------------------


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An index whose kernel does as it is told, and what it warns of."""

    def build(kernel: Any) -> tuple[ExactIndex, list[str]]:
        monkeypatch.setattr(torch.ops.alharness, "group_minima", kernel)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            index = ExactIndex(cloud(200, 5).to("cuda"))
        return index, [str(one.message) for one in told]

    return build


def raises(error: Exception) -> Any:
    def kernel(*_: Any) -> torch.Tensor:
        raise error

    return kernel


@pytest.mark.parametrize(
    ("kernel", "word"),
    [
        (raises(RuntimeError("Failed to find C compiler")), "C compiler"),
        (raises(torch.cuda.OutOfMemoryError("CUDA out of memory")), "out of memory"),
        (lambda *_: torch.zeros(1, 1, device="cuda"), "0 found"),
    ],
)
def test_a_kernel_that_does_not_work_is_told_and_products_match_the_same(
    kernel: Any, word: str, products: Any, device: PretendedDevice
) -> None:
    index, (told,) = products(kernel)
    assert "matching by matrix products" in told
    assert word in told
    queries, taken = cloud(4, 5, seed=1), some(20, 200)
    found = match(index, queries.to("cuda"), taken=taken)
    assert_same(found, match(ExactIndex(cloud(200, 5)), queries, taken=taken))


def test_without_triton_matching_is_products_as_the_record_says(
    products: Any, device: PretendedDevice
) -> None:
    index, told = products(raises(ModuleNotFoundError("No module named 'triton'")))
    assert index._streamed is None
    assert told == []
