"""The ground floor: seeds, stopwatch, counters, pools, scores, the labelled set."""

from __future__ import annotations

import math
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch

from alharness import acquisition, seeds
from alharness.errors import UserError, unknown_name
from alharness.labelled import Annotation, LabelledSet
from alharness.pool import ArrayPool
from alharness.records import Ledger
from alharness.timing import Stopwatch, WorkCounters


class TestSeeds:
    def test_every_part_of_the_name_matters(self) -> None:
        drawn = {
            seeds.derive(0, "fit", 1),
            seeds.derive(1, "fit", 1),
            seeds.derive(0, "fit", 2),
            seeds.derive(0, "initial", 1),
            seeds.derive(0, "fit", "1"),
            seeds.derive(0, "fi", "t", 1),
        }
        assert len(drawn) == 6
        assert all(0 <= seed < 2**63 for seed in drawn)

    def test_the_same_in_another_process(self) -> None:
        code = "from alharness import seeds; print(seeds.derive(7, 'select', 3))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == seeds.derive(7, "select", 3)

    def test_known_number_so_that_old_runs_stay_reproducible(self) -> None:
        assert seeds.derive(0, "initial") == 32375636027288383
        assert seeds.rng(0, "initial").integers(1000, size=3).tolist() == [561, 538, 757]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of stopwatches, which goes on when it is told to."""
    made = Clock()
    monkeypatch.setattr("alharness.timing.perf_counter", lambda: made.now)
    return made


class Clock:
    now = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class TestStopwatch:
    def test_a_nested_phase_is_not_counted_twice(self, clock: Clock) -> None:
        watch = Stopwatch()
        with watch.phase("outer"):
            clock.pass_by(2)
            with watch.phase("inner"):
                clock.pass_by(5)
            clock.pass_by(3)
        assert watch.seconds == {"outer": 5, "inner": 5}

    def test_time_between_phases_belongs_to_none(self, clock: Clock) -> None:
        watch = Stopwatch()
        for _ in range(2):
            with watch.phase("a"):
                clock.pass_by(1)
            clock.pass_by(30)
        assert watch.seconds == {"a": 2}

    def test_a_phase_that_fails_is_closed(self, clock: Clock) -> None:
        watch = Stopwatch()
        with suppress(KeyError), watch.phase("a"):
            clock.pass_by(1)
            raise KeyError
        clock.pass_by(10)
        with watch.phase("b"):
            clock.pass_by(2)
        assert watch.seconds == {"a": 1, "b": 2}

    def test_a_phase_called_bookkeeping_is_the_strategys_own(self, clock: Clock) -> None:
        watch = Stopwatch()
        with watch.phase("bookkeeping"):
            clock.pass_by(1)
        assert watch.seconds == {"bookkeeping": 1}
        assert not watch.apart

    def test_phases_are_held_against_another_clock(self, clock: Clock) -> None:
        watch = Stopwatch()
        with watch.phase("a"):
            clock.pass_by(1)
        assert watch.fault(1, 1) is None
        assert watch.fault(0, 0.5) is not None  # more than went by
        assert watch.fault(1.1, 2) is not None  # some time in no phase
        # A busy machine looked elsewhere for a second, just outside of the phase.
        assert watch.fault(1, 2) is None

    def test_seconds_and_counts_are_only_read(self) -> None:
        watch, work = Stopwatch(), WorkCounters()
        for account in (watch.seconds, watch.apart, work.counts):
            with pytest.raises(TypeError):
                account["a"] = -1  # type: ignore[index]
        with pytest.raises(ValueError, match="none of them negative"):
            work.add("distances", -1)

    def test_counters_add_up(self) -> None:
        work = WorkCounters()
        work.add("distances", 3)
        work.add("distances", 4)
        assert work.counts == {"distances": 7}

    def test_a_cached_preparation_keeps_what_it_once_cost(self) -> None:
        ledger = Ledger()
        ledger.add("generator", 120.0, cached=True, load_s=0.1)
        with ledger.entry("pca", components=50):
            pass
        assert ledger.entries[0].model_dump()["seconds"] == 120.0
        assert ledger.entries[0].load_s == 0.1
        assert ledger.entries[1].details == {"components": 50}
        assert ledger.seconds == pytest.approx(120.0, abs=0.1)


class TestScores:
    def test_entropy_of_known_distributions(self) -> None:
        p = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1]])
        expected = [math.log(2), 0.0, -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))]
        assert acquisition.entropy(p.log()).tolist() == pytest.approx(expected, abs=1e-6)

    def test_entropy_against_numpy_on_many_classes(self) -> None:
        p = np.random.default_rng(0).dirichlet(np.full(10, 0.2), size=200)
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = -np.where(p > 0, p * np.log(p), 0).sum(axis=1)
        found = acquisition.entropy(torch.from_numpy(p).log())
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)

    def test_margin_and_least_confidence(self) -> None:
        log_p = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]]).log()
        assert acquisition.margin(log_p).tolist() == pytest.approx([-0.5, 0.0], abs=1e-6)
        assert acquisition.least_confidence(log_p).tolist() == pytest.approx([0.3, 0.6], abs=1e-6)

    @pytest.mark.parametrize("n_classes", [2, 10, 40])
    def test_the_margin_is_that_of_the_two_largest_probabilities(self, n_classes: int) -> None:
        """By item and by class in memory, with and without gradients: the same bits."""
        rng = torch.Generator().manual_seed(0)
        log_p = torch.randn(200, n_classes, generator=rng).log_softmax(dim=1)
        log_p[::5, 1] = log_p[::5, 0]  # equal ones
        log_p[1, 0] = -torch.inf
        top = log_p.exp().sort(dim=1, descending=True).values
        expected = top[:, 1] - top[:, 0]
        by_class = log_p.T.contiguous().T
        for values in (log_p, by_class, log_p.clone().requires_grad_()):
            assert torch.equal(acquisition.margin(values), expected)

    def test_for_two_classes_all_scores_order_alike(self) -> None:
        log_p = torch.log_softmax(
            torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), -1
        )
        orders = {tuple(score(log_p).argsort().tolist()) for score in acquisition.SCORES.values()}
        assert len(orders) == 1

    @pytest.mark.parametrize("seed", range(5))
    def test_top_k_is_a_stable_sort_even_with_ties(self, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        scores = torch.randint(0, 5, (40,), generator=rng).float()
        expected = sorted(range(40), key=lambda i: (-scores[i].item(), i))
        for k in (0, 1, 7, 39, 40):
            assert acquisition.top_k(scores, k).tolist() == expected[:k]

    def test_top_k_refuses_what_it_cannot_answer(self) -> None:
        with pytest.raises(ValueError, match="41 best of 40"):
            acquisition.top_k(torch.zeros(40), 41)
        with pytest.raises(ValueError, match="NaN"):
            acquisition.top_k(torch.tensor([0.0, math.nan]), 1)
        with pytest.raises(ValueError, match="fewer than 2"):
            acquisition.top_k(torch.tensor([0.0, -math.inf]), 2)


class TestPool:
    def test_items_come_in_the_order_asked_as_floats(self) -> None:
        raw = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
        pool = ArrayPool(raw, pixel_max=16)
        found = pool.gather(torch.tensor([2, 0, 2]))
        np.testing.assert_array_equal(found.numpy(), raw[[2, 0, 2]] / np.float32(16))

    def test_a_pass_in_blocks_sees_everything_once(self) -> None:
        raw = np.random.default_rng(0).integers(0, 255, size=(23, 1, 3, 3)).astype(np.uint8)
        pool = ArrayPool(raw)
        blocks = list(pool.blocks(block_size=5))
        assert torch.cat([index for index, _ in blocks]).tolist() == list(range(23))
        np.testing.assert_array_equal(
            torch.cat([x for _, x in blocks]), pool.gather(torch.arange(23))
        )
        wanted = torch.tensor([7, 3, 22, 0, 1, 9])
        some = list(pool.blocks(wanted, block_size=4))
        assert torch.cat([index for index, _ in some]).tolist() == wanted.tolist()
        np.testing.assert_array_equal(torch.cat([x for _, x in some]), pool.gather(wanted))

    @pytest.mark.parametrize("index", [-1, 3])
    def test_an_index_outside_is_an_error_not_a_position_from_the_end(self, index: int) -> None:
        pool = ArrayPool(np.zeros((3, 1, 2, 2), dtype=np.uint8))
        with pytest.raises(IndexError):
            pool.gather(torch.tensor([index]))

    def test_wrong_types_are_refused(self) -> None:
        with pytest.raises(UserError, match="uint8 images or float32 rows"):
            ArrayPool(np.zeros((3, 2), dtype=np.int64))


class TestLabelledSet:
    def test_it_grows_without_changing(self) -> None:
        start = LabelledSet()
        one = start.extended(
            Annotation(torch.tensor([4, 2]), torch.tensor([1, 0]), n_asked=2, cost=2.0)
        )
        two = one.extended(
            Annotation(
                torch.empty(0, dtype=torch.int64),
                torch.empty(0, dtype=torch.int64),
                items=torch.full((3, 1, 2, 2), 0.5),
                item_targets=torch.tensor([1, 1, 0]),
                n_asked=4,
                n_rejected=1,
                cost=4.0,
                extras={"boundary": torch.zeros(1, 2)},
            )
        )
        assert (len(start), len(one), len(two)) == (0, 2, 5)
        assert (two.n_asked, two.n_synthetic, two.cost) == (6, 3, 6.0)
        pool = ArrayPool(np.arange(20, dtype=np.uint8).reshape(5, 1, 2, 2))
        items, targets = two.training_data(pool)
        assert targets.tolist() == [1, 0, 1, 1, 0]
        np.testing.assert_array_equal(items[:2], pool.gather(torch.tensor([4, 2])))
        assert float(items[2:].mean()) == 0.5
        assert two.extras["boundary"].shape == (1, 2)

    def test_more_labels_than_memory_are_refused_before_they_are_gathered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``full`` labels the whole pool: LSUN's would be 491 GB as float32."""
        index = torch.arange(5)
        everything = LabelledSet().extended(Annotation(index, index % 2))
        pool = ArrayPool(np.arange(20, dtype=np.uint8).reshape(5, 1, 2, 2))
        monkeypatch.setattr("alharness.labelled.CERTAINLY_FITS", 0)
        monkeypatch.setattr("alharness.labelled.free_bytes", lambda device: 5 * 4 * 4)
        assert len(everything.training_data(pool)[0]) == 5
        monkeypatch.setattr(pool, "gather", lambda indices: pytest.fail("gathered all the same"))
        with pytest.raises(UserError, match=r"5 items of shape .* Lower the budget"):
            everything.training_data(pool, more_bytes=8)

    def test_the_digest_says_what_is_labelled_not_in_which_order(self) -> None:
        def labelled(*indices: int) -> LabelledSet:
            index = torch.tensor(indices)
            return LabelledSet().extended(Annotation(index, torch.zeros_like(index)))

        assert labelled(3, 1, 2).digest() == labelled(1, 2, 3).digest()
        assert labelled(1, 2).digest() != labelled(1, 3).digest()


def test_a_wrong_name_is_met_with_the_nearest_one() -> None:
    error = unknown_name("strategy", "asal-atuo", ["asal-auto", "random"])
    assert str(error) == (
        "Unknown strategy 'asal-atuo'. Did you mean 'asal-auto'? Available: asal-auto, random."
    )
