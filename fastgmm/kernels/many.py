"""Many small fits in one call, and what many small mixtures say of rows: group after group of a slot (group.py)."""

import math
from typing import NamedTuple

import numpy as np

from ._compile import jit
from .begin import IN_UNITS, RANDOM_ROWS, STANDARDISED, Choice
from .calls import ALIGNMENT, beyond, call, pointer_to
from .group import (
    BEFORE,
    N_LIMITS,
    TOL,
    TOTAL,
    cut_of,
    factor_shape,
    padded_features,
    place,
    place_mixture,
    place_sums,
    room_bytes,
)
from .iterate import LEFT, QUIET, Course
from .m_step import LEAN, TIED, Columns, Mixture, prepare
from .parallel import Team
from .passes import ScoreOutput, SlotStatistics, padded_components

# Status of a group; LEFT_OVER: Python's to fit.
GOOD, NOT_CONVERGED, TOO_FEW, NOT_FINITE, SINGULAR_GROUP, LEFT_OVER = 0, 1, 2, 3, 4, 5
VARIANCE_ROUNDINGS, PIVOT_ROUNDINGS, EPS = 16, 4, 2.0**-52  # model/maximisation.py


class Groups(NamedTuple):
    """Many groups of rows: where each begins, (n_groups + 1,), its components and the seed of its random numbers.

    bounds: (n_slots + 1,), the first group of each slot.
    """

    offsets: np.ndarray
    n_components: np.ndarray
    seeds: np.ndarray
    bounds: np.ndarray


class Settings(NamedTuple):
    """What is the same for all groups. numbers: float64, in the places below; whole: int64, likewise.

    whole: kind, n_init, most iterations; numbers: tol, ridge, share of the columns' variances in the ridge, the
    rounding of the rows' dtype and of its likelihoods (`Choice.numbers`), least gain of a short run and its most steps.
    """

    whole: np.ndarray
    numbers: np.ndarray


class Results(NamedTuple):
    """Of each group: log-likelihood and bound, (n_groups, 2); iterations and status, (n_groups, 2) int64."""

    numbers: np.ndarray
    counts: np.ndarray


@jit()
def look_at_columns(kind, X, sample_weight, settings, columns, scales):
    """Fill Columns and scales for the rows; return GOOD, TOO_FEW where none has weight, or NOT_FINITE."""
    n_samples, n_features = X.shape
    mean, ridge, least = columns.shift, columns.ridge, columns.least
    total, pooled = 0.0, 0.0
    for i in range(n_samples):
        total += sample_weight[i] if sample_weight.shape[0] > 0 else 1.0
    if not total > 0:
        return TOO_FEW
    for d in range(n_features):
        s, origin = 0.0, np.float64(X[0, d])
        for i in range(n_samples):
            s += (sample_weight[i] if sample_weight.shape[0] > 0 else 1.0) * (X[i, d] - origin)
        mean[d] = origin + s / total
        s, constant = 0.0, True
        for i in range(n_samples):
            value = np.float64(X[i, d])
            constant = constant and value == origin
            s += (sample_weight[i] if sample_weight.shape[0] > 0 else 1.0) * (value - mean[d]) ** 2
        variance = s / total
        if not np.isfinite(variance):
            return NOT_FINITE
        pooled += variance / n_features
        unit = variance if variance > 0 else 1.0
        ridge[d] = settings.numbers[1] + settings.numbers[2] * unit
        least[d] = (VARIANCE_ROUNDINGS * EPS) ** 2 * variance
        scales[1, d] = math.sqrt(variance) if variance > 0 and not constant else 1.0
    for d in range(n_features):
        scales[0, d] = max(math.sqrt(pooled), 1e-300)
    if kind == TIED:
        for d in range(n_features):
            for e in range(d, n_features):
                s = 0.0
                for i in range(n_samples):
                    weight = sample_weight[i] if sample_weight.shape[0] > 0 else 1.0
                    s += weight * (X[i, d] - mean[d]) * (X[i, e] - mean[e])
                columns.scatter[d, e] = columns.scatter[e, d] = s
    return GOOD


@jit(by_address=True)
def fit_groups_slot(arguments, slot, workspace):
    """`fit_group` of the groups of a slot.

    arguments[0]: its address, rows (n_samples, n_features), sample_weight, Groups, Settings, a Mixture whose arrays
    have a first axis more, for the groups, and whose entries beyond a group's components are left alone, Results,
    BlockFunctions and FitAddresses.
    """
    address, X, sample_weight, groups, settings, mixtures, results, functions, at = arguments[0]
    kind, n_init, most = settings.whole[0], settings.whole[1], settings.whole[2]
    numbers, n_features, like = settings.numbers, X.shape[1], mixtures.means
    for g in range(groups.bounds[slot], groups.bounds[slot + 1]):
        first, last = groups.offsets[g], groups.offsets[g + 1]
        n_components, rows = groups.n_components[g], X[first:last]
        weight = sample_weight[first:last] if sample_weight.shape[0] > 0 else sample_weight
        results.counts[g, 1] = TOO_FEW
        if last - first < max(2, n_components):
            continue
        end = 0
        shift, end = place(workspace, end, (n_features,), like)
        ridge, end = place(workspace, end, (n_features,), like)
        least, end = place(workspace, end, (n_features,), like)
        width = n_features if kind == TIED else 0
        scatter, end = place(workspace, end, (width, width), like)
        scales, end = place(workspace, end, (2, n_features), like)
        limits, end = place(workspace, end, (N_LIMITS,), like)
        bounds, end = place(workspace, end, (max(most, np.int64(numbers[6])),), like)
        outcome, end = place(workspace, end, (3,), groups.offsets)
        chosen, end = place(workspace, end, (3,), groups.offsets)
        choosing, end = place(workspace, end, (4,), like)
        state, end = place(workspace, end, (1,), groups.seeds)
        mixture, end = place_mixture(workspace, end, kind, n_components, n_features, like)
        columns = Columns(shift, ridge, least, scatter)
        results.counts[g, 1] = look_at_columns(kind, rows, weight, settings, columns, scales)
        if results.counts[g, 1] != GOOD:
            continue
        choosing[0], choosing[1], choosing[2] = numbers[5], numbers[6], numbers[4]
        choosing[3] = min(max(n_components, 8), 32) if n_components > 1 else 0
        chosen[0], chosen[1], chosen[2] = IN_UNITS, RANDOM_ROWS, STANDARDISED
        choice, course = Choice(chosen, scales, choosing), Course(limits, bounds, outcome)
        limits[:] = 0.0
        limits[LEAN + 1], limits[LEAN + 2] = numbers[3], PIVOT_ROUNDINGS * n_features * EPS
        limits[TOL] = numbers[0]
        state[0] = groups.seeds[g]
        results.counts[g, 1] = LEFT_OVER
        highest = -np.inf
        for _ in range(n_init):
            limits[BEFORE] = -np.inf
            n_bytes = beyond(workspace, end)
            # What starts and passes work with, one after the other: a group's own threads would wait for each other.
            team = Team(0, n_bytes, 0)
            call(
                address,
                (
                    *(kind, most, 1, rows, weight, columns, mixture, choice, course, functions, state, at, team),
                    *(beyond(workspace, end + settings.whole[3]),),
                ),
            )
            if outcome[1] >= LEFT:
                results.counts[g, 1] = LEFT_OVER if outcome[1] == LEFT else SINGULAR_GROUP
                break
            if highest == -np.inf or limits[1] - highest > numbers[4] * max(1.0, abs(highest)):
                highest = limits[1]
                results.numbers[g, 0], results.numbers[g, 1] = limits[TOTAL], highest
                results.counts[g, 0], results.counts[g, 1] = outcome[0], 0 if outcome[1] == QUIET else NOT_CONVERGED
                store_mixture(mixture, mixtures, g)


@jit()
def store_mixture(mixture, mixtures, g):
    """Copy a mixture to the place of a group."""
    for k in range(mixture.weights.shape[0]):
        mixtures.weights[g, k] = mixture.weights[k]
        for d in range(mixture.means.shape[1]):
            mixtures.means[g, k, d] = mixture.means[k, d]
    for k in range(mixture.factors.shape[0]):
        for d in range(mixture.factors.shape[1]):
            for e in range(mixture.factors.shape[2]):
                mixtures.covariances[g, k, d, e] = mixture.covariances[k, d, e]
                mixtures.factors[g, k, d, e] = mixture.factors[k, d, e]


def many_bytes(kind, n_samples, n_features, n_components, itemsize, most):
    """Bytes that `fit_groups_slot` works with for the largest group, and of these those of a pass."""
    room, of_slot = room_bytes(kind, n_samples, n_features, n_components, itemsize)
    factors = int(np.prod(factor_shape(kind, n_components, n_features)))
    own = n_features * (5 + n_features) + N_LIMITS + most + 20 + n_components * (1 + n_features) + 2 * factors
    return 8 * own + 16 * ALIGNMENT + of_slot + room, of_slot


@jit(by_address=True)
def score_groups_slot(arguments, slot, workspace):
    """Log-densities and labels of the rows of a slot's groups.

    arguments[0]: address of `run_slot`, kind, rows, Groups, Mixture with a first axis for the mixtures, the place of
    each group's mixture among them (a negative one leaves the group's outputs alone), BlockFunctions, outputs
    (n_samples,), either of length 0 where it is not wanted, and n_far (n_groups,), overwritten by the number of rows
    out of the mixture's range.
    """
    run_at, kind, X, groups, mixtures, places, functions, log_prob, labels, n_far = arguments[0]
    n_features, like = X.shape[1], mixtures.means
    for g in range(groups.bounds[slot], groups.bounds[slot + 1]):
        n_far[g], place_of = 0, places[g]
        first, last, n_components = groups.offsets[g], groups.offsets[g + 1], groups.n_components[g]
        if place_of < 0 or last == first:
            continue
        shift, end = place(workspace, 0, (n_features,), like)
        nothing, end = place(workspace, end, (0, 0), like)
        columns = Columns(shift, shift, shift, nothing)
        rounded, end = place(workspace, end, (n_components, n_features), like)
        n_factors = factor_shape(kind, n_components, n_features)[0]
        mixture = Mixture(
            mixtures.weights[place_of][:n_components],
            mixtures.means[place_of][:n_components],
            mixtures.covariances[place_of][:n_factors],
            mixtures.factors[place_of][:n_factors],
        )
        for d in range(n_features):
            shift[d] = 0.0
            for k in range(n_components):
                shift[d] += mixture.weights[k] * mixture.means[k, d]
        sums, end = place_sums(workspace, end, kind, X, columns, n_components, 1, groups.offsets)
        no_sums = SlotStatistics(
            sums.statistics.totals, sums.no_resp, sums.statistics.sum_first[:0], sums.statistics.sum_outer[:0]
        )
        sums.statistics.totals[:] = 0.0
        prepare(kind, mixture, shift, sums.parameters, rounded)
        block, _ = cut_of(kind, last - first, padded_features(n_features), padded_components(n_components), X.itemsize)
        output = ScoreOutput(
            log_prob[first:last] if log_prob.shape[0] > 0 else log_prob,
            labels[first:last] if labels.shape[0] > 0 else labels,
            sums.no_output.resp,
            sums.no_output.log_prob,
        )
        weight = shift[:0]
        arguments_of_pass = (X[first:last], weight, sums.no_resp, block, sums.parameters, functions, no_sums, output)
        call(run_at, (pointer_to(arguments_of_pass), 0, beyond(workspace, end)))
        n_far[g] = np.int64(sums.statistics.totals[0, 1])
