"""EM of a small problem in one call: passes by the block functions of passes.py, M-steps of m_step.py, nothing between.

An EM step of a few hundred rows takes microseconds; from Python, its calls took 150 (`python -m benchmarks.small`).
"""

from typing import NamedTuple

import numpy as np

from ._compile import jit
from .calls import call, pointer_to
from .m_step import DONE, DONE_WELL, IS_SINGULAR, prepare
from .parallel import run_team
from .passes import BlockFunctions, KernelParameters, ScoreOutput, SlotStatistics

# Why iterations end: a small change, or a step that only Python can do, in the second case to say what is singular.
QUIET, LEFT, SINGULAR = 1, 2, 3


RIVAL = 6  # place in `limits`, after those of m_step.py


class Rows(NamedTuple):
    """Rows, in the dtype of the fit, read only, and their weights or none; how a pass cuts them, and what does it."""

    X: np.ndarray
    sample_weight: np.ndarray
    block: int
    functions: BlockFunctions


class Sums(NamedTuple):
    """What a pass needs beside the rows: parameters as the block functions read them, sums, and no outputs."""

    parameters: KernelParameters
    statistics: SlotStatistics
    no_resp: np.ndarray
    no_output: ScoreOutput


class Course(NamedTuple):
    """How iterations go. limits: (6,) float64, described in `iterate`; bounds: (most,); outcome: (3,) int64."""

    limits: np.ndarray
    bounds: np.ndarray
    outcome: np.ndarray


class PassAddresses(NamedTuple):
    """Where `passes.run_slot` and `m_step.maximise` are."""

    run_slot: int
    maximise: int


@jit()
def clear(statistics):
    """All sums become 0."""
    statistics.totals[:] = 0.0
    statistics.sum_resp[:] = 0.0
    statistics.sum_first[:] = 0.0
    statistics.sum_outer[:] = 0.0


@jit()
def merge_slots(statistics):
    """Add the other slots to the first, in their order."""
    for slot in range(1, statistics.totals.shape[0]):
        statistics.totals[0, 0] += statistics.totals[slot, 0]
        statistics.totals[0, 1] += statistics.totals[slot, 1]
        for k in range(statistics.sum_resp.shape[1]):
            statistics.sum_resp[0, k] += statistics.sum_resp[slot, k]
            for d in range(statistics.sum_first.shape[2]):
                statistics.sum_first[0, k, d] += statistics.sum_first[slot, k, d]
            for d in range(statistics.sum_outer.shape[2]):
                for e in range(statistics.sum_outer.shape[3]):
                    statistics.sum_outer[0, k, d, e] += statistics.sum_outer[slot, k, d, e]


@jit()
def copy_mixture(source, out):
    """Overwrite a mixture by another."""
    for k in range(source.weights.shape[0]):
        out.weights[k] = source.weights[k]
        for d in range(source.means.shape[1]):
            out.means[k, d] = source.means[k, d]
    for k in range(source.factors.shape[0]):
        for d in range(source.factors.shape[1]):
            for e in range(source.factors.shape[2]):
                out.covariances[k, d, e] = source.covariances[k, d, e]
                out.factors[k, d, e] = source.factors[k, d, e]


@jit()
def floored_weights(sum_resp, least, weights):
    """Weights as if no component had fewer rows than `least`."""
    total = 0.0
    for k in range(weights.shape[0]):
        weights[k] = max(sum_resp[k], least)
        total += weights[k]
    for k in range(weights.shape[0]):
        weights[k] /= total


@jit(by_address=True)
def iterate(kind, most, rows, sums, columns, work, mixture, following, course, at, team):
    """EM from `mixture`, which moves, until a bound changes by less than `tol`, or after `most` steps.

    limits: tol, the bound before, which moves on, the least rows of a component, those of `maximise`, and in place
    RIVAL a bound: where gains as large as the last one would not lead to it, iterations end. bounds: those before each
    M-step, means per row in nats. outcome: steps done and why no more were: 0, QUIET, or LEFT or
    SINGULAR for a step that this cannot do and has not begun. at: a PassAddresses.
    """
    statistics, limits, outcome = sums.statistics, course.limits, course.outcome
    outcome[0] = outcome[1] = 0
    arguments = (
        *(rows.X, rows.sample_weight, sums.no_resp, rows.block, sums.parameters, rows.functions),
        *(statistics, sums.no_output),
    )
    for step in range(most):
        prepare(kind, mixture, columns.shift, sums.parameters, work.rounded)
        clear(statistics)
        run_team(team, at.run_slot, pointer_to(arguments), statistics.totals.shape[0])
        merge_slots(statistics)
        total = 0.0
        for k in range(mixture.weights.shape[0]):
            total += statistics.sum_resp[0, k]
        bound = statistics.totals[0, 0] / total
        call(at.maximise, (kind, statistics, mixture, columns, limits, work, following, outcome))
        if statistics.totals[0, 1] > 0 or outcome[DONE] != DONE_WELL:
            outcome[1] = SINGULAR if statistics.totals[0, 1] == 0 and outcome[DONE] == IS_SINGULAR else LEFT
            return
        if limits[2] > 0:
            floored_weights(statistics.sum_resp[0], limits[2], following.weights)
        copy_mixture(following, mixture)
        course.bounds[step] = bound
        outcome[0] = step + 1
        change, limits[1] = abs(bound - limits[1]), bound
        if change < limits[0] or bound + (most - step) * change < limits[RIVAL]:
            outcome[1] = QUIET
            return
