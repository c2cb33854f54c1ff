"""The layer norm's kernels: what torch's operations give, and none there where they do not work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pretended_cuda import PretendedDevice

from alharness.generative import normed_relu
from alharness.generative.normed_relu import sums as torchs_sums

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def passes(
    by_sums: Callable[..., Any],
    by_apply: Callable[..., Any],
    images: list[torch.Tensor],
    kind: torch.dtype,
) -> list[torch.Tensor]:
    """All that both passes give of x, of x and g, and of x, g and c; parts added up."""
    rng = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(2, images[0].shape[1], generator=rng).to(images[0].dtype)
    found, stats = [], None
    for n_given in (1, 2, 3):
        given = (images[:n_given], weight, bias, stats)
        total = by_sums(*given, kind)
        *written, last = by_apply(*given, total, 1e-5, True)
        if stats is None:
            stats = last
        found += [*written, last if n_given == 1 else last.sum(dim=0)]
    return found


@pytest.mark.parametrize(
    ("shape", "kind", "error"),
    [
        (
            (2, 3, 50, 50),
            torch.float64,
            1e-12,
        ),  # channels that are no power of 2, two parts, a short one
        ((2, 300, 3, 7), torch.float64, 1e-12),  # two rows of 512 a tile
        ((3, 4, 5, 6), torch.bfloat16, 2.0**-7),  # a number that lies between two of eight bits
    ],
)
def test_the_kernels_give_what_torchs_operations_do(
    shape: tuple[int, ...], kind: torch.dtype, error: float
) -> None:
    pytest.importorskip("triton", reason="comes with torch's CUDA builds")
    if not INTERPRETED:
        pytest.skip("a device is there, and Triton compiles")
    from alharness.generative import norm_kernels

    drawn = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).to(kind)
    images = [one.contiguous(memory_format=torch.channels_last) for one in drawn]
    acc = torch.float64 if kind == torch.float64 else torch.float32
    found = passes(norm_kernels.sums, norm_kernels.apply, images, acc)
    expected = passes(torchs_sums, normed_relu.apply, images, acc)
    assert len(found) == 7
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.stride() == theirs.stride() or ours.dim() < 4
        torch.testing.assert_close(ours, theirs, rtol=error, atol=error * float(theirs.abs().max()))


@pytest.mark.slow
def test_the_kernels_compile_for_a_card_of_today_and_spill_nothing() -> None:
    program = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from alharness.generative import norm_kernels as kernels
images = dict.fromkeys(["x", "g", "c", "weight", "bias"], "*bf16") | {"stats": "*fp32", "sums": "*fp32"}
written = {"result": "*bf16", "other": "*bf16", "by_channel": "*fp32"}
numbers = {"n_rows": "i32", "n_channels": "i32"}
shape = {"TILES": kernels.TILES, "N_SUMS": kernels.N_SUMS}
for columns in (64, 512):
    shape |= {"ROWS": kernels.TILE // columns, "COLUMNS": columns}
    for order in (0, 1, 2):
        more = {"PARTS": 32, "PARAMETERS": order > 0}
        for kernel, given, constants in (
            (kernels._sums, images | numbers, {"ORDER": order} | shape),
            (kernels._apply, images | written | {"eps": "fp32"} | numbers, {"ORDER": order} | shape | more),
        ):
            signature = given | dict.fromkeys(constants, "constexpr")
            aligned = {
                (at,): [["tt.divisibility", 16]]
                for at, name in enumerate(given)
                if given[name][0] == "*" or name == "n_channels"
            }
            source = ASTSource(kernel, signature, constants, aligned)
            for target in (80, 90):
                options = {"num_warps": kernels.WARPS}
                found = compile(source, target=GPUTarget("cuda", target, 32), options=options)
                ptx = found.asm["ptx"]
                assert "ld.global.v4.b32" in ptx, (columns, order, kernel)  # 16 bytes at a time
                assert "local" not in ptx, (columns, order, kernel)
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


# -- where the kernels cannot be had ---------------------------------------------------------------------


@pytest.fixture
def chosen() -> Iterator[Callable[[], Any]]:
    """Which passes are taken, found anew."""
    normed_relu._passes.cache_clear()
    yield normed_relu._passes
    normed_relu._passes.cache_clear()


def test_a_kernel_that_does_not_work_is_told_and_torchs_operations_do_the_same(
    chosen: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, device: PretendedDevice
) -> None:
    norm_kernels = pytest.importorskip("alharness.generative.norm_kernels")

    def fails(*_: Any) -> Any:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(norm_kernels, "sums", fails)
    with pytest.warns(UserWarning, match="by torch's operations.*Failed to find C compiler"):
        assert chosen() == (torchs_sums, normed_relu.apply)


def test_a_kernel_with_other_numbers_does_not_work(
    chosen: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, device: PretendedDevice
) -> None:
    norm_kernels = pytest.importorskip("alharness.generative.norm_kernels")
    monkeypatch.setattr(norm_kernels, "sums", lambda *given: 2 * torchs_sums(*given))
    monkeypatch.setattr(norm_kernels, "apply", normed_relu.apply)
    with pytest.warns(UserWarning, match="Tensor-likes are not close"):
        assert chosen() == (torchs_sums, normed_relu.apply)
    normed_relu._passes.cache_clear()
    monkeypatch.setattr(norm_kernels, "sums", torchs_sums)
    assert chosen() == (torchs_sums, normed_relu.apply)
