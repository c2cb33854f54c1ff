"""Tasks that misbehave, each in one way, as they may stand in somebody's file.

``kind``: of misbehaviour. ``told``: what the one line of a run must say; ``noted``: what the record must
say of a run that goes on. ``caught_by``: the check of ``alharness check`` that must name it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time

import numpy as np
import torch

from alharness.learners.settings import LearnerSettings
from alharness.tasks.base import TaskData, TaskDefaults, TaskPlugin


class Honest(TaskPlugin):
    """Dark and bright images; what follows does one thing more."""

    def defaults(self, profile):
        return TaskDefaults(
            budget=40, query_size=10, initial_size=20, learner=LearnerSettings(kind="linear")
        )

    def load(self, locations, progress=None):
        self.misbehave()
        rng = np.random.default_rng(self.seed())
        targets = np.arange(240) % 2
        images = rng.integers(0, 200, size=(240, 1, 4, 4)) + 50 * targets[:, None, None, None]
        images = images.astype(np.uint8)
        return self.answer(
            TaskData(
                pool_images=images[:160],
                pool_targets=targets[:160],
                test_images=images[160:],
                test_targets=targets[160:],
                class_names=("dark", "bright"),
                fingerprint="typed by hand",
                pool_fingerprint="typed, too",
            )
        )

    def seed(self):
        return 0

    def misbehave(self):
        """Before the data are made."""

    def answer(self, data):
        return data


class ChangesTheFolder(Honest):
    kind = "chdir"
    told = "load to leave all as it is, found changed the working folder"
    caught_by = "load"

    def misbehave(self):
        os.chdir(tempfile.gettempdir())


class SetsTheDefaultType(Honest):
    kind = "global settings"
    told = "changed torch's default dtype"
    caught_by = "load"

    def misbehave(self):
        torch.set_default_dtype(torch.float64)


class SetsTheMaskOfFiles(Honest):
    kind = "global settings"
    told = "changed the mask of new files' modes (umask)"
    caught_by = "load"

    def misbehave(self):
        os.umask(0o777)


class Seeds(Honest):
    kind = "global randomness"
    told = "changed the global random state of numpy"
    caught_by = "load"

    def misbehave(self):
        np.random.seed(0)  # noqa: NPY002


class Exits(Honest):
    kind = "exit"
    told = "a TaskData from load, found an exit with code 0"
    caught_by = "load"

    def misbehave(self):
        sys.exit(0)


class Raises(Honest):
    kind = "exception"
    told = "found ZeroDivisionError: division by zero"
    caught_by = "load"

    def misbehave(self):
        return 1 / 0


class GivesArrays(Honest):
    kind = "wrong type"
    told = "found TypeError: tuple instead"
    caught_by = "load"

    def answer(self, data):
        return data.pool_images, data.pool_targets


class LacksLabels(Honest):
    kind = "wrong shape"
    told = "must be one label per item"
    caught_by = "load"

    def answer(self, data):
        data.__dict__["pool_targets"] = data.pool_targets[:-10]
        return data


class LoadsOn(Honest):
    """Goes on loading in a thread."""

    kind = "threads"
    told = "load to end its work when it returns"
    caught_by = "load"

    def misbehave(self):
        def work():
            until = time.thread_time() + 1.0
            while time.thread_time() < until:
                sum(range(1000))

        threading.Thread(target=work, daemon=True).start()


class ChangesItsData(Honest):
    """Draws its items anew whenever it is loaded, under one name."""

    kind = "data that change"
    caught_by = "same-data"
    loads = 0

    def seed(self):
        ChangesItsData.loads += 1
        return ChangesItsData.loads


class FollowsTheDate(Honest):
    kind = "dates"
    caught_by = "same-data"

    def seed(self):
        return time.time_ns()


class TestsOnItsPool(Honest):
    """Half of its test set is in its pool."""

    kind = "test in pool"
    noted = "40 of 80 test items are in the pool too"
    caught_by = "apart"

    def answer(self, data):
        data.test_images[:40] = data.pool_images[:40]
        data.test_targets[:40] = data.pool_targets[:40]
        return data
