"""Which kernels a step launches, how many bytes and operations they take, and what that says of a card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from acceptance import roofline
from pretended_cuda import pretended_cuda

GOLDEN = json.loads((Path(__file__).parent / "kernels.json").read_text())
IS_GOLDENS_TORCH = ".".join(torch.__version__.split(".")[:2]) == GOLDEN["torch"]


@pytest.fixture
def weightless() -> Iterator[None]:
    with roofline.weightless():
        yield


def test_a_product_takes_the_longer_of_its_bytes_and_its_operations(weightless: None) -> None:
    a, b = torch.empty(100, 200, device="cuda"), torch.empty(200, 300, device="cuda")
    (kernel,) = roofline.kernels_of(lambda: a @ b)
    assert kernel == roofline.Kernel(
        "mm", 4 * (100 * 200 + 200 * 300 + 100 * 300), 2 * 100 * 200 * 300
    )
    slow = roofline.Card("slow", 1e6, {"fp32": 1e9}, 1e-6)
    assert kernel.seconds(slow, "fp32") == 440_000 / 1e6  # by its bytes
    assert kernel.seconds(slow._replace(bytes_s=1e9), "fp32") == 12e6 / 1e9  # by its operations
    fast = roofline.Card("fast", 1e30, {"fp32": 1e30}, 1e-6)
    assert kernel.seconds(fast, "fp32") == 1e-6  # by its launch


def test_picking_rows_reads_what_it_gives(weightless: None) -> None:
    rows, wanted = torch.empty(1_000, 10, device="cuda"), torch.arange(5).to("cuda")
    (kernel,) = roofline.kernels_of(lambda: rows.index_select(0, wanted))
    assert kernel.n_bytes == 5 * 10 * 4 + 5 * 8


def test_steps_have_their_kernels_without_values() -> None:
    """The list of a step is the one that a device with values launches."""
    with_values = []
    for options in ({}, {"is_weightless": True}):
        with pretended_cuda(**options):
            with_values.append(roofline.fit_step("mlp", (1, 8, 8), 4, 10))
    assert Counter(with_values[0]) == Counter(with_values[1])


@pytest.fixture(scope="module")
def steps() -> dict[str, list[roofline.Kernel]]:
    with roofline.weightless():
        return roofline.steps()


@pytest.fixture(scope="module")
def forecasts() -> list[roofline.Forecast]:
    with roofline.weightless():
        return roofline.forecasts()


def grown(before: dict[str, int], now: dict[str, int]) -> str:
    """What a step launches more and less than the golden list says."""
    names = sorted({*before, *now})
    changes = [
        f"{n} {now.get(n, 0) - before.get(n, 0):+d}" for n in names if now.get(n) != before.get(n)
    ]
    return ", ".join(changes)


@pytest.mark.skipif(not IS_GOLDENS_TORCH, reason="lists of kernels are one version of torch's")
def test_no_step_launches_other_kernels_than_it_did(
    steps: dict[str, list[roofline.Kernel]],
) -> None:
    """After a change on purpose: python benchmarks/roofline.py --write."""
    found = {name: roofline.listed(kernels) for name, kernels in steps.items()}
    assert set(found) == set(GOLDEN["steps"])
    told = {
        name: grown(GOLDEN["steps"][name]["kernels"], step["kernels"])
        for name, step in found.items()
        if step["kernels"] != GOLDEN["steps"][name]["kernels"]
    }
    assert told == {}
    assert found == GOLDEN["steps"]  # bytes and operations


def test_nothing_is_asked_of_a_card_that_no_card_can_do(
    forecasts: list[roofline.Forecast],
) -> None:
    impossible = [one.name for one in forecasts if one.target < one.ideal]
    assert impossible == []
    assert {one.name for one in forecasts} >= {"fit step", "CelebA's generator", "LSUN-sized scan"}


def test_the_table_has_a_line_for_each_promise(forecasts: list[roofline.Forecast]) -> None:
    page = (Path(__file__).parents[2] / "benchmarks" / "results" / "device-counts.md").read_text()
    if IS_GOLDENS_TORCH:
        assert roofline.table(forecasts) in page
    assert all(f"| {one.name} |" in page for one in forecasts)


def test_a_folded_critic_moves_less_than_the_plain_one(
    steps: dict[str, list[roofline.Kernel]],
) -> None:
    """Also with its layer norm's second derivative: written out badly, it moved a third more."""
    plain, folded = steps["critic resnet-64"], steps["critic resnet-64, folded"]
    share = roofline.ideal_s(folded, precision="tf32") / roofline.ideal_s(plain, precision="tf32")
    assert share < 0.55
    assert len(folded) < 0.5 * len(plain)


def test_celebas_critic_stores_half_the_bytes_and_nothing_large_in_float32(
    steps: dict[str, list[roofline.Kernel]],
) -> None:
    folded, stored = steps["critic resnet-64, folded"], steps["critic resnet-64, CelebA's"]
    n_bytes = [sum(kernel.n_bytes for kernel in step) for step in (folded, stored)]
    assert n_bytes[1] < 0.56 * n_bytes[0]  # weights under the optimiser stay


def test_a_convolution_of_another_layout_counts_the_copies_before_it(weightless: None) -> None:
    layer = torch.nn.Conv2d(8, 8, 3).to("cuda", memory_format=torch.channels_last)
    flat = torch.empty(2, 8, 6, 6, device="cuda")
    turned = flat.contiguous(memory_format=torch.channels_last)
    (copied,), (as_it_is,) = (
        roofline.kernels_of(lambda images=images: layer(images)) for images in (flat, turned)
    )
    assert copied.n_bytes - as_it_is.n_bytes == 2 * 4 * flat.numel()
    assert layer(flat).is_contiguous(memory_format=torch.channels_last)


def test_what_is_changed_in_place_is_read_and_written(weightless: None) -> None:
    values = torch.empty(100, device="cuda")
    changed, overwritten = (
        roofline.kernels_of(step)[0] for step in (lambda: values.mul_(2.0), lambda: values.zero_())
    )
    assert (changed.n_bytes, overwritten.n_bytes) == (800, 400)
