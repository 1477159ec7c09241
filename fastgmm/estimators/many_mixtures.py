"""Stacked mixtures of many groups of rows: what `fit_many` returns."""

import json
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import validation as check
from ..model.covariance import STRUCTURES
from ..model.parameters import MixtureParameters
from ..model.sampling import sample_rows
from ..optimization.many import Stack, score_groups
from ..rows.atomic import StrPath, replace_atomically
from ..storage import text
from ..storage.container import ModelReader, fail, held_model, write_model
from ..storage.many import MODEL, ManyFile, pack_many, read_many
from ..threads import thread_limit
from .gaussian_mixture import GaussianMixture
from .grouping import GroupedRows, Index, grouped
from .saving import check_settings

KEPT_SETTINGS = ("tol", "reg_covar", "max_iter", "n_init")

# What `status_` says of a group.
STATUS = {
    0: "converged",
    1: "stopped at max_iter before it converged",
    2: "has fewer rows than components, or fewer than two",
    3: "holds NaN, infinity, or values whose squares leave the floating-point range",
    4: "has a component whose covariance became singular: increase reg_covar or use fewer components",
    5: "has rows so far from every component that their distances leave the floating-point range",
}


@dataclass(frozen=True)
class ManyMixtures:
    """Gaussian mixtures of many groups of rows, stacked; what `fit_many` returns.

    Attributes
    ----------
    groups_ : ndarray of shape (n_groups,)
        What each group is called, increasing; 0, 1, ... where groups were given by offsets.
    n_samples_, n_components_, n_iter_ : ndarrays of shape (n_groups,), int64
    status_ : ndarray of shape (n_groups,), int8
        0 where all is well, 1 if the fit stopped at `max_iter`; otherwise the group has no mixture, and NaN in the
        arrays below. `STATUS` has the words.
    weights_ : ndarray of shape (n_groups, K), of the dtype of the rows
        K is the largest number of components; those a group does not have weigh 0 and hold NaN.
    means_ : ndarray of shape (n_groups, K, n_features)
    covariances_, precisions_cholesky_ : ndarrays
        full (n_groups, K, n_features, n_features), tied (n_groups, n_features, n_features), diag (n_groups, K,
        n_features), spherical (n_groups, K).
    log_likelihood_, lower_bound_ : ndarrays of shape (n_groups,), float64
        Total log-likelihood in nats, and the mean per row at the last E-step.
    covariance_type : str
    feature_names_in_ : ndarray of shape (n_features,) or None
    """

    groups_: NDArray[Any]
    n_samples_: Index
    n_components_: Index
    n_iter_: Index
    status_: NDArray[np.int8]
    weights_: NDArray[Any]
    means_: NDArray[Any]
    covariances_: NDArray[Any]
    precisions_cholesky_: NDArray[Any]
    log_likelihood_: NDArray[np.float64]
    lower_bound_: NDArray[np.float64]
    covariance_type: str
    feature_names_in_: NDArray[Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.groups_)

    def __repr__(self) -> str:
        n_bad = int((self.status_ > 1).sum())
        bad = f", {n_bad} without a mixture (status_)" if n_bad else ""
        return f"ManyMixtures({len(self)} groups, {self.covariance_type}{bad})"

    @property
    def n_features_in_(self) -> int:
        """Number of columns."""
        return int(self.means_.shape[2])

    def save(self, path: StrPath) -> None:
        """Write all mixtures to one model file, atomically; `fastgmm.load` reads it.

        JSON if the name ends in .json, for up to 1,000,000 numbers, else safetensors. Raises FormatError for groups
        that are called neither by numbers nor by texts.
        """
        tensors, header = pack_many(path, self._file())
        if str(path).lower().endswith(".json"):
            with replace_atomically(path) as temporary:
                content = json.dumps(text.to_dict(tensors, header), allow_nan=False)
                temporary.write_text(content + "\n", encoding="utf-8")
        else:
            write_model(path, tensors, header)

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read what `save` wrote, validated; `FormatError` says what is wrong with a bad file."""
        with text.open_model(path) as reader:
            return cls._read_checked(reader)

    @classmethod
    def _read_checked(cls, reader: ModelReader) -> Self:
        held = held_model(reader.metadata)
        if held != MODEL:
            fail(reader.path, f"holds a {held[:100]!r}, not a {MODEL!r}; that class or fastgmm.load reads it")
        file = read_many(reader)
        constraints = {name: GaussianMixture._constraints[name] for name in KEPT_SETTINGS}
        settings = check_settings(reader.path, file.settings, constraints)
        n_samples, n_components, n_iter, status = file.counts.T
        stack = Stack.empty(file.covariance_type, n_components.copy(), file.arrays["means"].shape[1])
        good, structure = status <= 1, STRUCTURES[file.covariance_type]
        present = (np.arange(stack.weights.shape[1]) < n_components[:, None]) & good[:, None]
        stack.weights[:] = 0.0
        stack.weights[present], stack.means[present] = file.arrays["weights"], file.arrays["means"]
        k, n_features = stack.means.shape[1:]
        shape = (len(status), *structure.shape(k, n_features))
        places = good if structure.pools_components else present
        matrices = []
        for name in ("covariances", "precisions_cholesky"):
            array = np.full(shape, np.nan)
            array[places] = file.arrays[name]
            matrices.append(array.astype(file.dtype))
        return cls(
            groups_=file.groups,
            n_samples_=n_samples.copy(),
            n_components_=n_components.copy(),
            n_iter_=n_iter.copy(),
            status_=status.astype(np.int8),
            weights_=stack.weights.astype(file.dtype),
            means_=stack.means.astype(file.dtype),
            covariances_=matrices[0],
            precisions_cholesky_=matrices[1],
            log_likelihood_=file.numbers[:, 0].copy(),
            lower_bound_=file.numbers[:, 1].copy(),
            covariance_type=file.covariance_type,
            feature_names_in_=file.feature_names,
            settings=settings,
        )

    def _file(self) -> ManyFile:
        """The content of a file of these mixtures."""
        good = self.status_ <= 1
        present = (np.arange(self.weights_.shape[1]) < self.n_components_[:, None]) & good[:, None]
        places = good if STRUCTURES[self.covariance_type].pools_components else present
        arrays = {
            "weights": self.weights_[present],
            "means": self.means_[present],
            "covariances": self.covariances_[places],
            "precisions_cholesky": self.precisions_cholesky_[places],
        }
        counts = np.stack([self.n_samples_, self.n_components_, self.n_iter_, self.status_], axis=1).astype(np.int64)
        numbers = np.stack([self.log_likelihood_, self.lower_bound_], axis=1)
        dtype, names = self.means_.dtype, self.feature_names_in_
        return ManyFile(self.covariance_type, dtype, self.groups_, counts, numbers, arrays, names, self.settings)

    def mixture(self, group: Any) -> GaussianMixture:
        """Return the fitted `GaussianMixture` of a group, by what it is called.

        Raises KeyError for a group that was not fitted, and ValueError, saying why, for one that has no mixture.
        """
        return self.mixture_at(int(self._places(np.asarray([group]))[0]))

    def mixture_at(self, place: int) -> GaussianMixture:
        """Return the fitted `GaussianMixture` of the group at this place of `groups_`."""
        status = int(self.status_[place])
        if status > 1:
            name = self.groups_[place : place + 1].tolist()[0]
            raise ValueError(f"Group {name!r} {STATUS[status]}: it has no mixture.")
        k = int(self.n_components_[place])
        structure, stack = STRUCTURES[self.covariance_type], (self.covariances_, self.precisions_cholesky_)
        covariances, factors = (
            np.asarray(array[place] if structure.pools_components else array[place, :k], np.float64) for array in stack
        )
        model = GaussianMixture(k, covariance_type=self.covariance_type, **self.settings)
        weights, means = (np.asarray(array[place, :k], np.float64) for array in (self.weights_, self.means_))
        model._set_mixture(
            MixtureParameters(weights, means, factors, self.covariance_type, covariances), self.weights_.dtype
        )
        model.n_features_in_, model.n_iter_ = self.n_features_in_, int(self.n_iter_[place])
        if self.feature_names_in_ is not None:
            model.feature_names_in_ = self.feature_names_in_
        model.converged_ = status == 0
        model.stop_reason_ = "converged" if status == 0 else "max_iter"
        model.lower_bound_ = self.weights_.dtype.type(self.lower_bound_[place])
        model.log_likelihood_ = float(self.log_likelihood_[place])
        return model

    def predict_many(
        self, X: Any, groups: Any = None, *, offsets: ArrayLike | None = None, n_jobs: int | None = None
    ) -> Index:
        """Return the most probable component of each row under its group's mixture, (n_samples,), int64.

        -1 for the rows of groups that have no mixture.

        Parameters
        ----------
        X, groups, offsets : as in `fit_many`; groups may be some of those that were fitted, in any order
        n_jobs : int or None
            Threads; the bits are the same for any number.

        Raises
        ------
        KeyError
            For a group that was not fitted.
        ValueError
            For NaN or infinity, naming row and column, and another number or other names of columns.
        """
        return self._scored(X, groups, offsets, n_jobs, "labels")

    def score_samples_many(
        self, X: Any, groups: Any = None, *, offsets: ArrayLike | None = None, n_jobs: int | None = None
    ) -> NDArray[Any]:
        """Return the log-density of each row in nats under its group's mixture, (n_samples,).

        NaN for the rows of groups that have no mixture; parameters and errors are those of `predict_many`.
        """
        return self._scored(X, groups, offsets, n_jobs, "log_prob_norm")

    def score_many(
        self, X: Any, groups: Any = None, *, offsets: ArrayLike | None = None, n_jobs: int | None = None
    ) -> NDArray[np.float64]:
        """Return the mean log-density per row in nats of each fitted group, (n_groups,); NaN where it has no rows in X.

        NaN also for groups that have no mixture; parameters and errors are those of `predict_many`.
        """
        rows = grouped(X, groups, offsets, None)
        values = self._scored_rows(rows, n_jobs, "log_prob_norm")
        places = np.repeat(self._places(rows.names), np.diff(rows.offsets))
        sums, counts = np.bincount(places, values, len(self)), np.bincount(places, minlength=len(self))
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def sample_many(
        self, n_samples: int | ArrayLike = 1, *, random_state: Any = None
    ) -> tuple[NDArray[Any], NDArray[Any], Index]:
        """Draw rows from the mixture of every group that has one.

        Parameters
        ----------
        n_samples : int or array-like of shape (n_groups,), default=1
            Rows of each group, at least 0; of groups without a mixture none are drawn.
        random_state : int, RandomState or None

        Returns
        -------
        X : ndarray of shape (n_drawn, n_features), of the dtype of the model
            Group after group, component after component.
        groups : ndarray of shape (n_drawn,)
        labels : ndarray of shape (n_drawn,), int64
        """
        counts = np.broadcast_to(np.asarray(n_samples), (len(self),))
        if counts.dtype.kind not in "iu" or (counts < 0).any():
            raise ValueError(f"n_samples must be integers of at least 0, one or one per group. Got {n_samples!r}.")
        rng = check.generator_from(check.check_random_state(random_state))
        good = np.flatnonzero(self.status_ <= 1)
        weights = np.asarray(self.weights_[good], np.float64)
        drawn = rng.multinomial(counts[good], weights / weights.sum(axis=1, keepdims=True))
        k, n_features = self.means_.shape[1:]
        structure = STRUCTURES[self.covariance_type]
        covariances = np.asarray(self.covariances_[good], np.float64)
        kind = "full" if structure.is_matrix else self.covariance_type
        if structure.pools_components:
            covariances = np.repeat(covariances[:, None], k, axis=1)
        covariances = covariances.reshape(len(good) * k, *covariances.shape[2:])
        present = np.flatnonzero((np.arange(k) < self.n_components_[good, None]).ravel())
        means = np.asarray(self.means_[good], np.float64).reshape(len(good) * k, n_features)
        runs = np.repeat(np.arange(len(present)), drawn.ravel()[present])
        seed = rng.integers(2**32, size=4, dtype=np.uint32)
        rows = sample_rows(means[present], covariances[present], kind, runs, seed)
        places = good[present[runs] // k]
        return rows.astype(self.means_.dtype), self.groups_[places], present[runs] % k

    def _places(self, names: NDArray[Any]) -> Index:
        """Where groups of these names are; KeyError for one that is not known."""
        found = np.minimum(np.searchsorted(self.groups_, names), max(len(self) - 1, 0))
        known = self.groups_[found] == names if len(self) else np.zeros(len(names), bool)
        if not np.all(known):
            missing = np.asarray(names)[~np.asarray(known)].tolist()
            raise KeyError(f"{len(missing)} groups were not fitted, the first {missing[0]!r}.")
        return np.asarray(found, np.int64)

    def _scored(self, X: Any, groups: Any, offsets: ArrayLike | None, n_jobs: int | None, output: str) -> NDArray[Any]:
        rows = grouped(X, groups, offsets, None)
        values = self._scored_rows(rows, n_jobs, output)
        if rows.order is None:
            return values
        result = np.empty_like(values)
        result[rows.order] = values
        return result

    def _scored_rows(self, rows: GroupedRows, n_jobs: int | None, output: str) -> NDArray[Any]:
        if rows.X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {rows.X.shape[1]} features, but the mixtures have {self.n_features_in_}.")
        known, given = self.feature_names_in_, rows.names_of_columns
        if known is not None and given is not None and list(given) != list(known):
            raise ValueError(f"The columns are called {list(given)}, but the mixtures were fitted to {list(known)}.")
        if not np.isfinite(rows.X.sum()):  # a sum over all may overflow where no value is to blame
            bad = np.argwhere(~np.isfinite(rows.X))
            if len(bad):
                row, column = bad[0]
                row = row if rows.order is None else rows.order[row]
                raise ValueError(f"X holds NaN or infinity: row {row}, column {column}.")
        places = self._places(rows.names)
        places = np.where(self.status_[places] <= 1, places, -1)
        labels = np.full(len(rows.X), -1, np.int64) if output == "labels" else None
        log_prob = None if output == "labels" else np.full(len(rows.X), np.nan, rows.X.dtype)
        with thread_limit(n_jobs):
            n_far = score_groups(rows.X, rows.offsets, self._stack(), places, log_prob, labels)
        values = labels if log_prob is None else log_prob
        assert values is not None
        for g in np.flatnonzero(n_far):  # out of the range of what the kernels compute with
            part = slice(rows.offsets[g], rows.offsets[g + 1])
            model = self.mixture_at(places[g])
            ask = model.predict if output == "labels" else model.score_samples
            values[part] = ask(rows.X[part])
        return values

    def _stack(self) -> Stack:
        """The mixtures as the kernels take them."""
        empty = Stack.empty(self.covariance_type, self.n_components_, self.n_features_in_)
        arrays = (self.weights_, self.means_, self.covariances_, self.precisions_cholesky_)
        shapes = (empty.weights.shape, empty.means.shape, empty.covariances.shape, empty.factors.shape)
        pairs = zip(arrays, shapes, strict=True)
        cast = (np.ascontiguousarray(array, np.float64).reshape(shape) for array, shape in pairs)
        return Stack(self.covariance_type, self.n_components_, *cast)
