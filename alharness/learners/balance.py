"""What a label counts in the training of a classifier: ``learner.class_weight``."""

from __future__ import annotations

from alharness.lazily import torch


def weights_of(targets_N: torch.Tensor, n_classes: int, setting: str) -> torch.Tensor | None:
    """What a label of each class counts, float32 ``[C]`` on the device of the targets; None: 1 each.

    ``balanced`` is scikit-learn's: N / (K n_c) for the K classes that have a label, so that each of them
    counts the same in all, and all together N. A class without a label counts nothing.
    """
    if setting == "none":
        return None
    counts_C = torch.bincount(targets_N, minlength=n_classes)
    present = counts_C > 0
    share_C = len(targets_N) / (present.sum() * counts_C.clamp_min(1))
    return torch.where(present, share_C, torch.zeros_like(share_C)).float()
