"""What the experiment `transfer` says of losses at several rates, widths and seeds."""

import dataclasses

import numpy as np
import pytest

from benchmarks.experiments import transfer
from benchmarks.view import interval

GUESS = 2.0
RATES = (0.25, 0.5, 1.0, 2.0)


def record(curves, width=8, seeds=None, scaled=True):
    """A record with a row of losses for each seed."""
    seeds = range(len(curves)) if seeds is None else seeds
    unit = transfer.Width("mlp", "sgd", scaled, width, 8, RATES, tuple(seeds), 5, 4)
    runs = [
        {"learning_rate": rate, "seed": seed, "test_loss": curve[n], "train_loss": curve[n]}
        for n, rate in enumerate(RATES)
        for seed, curve in zip(seeds, curves, strict=True)
    ]
    return {"unit": dataclasses.asdict(unit), "label_entropy": GUESS, "runs": runs}


# x₀ - (y₊ - y₋) / 2 (y₊ + y₋ - 2 y₀), with the guess in the place of what diverges.
BESIDE_THE_GUESS = -1.0 - (GUESS - 1.9) / (2 * (GUESS + 1.9 - 2 * 1.0))


@pytest.mark.parametrize(
    ("curve", "best"),
    [
        ((1.5, 1.0, 1.5, 1.9), -1),
        ((1.0, 1.5, 1.6, 1.9), -2),
        ((1.9, 1.0, None, None), BESIDE_THE_GUESS),
        ((1.9, 1.0, 1e9, None), BESIDE_THE_GUESS),
        ((2.5, 2.5, 1e9, None), np.nan),
    ],
)
def test_the_best_rate(curve, best):
    np.testing.assert_allclose(transfer.best(record([curve])), [best])


def test_a_rate_that_does_not_train_is_infinitely_worse():
    narrow = record([(1.9, 1.5, 1.2, 1.6)])
    assert transfer.regret(narrow, record([(1.0, 1.1, 1.3, 1.6)])) == pytest.approx(0.3)
    assert transfer.regret(narrow, record([(1.0, 1.1, 9.0, None)])) == np.inf
    assert np.isnan(transfer.regret(narrow, record([(2.0, 3.0, None, None)])))


def test_seeds_that_were_added_are_one_record():
    one, other = (1.9, 1.5, 1.2, 1.6), (1.8, 1.4, 1.0, 1.9)
    parts = [record([one]), record([one], 16), record([other], 16, [1]), record([other], seeds=[1])]
    ((_, found),) = transfer.groups(parts).items()
    assert [each["unit"]["width"] for each in found] == [8, 16]
    for each in found:
        np.testing.assert_array_equal(transfer.losses(each), np.transpose([one, other]))


def test_the_parts_of_the_seeds_are_the_seeds():
    assert transfer._parts((4, 2)) == [(0, 1, 2, 3), (4, 5)]


def test_neither_form_wins_where_the_intervals_meet():
    flat, left = (1.9, 1.2, 1.0, 1.2), (1.2, 1.0, 1.2, 1.9)
    narrow = [flat] * 6
    for wide, winner in (([left] * 6, "mup"), ([left] * 3 + [flat] * 3, "all")):
        records = [
            *(record(curves, width, scaled=False) for curves, width in ((narrow, 8), (wide, 16))),
            *(record(narrow, width) for width in (8, 16)),
        ]
        (found,) = transfer.outcomes(records)
        assert found.winner == winner
    low, high = interval(np.abs([1.0] * 3 + [0.0] * 3))
    assert low == 0 < high
