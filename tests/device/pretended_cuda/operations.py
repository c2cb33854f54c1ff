"""Torch's operations by what matters of them on a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

#: Shapes that depend on values, and solvers whose result is checked: the host waits for the device.
HOST_WAITS = frozenset(
    [
        "_local_scalar_dense",
        "allclose",
        "equal",
        "nonzero",
        "masked_select",
        "unique_dim",
        "_unique2",
        "unique_consecutive",
        "bincount",
        "_linalg_eigh",
        "linalg_eig",
        "_linalg_svd",
    ]
)
RANDOM = frozenset(
    [
        "rand",
        "randn",
        "randint",
        "randperm",
        "normal",
        "uniform_",
        "normal_",
        "bernoulli",
        "bernoulli_",
        "random_",
        "multinomial",
        "exponential_",
        "native_dropout",
        "poisson",
        "cauchy_",
        "geometric_",
        "log_normal_",
        "rand_like",
        "randn_like",
        "randint_like",
    ]
)
#: What torch's own C++ makes for a function of device tensors.
FACTORIES = frozenset(
    [
        "empty",
        "zeros",
        "ones",
        "full",
        "arange",
        "scalar_tensor",
        "eye",
        "empty_strided",
        "linspace",
    ]
)
INDEXING = frozenset(["index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"])
COPIES = frozenset(("copy_", "_to_copy"))
CONVOLUTIONS = frozenset(("convolution", "convolution_backward"))
#: Results that another chip's libraries round otherwise: products, sums and elementary functions.
ROUNDED = frozenset(
    [
        "mm",
        "bmm",
        "addmm",
        "baddbmm",
        "addmv",
        "dot",
        "mv",
        "convolution",
        "convolution_backward",
        "sum",
        "mean",
        "div",
        "exp",
        "log",
        "sqrt",
        "tanh",
        "sigmoid",
        "softplus",
        "softplus_backward",
        "logsumexp",
        "_log_softmax",
        "_softmax",
        "norm",
        "linalg_vector_norm",
        "native_batch_norm",
        "native_batch_norm_backward",
        "native_group_norm",
        "native_group_norm_backward",
        "native_layer_norm",
        "native_layer_norm_backward",
        "var_mean",
        "_cdist_forward",
        "_linalg_eigh",
    ]
)
#: Floating-point operations whose CUDA kernels add in an order of their own in each call, whatever cuDNN is
#: told (torch.use_deterministic_algorithms lists them): a run that uses one does not repeat.
NONDETERMINISTIC = frozenset(
    [
        "_adaptive_avg_pool2d_backward",
        "_adaptive_avg_pool3d_backward",
        "_ctc_loss_backward",
        "_embedding_bag_dense_backward",
        "adaptive_max_pool2d_backward",
        "avg_pool3d_backward",
        "fractional_max_pool2d_backward",
        "grid_sampler_2d_backward",
        "grid_sampler_3d_backward",
        "histc",
        "index_add",
        "index_add_",
        "index_reduce",
        "index_reduce_",
        "max_pool3d_with_indices_backward",
        "nll_loss2d_forward",
        "put_",
        "reflection_pad1d_backward",
        "reflection_pad2d_backward",
        "replication_pad1d_backward",
        "replication_pad2d_backward",
        "scatter_add",
        "scatter_add_",
        "scatter_reduce",
        "upsample_bicubic2d_backward",
        "upsample_bilinear2d_backward",
        "upsample_linear1d_backward",
    ]
)
#: What allocates and writes nothing.
UNWRITTEN = frozenset(["empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"])
#: What changes where a tensor's values lie, which a queue cannot put off.
MOVES = frozenset(["resize_", "set_", "_resize_output_"])
FUSED = frozenset(["_fused_adam_", "_fused_adamw_", "_fused_sgd_", "_fused_adagrad_"])
#: Batch normalisation moves its running statistics, which its schema does not say.
WRITES_UNTOLD = frozenset(["native_batch_norm", "cudnn_batch_norm"])


@dataclass(frozen=True)
class Operation:
    """What matters here of one of torch's operations."""

    name: str
    is_view: bool
    changes: bool  # writes into an argument, which it gives back or gives nothing

    @property
    def writes(self) -> bool:
        """Whether it writes into an argument, told or not."""
        return self.changes or self.name in WRITES_UNTOLD

    @classmethod
    @cache
    def of(cls, func: Any) -> Operation:
        schema = func._schema
        aliases = [r.alias_info for r in schema.returns if r.alias_info is not None]
        is_view = bool(aliases) and not any(alias.is_write for alias in aliases)
        return cls(schema.name.partition("::")[2], is_view, schema.is_mutable)


def tensors_in(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    """Tensors among arguments, those in lists too."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def changed(value: Any, change: Mapping[type, Any]) -> Any:
    """Arguments or results with their tensors replaced."""
    if isinstance(value, list | tuple):
        return type(value)([changed(part, change) for part in value])
    replace = change.get(type(value))
    return value if replace is None else replace(value)
