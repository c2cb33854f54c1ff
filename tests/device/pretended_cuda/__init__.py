"""A pretended CUDA device: tensors that say ``cuda:0`` and hold CPU memory.

``with pretended_cuda() as device:`` makes ``torch.cuda`` say that there is one device, and sends all
that alharness computes "there" through this package. So the device's code path runs on a machine without
one, and two things can be seen that a CPU run never shows:

*What a device refuses is refused*, in torch's words: operations over host and device tensors, ``numpy()``
of a device tensor, a host's generator for the device's randomness, a host read or a pageable copy while a
graph is captured, a fused optimiser over unlike strides, more memory than there is. A convolution with
cuDNN switched off, which a device would merely compute ten times slower, is refused too.

*What makes a device wait is counted* (``Counts``): launches, host reads, copies and graphs.

*What a device may do is done* where a test asks for it: with an ``Order`` each stream has a queue that runs
as late as it may, or by chance, and missing waits are races; ``rounds_otherwise`` gives results other last
bits; ``breaks_at`` ends in an error that stays. Operations without a deterministic kernel are refused.

It is not a GPU: nothing runs in parallel, times mean nothing, random numbers are those of the CPU's generator
with the same seed, strides of results are the CPU's, there is one device, and ``autocast`` on CUDA changes
nothing. Whoever leaves the ``with`` block finds torch as it was.

For tests (``tests/device``) and for ``benchmarks/gpu_acceptance.py --dry``.
"""

from pretended_cuda.counts import Counts
from pretended_cuda.install import pretended_cuda
from pretended_cuda.order import Order, RaceError
from pretended_cuda.state import STICKY, PretendedDevice
from pretended_cuda.tensors import DeviceTensor

__all__ = [
    "STICKY",
    "Counts",
    "DeviceTensor",
    "Order",
    "PretendedDevice",
    "RaceError",
    "pretended_cuda",
]
