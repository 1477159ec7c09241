"""One small fit inside a workspace: start (begin.py), iterations (iterate.py) and the likelihood at their end."""

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from . import backend
from ._compile import jit
from .begin import StartAddresses, begin, begin_bytes
from .calls import ALIGNMENT, address_for, address_like, array_at, beyond, call, padded_to_line, pointer_to
from .iterate import LEFT, RIVAL, PassAddresses, Rows, Sums, clear, copy_mixture, iterate, merge_slots
from .kmeans import cluster_address
from .m_step import DIAG, LEAN, SPHERICAL, TIED, Between, Mixture, maximise, prepare
from .nearest import comparing, workspace_bytes
from .parallel import Team, block_size, run_team, slot_count
from .passes import KernelParameters, ScoreOutput, SlotStatistics, padded_components, run_slot, slot_bytes

padded_features = backend.module("blocks").padded_features
# Places in `limits`, beside those of iterate.py and m_step.py: tol, the bound to begin with, and the log-likelihood.
TOL, BEFORE, TOTAL = 7, 8, 9
N_LIMITS = 10


class FitAddresses(NamedTuple):
    """Where the functions are that `fit_group` calls: `begin`, `iterate`, and what these call."""

    begin: int
    iterate: int
    of_start: StartAddresses
    of_pass: PassAddresses


@register_jitable
def factor_shape(kind, n_components, n_features):
    """Shape of covariances and factors in three axes."""
    if kind == SPHERICAL:
        return n_components, 1, 1
    if kind == DIAG:
        return n_components, 1, n_features
    return (1 if kind == TIED else n_components), n_features, n_features


@register_jitable
def cut_of(kind, n_samples, n_padded, n_components, itemsize):
    """Rows of a block and slots of a pass, as `bridge.Layout.cut` has them; the components are padded too."""
    outer = 1
    if kind != TIED:
        shape = factor_shape(kind, n_components, n_padded)
        outer = shape[0] * shape[1] * shape[2]
    block = block_size(n_samples, n_padded, n_components, itemsize)
    return block, slot_count(n_samples, block, 8 * (2 + n_components * (1 + n_padded) + outer))


def room_bytes(kind, n_samples, n_features, n_components, itemsize):
    """Bytes that `fit_group` works with, and each slot of its passes, for at most so many rows and components.

    Bounds: blocks of 512 rows at most, and slots as if they had a stripe.
    """
    n_padded, k_padded = padded_features(n_features), padded_components(n_components)
    n_slots = max(1, min(32, (n_samples * itemsize // 256 + 1) // 4))
    factors = int(np.prod(factor_shape(kind, k_padded, n_padded)))
    of_kernels = max(8, n_features) + k_padded * (1 + 2 * n_padded) + factors
    of_sums = n_slots * (2 + k_padded * (1 + n_padded) + factors)
    between = 3 * n_components * n_features + n_features * (n_features + 1)
    mixtures = 2 * (n_components * (1 + n_features) + 2 * factors)
    whole = 8 * (of_kernels + of_sums + between + mixtures) + 32 * ALIGNMENT  # arrays begin on lines
    of_slot = max(slot_bytes(512, k_padded, n_padded, itemsize, 1), workspace_bytes(512))
    return whole + begin_bytes(n_samples, n_features, n_components), padded_to_line(of_slot)


@jit()
def place(workspace, end, shape, like):
    """An array of this shape in the workspace from `end` on, and where the next one may begin."""
    array = array_at(workspace, end, shape, like)
    return array, end + padded_to_line(array.size * array.itemsize)


@jit()
def place_mixture(workspace, end, kind, n_components, n_features, like):
    """A mixture in the workspace, and where the next array may begin."""
    weights, end = place(workspace, end, (n_components,), like)
    means, end = place(workspace, end, (n_components, n_features), like)
    covariances, end = place(workspace, end, factor_shape(kind, n_components, n_features), like)
    factors, end = place(workspace, end, factor_shape(kind, n_components, n_features), like)
    return Mixture(weights, means, covariances, factors), end


@jit()
def place_sums(workspace, end, kind, X, columns, n_components, n_slots, whole_numbers):
    """Parameters as the block functions read them and sums, padding in place, and where the next array may begin."""
    like, n_features = columns.shift, columns.shift.shape[0]
    n_padded, k_padded = padded_features(n_features), padded_components(n_components)
    shift, end = place(workspace, end, (max(8, n_features),), like)
    log_const, end = place(workspace, end, (k_padded,), X)
    means, end = place(workspace, end, (k_padded, n_padded), X)
    factors, end = place(workspace, end, factor_shape(kind, k_padded, n_padded), X)
    offsets, end = place(workspace, end, (k_padded, n_padded), X)
    shift[:] = 0.0
    for d in range(n_features):
        shift[d] = columns.shift[d]
    log_const[:] = -np.inf
    means[:] = 0
    factors[:] = 0
    offsets[:] = 0
    totals, end = place(workspace, end, (n_slots, 2), like)
    sum_resp, end = place(workspace, end, (n_slots, k_padded), like)
    sum_first, end = place(workspace, end, (n_slots, k_padded, n_padded), like)
    rows, first, second = factor_shape(kind, k_padded, n_padded)
    if kind == TIED:
        rows, first, second = 1, 1, 1
    sum_outer, end = place(workspace, end, (n_slots, rows, first, second), like)
    nothing, no_matrix = array_at(workspace, 0, (0,), X), array_at(workspace, 0, (0, 0), X)
    output = ScoreOutput(nothing, array_at(workspace, 0, (0,), whole_numbers), no_matrix, no_matrix)
    parameters = KernelParameters(shift, log_const, means, factors, offsets)
    statistics = SlotStatistics(totals, sum_resp, sum_first, sum_outer)
    return Sums(parameters, statistics, array_at(workspace, 0, (0, 0), like), output), end


@jit(by_address=True)
def fit_group(
    kind, most, evaluates, X, sample_weight, columns, mixture, choice, course, functions, state, at, team, workspace
):
    """Start, unless `choice` has no starts, then EM in at most `most` iterations; `mixture` moves.

    course.limits[TOTAL] becomes the log-likelihood in nats where `evaluates` is not 0, NaN with a row out of range.
    course.outcome as in `iterate`,
    and LEFT or SINGULAR with no steps done where no start could be followed.
    """
    n_samples, n_features = X.shape
    n_components, like, limits = mixture.means.shape[0], columns.shift, course.limits
    n_padded, k_padded = padded_features(n_features), padded_components(n_components)
    block, n_slots = cut_of(kind, n_samples, n_padded, k_padded, X.itemsize)
    sums, end = place_sums(workspace, 0, kind, X, columns, n_components, n_slots, course.outcome)
    rounded, end = place(workspace, end, (n_components, n_features), like)
    offset, end = place(workspace, end, (n_components, n_features), like)
    diff, end = place(workspace, end, (n_components, n_features), like)
    scale, end = place(workspace, end, (n_features,), like)
    upper, end = place(workspace, end, (n_features, n_features), like)
    work = Between(rounded, offset, diff, scale, upper)
    following, end = place_mixture(workspace, end, kind, n_components, n_features, like)
    rows = Rows(X, sample_weight, block, functions)
    if choice.starts.shape[0] > 0:
        best, end = place_mixture(workspace, end, kind, n_components, n_features, like)
        call(
            at.begin,
            (
                *(kind, rows, sums, columns, work, mixture, following, best, choice, course, state, at.of_start),
                *(team, beyond(workspace, end)),
            ),
        )
        if course.outcome[1] >= LEFT:
            return
        copy_mixture(best, mixture)
    limits[0], limits[1], limits[2], limits[LEAN], limits[RIVAL] = limits[TOL], limits[BEFORE], 0.0, 0.0, -np.inf
    if most > 0:
        call(at.iterate, (kind, most, rows, sums, columns, work, mixture, following, course, at.of_pass, team))
    if evaluates != 0 and course.outcome[1] < LEFT:
        prepare(kind, mixture, columns.shift, sums.parameters, work.rounded)
        clear(sums.statistics)
        statistics = sums.statistics  # without sums, the pass scores alone
        scores = SlotStatistics(
            statistics.totals, statistics.sum_resp[:0], statistics.sum_first[:0], statistics.sum_outer[:0]
        )
        arguments = (X, sample_weight, sums.no_resp, block, sums.parameters, functions, scores, sums.no_output)
        run_team(team, at.of_pass.run_slot, pointer_to(arguments), n_slots)
        merge_slots(sums.statistics)
        limits[TOTAL] = np.nan if sums.statistics.totals[0, 1] > 0 else sums.statistics.totals[0, 0]


@jit(by_address=True)
def fit_group_slot(arguments, slot, workspace):
    """`fit_group`, called from Python; arguments[0]: its address, its arguments but for the workspace."""
    address, kind, most, evaluates, X, sample_weight, columns, mixture, choice, course, functions, state, at, team = (
        arguments[0]
    )
    call(
        address,
        (
            *(kind, most, evaluates, X, sample_weight, columns, mixture, choice, course, functions, state, at, team),
            *(workspace,),
        ),
    )


def fit_addresses(kind, X, sample_weight, columns, mixture, choice, course, functions, state):
    """Where `fit_group` is, and those that it calls, for arrays like these."""
    key = fit_group, X.dtype
    if key not in _found:
        _found[key] = _fit_addresses(kind, X, sample_weight, columns, mixture, choice, course, functions, state)
    return _found[key]


_found: dict[object, tuple[object, FitAddresses]] = {}


def _example_of_pass(X, sample_weight, functions):
    """Arguments of `run_slot` for rows and weights like these; all types are those of the bridge's.

    One function serves both: another one, compiled for arrays that it might write to, may round differently.
    """
    dtype, matrix = X.dtype, np.empty((0, 0))
    no_resp = np.empty((0, 0))
    no_resp.flags.writeable = False
    none, no_matrix = np.empty(0, dtype), np.empty((0, 0), dtype)
    parameters = KernelParameters(np.empty(8), none, no_matrix, np.empty((0, 0, 0), dtype), no_matrix)
    statistics = SlotStatistics(matrix, matrix, np.empty((0, 0, 0)), np.empty((0, 0, 0, 0)))
    output = ScoreOutput(none, np.empty(0, np.int64), no_matrix, no_matrix)
    return X, sample_weight, no_resp, 1, parameters, functions, statistics, output


def pass_address(X, functions):
    """Where `run_slot` is for rows like these."""
    weight = np.empty(0)
    weight.flags.writeable = False
    return address_for(run_slot, _example_of_pass(X, weight, functions), X.dtype)


def _fit_addresses(kind, X, sample_weight, columns, mixture, choice, course, functions, state):
    dtype, team = X.dtype, Team(0, 0, 0)
    in_pass = _example_of_pass(X, sample_weight, functions)
    _, _, _, _, parameters, _, statistics, output = in_pass
    matrix = np.empty((0, 0))
    sums, work = Sums(parameters, statistics, matrix, output), Between(matrix, matrix, matrix, np.empty(0), matrix)
    rows = Rows(X, sample_weight, 1, functions)
    in_maximise = (kind, statistics, mixture, columns, course.limits, work, mixture, course.outcome)
    of_pass = PassAddresses(
        address_for(run_slot, in_pass, dtype),
        address_like(maximise, None, in_maximise),
    )
    in_iterate = (kind, 1, rows, sums, columns, work, mixture, mixture, course, of_pass, team)
    at_iterate = address_like(iterate, dtype, in_iterate)
    of_start = StartAddresses(cluster_address(), at_iterate, of_pass, comparing())
    in_begin = (kind, rows, sums, columns, work, mixture, mixture, mixture, choice, course, state, of_start, team, 0)
    at = FitAddresses(address_like(begin, dtype, in_begin), at_iterate, of_start, of_pass)
    in_fit = (kind, 1, 0, X, sample_weight, columns, mixture, choice, course, functions, state, at, team, 0)
    return address_like(fit_group, dtype, in_fit), at
