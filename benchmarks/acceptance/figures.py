"""All figures, in the order of what they are worth to somebody whose time on a card is short.

First whether results are right (what is replayed is what is launched, a card asks as a CPU does), then the
figures that the project promises, then what explains them, then whole runs.
"""

from __future__ import annotations

from acceptance import equality, runs, speed
from acceptance.report import Figure
from alharness.generative.settings import WRITTEN_FOR

#: Generators whose steps are promised; the others explain them.
PROMISED = ("conv-28", "resnet-64")


def _steps(*names: str) -> list[Figure]:
    return [
        Figure(f"WGAN {step} step, {name}", speed.wgan_step(name, step), 8)
        for name in names
        for step in ("critic", "generator")
    ]


FIGURES = [
    Figure("captured fit = eager", equality.captured_fit, 5),
    Figure("captured search = eager", equality.captured_search, 5),
    Figure("captured generator step = eager", equality.captured_training, 15),
    Figure("the same run twice", equality.twice, 30),
    Figure("linear tasks: CPU = GPU", equality.linear_tasks, 30),
    Figure("fit step of the MNIST network", speed.fit_step, 10),
    Figure("a million MNIST images", speed.million_images, 10),
    Figure("matching 10 in 16 million x 50", speed.matching, 15),
    Figure("ASAL select at 16 million", speed.asal_select, 120),
    Figure("LSUN-sized scan", speed.lsun_sized, 90),
    *_steps(*PROMISED),
    Figure("CelebA's generator in an hour", speed.celeba_within_an_hour, 15),
    Figure("conformance on the device", equality.device_checks, 150),
    Figure("stopped and continued", equality.stopped, 30),
    Figure("cuDNN inside a run", equality.cudnn_inside_a_run, 10),
    Figure("forecast with the pool loaded", equality.forecast_with_the_pool_loaded, 10),
    Figure("MLflow is not needed", equality.without_mlflow, 10),
    Figure("core-set 1,000 of 50,000 x 128", speed.core_set, 30),
    Figure("scan against the bare forward pass", speed.scan_against_forward, 10),
    Figure("first capture", speed.first_capture, 5),
    Figure("two workers on one card", equality.two_workers, 60),
    Figure("tests marked gpu", equality.gpu_marked_tests, 60),
    *_steps(*(name for name in WRITTEN_FOR if name not in PROMISED)),
    Figure("conv-28 in full", runs.conv_28, 150),
    Figure("mnist-two, 3 seeds x 4 strategies", runs.mnist_two, 120),
    Figure("mnist-ten, 5 seeds x 6 strategies", runs.mnist_ten, 120),
    Figure("claims check", runs.claims, 60),
]
