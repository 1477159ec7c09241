"""Rows stay where they are: what is asked of them is sent to the workers that have them, and files are read once."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import dask.distributed
import numpy as np
import pytest

from fastgmm import (
    BayesianGaussianMixture,
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    StandardisedMixture,
    open_source,
)
from fastgmm.distributed import distribute
from fastgmm.model import missing, scoring
from fastgmm.rows.distributed import DistributedSource, compute_part
from fastgmm.rows.source import ArraySource, Source
from fastgmm.rows.streams import StreamSource

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

N, D = 60_000, 4
# The samples of a start, of which the second grew, a thousand rows for the columns, and the ends for checkpoints.
START_ROWS = 10_000 + 20_000 + 2_000
SETTINGS = {"random_state": 0, "max_iter": 3}
MODELS = {
    "full": GaussianMixture(3, **SETTINGS),
    "tied": GaussianMixture(3, covariance_type="tied", **SETTINGS),
    "noise": GaussianMixture(3, noise=True, **SETTINGS),
    "gaps": GaussianMixture(3, missing="em", **SETTINGS),
    "gaps, prior": GaussianMixture(3, missing="em", prior="conjugate", **SETTINGS),
    "gaps, noise": GaussianMixture(3, missing="em", noise=True, covariance_type="diag", **SETTINGS),
    "prior": GaussianMixture(3, prior="conjugate", **SETTINGS),
    "labels": GaussianMixture(3, semi_supervised=True, **SETTINGS),
    "labels, gaps": GaussianMixture(3, semi_supervised=True, missing="em", **SETTINGS),
    "start by labels": GaussianMixture(3, init_params=np.arange(N) % 3, **SETTINGS),
    "hard": GaussianMixture(3, solver="hard", **SETTINGS),
    "bayes": BayesianGaussianMixture(n_components=3, **SETTINGS),
    "factors": MixtureOfFactorAnalyzers(3, 2, **SETTINGS),
    "factors, gaps": MixtureOfFactorAnalyzers(3, 2, missing="em", **SETTINGS),
    "standardised": StandardisedMixture(GaussianMixture(3, **SETTINGS)),
    "standardised, gaps": StandardisedMixture(GaussianMixture(3, missing="em", **SETTINGS)),
    "standardised factors, gaps": StandardisedMixture(MixtureOfFactorAnalyzers(3, 2, missing="em", **SETTINGS)),
}


def rows_for(name):
    rng = np.random.default_rng(0)
    component = rng.integers(0, 3, N)
    X = rng.standard_normal((N, D)) + 4.0 * component[:, None] * np.array([1.0, -1.0, 0.5, 0.0])
    if "gaps" in name:
        X[rng.random((N, D)) < 0.1] = np.nan
    y = np.where(rng.random(N) < 0.05, component, -1) if "labels" in name.split(", ") else None
    return X, y


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def client():
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with (
        dask.distributed.LocalCluster(**settings) as cluster,
        dask.distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def brought(monkeypatch):
    """Counts of rows that come to the driver: of whole passes, and picked ones."""
    counts = {"passes": 0, "picked": 0}

    def chunks(self, original=DistributedSource.chunks):
        for first, rows in original(self):
            counts["passes"] += len(rows)
            yield first, rows

    def take(self, index, original=DistributedSource.take):
        counts["picked"] += len(index)
        return original(self, index)

    monkeypatch.setattr(DistributedSource, "chunks", chunks)
    monkeypatch.setattr(DistributedSource, "take", take)
    return counts


def quietly(call, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*arguments, **options)


def assert_rows_stay(name, executor, brought):
    X, y = rows_for(name)
    source, model = distribute(X, executor), MODELS[name]
    quietly(model.fit, source, y)
    assert brought["passes"] == 0
    assert brought["picked"] <= START_ROWS
    brought.update(passes=0, picked=0)
    weight = np.random.default_rng(1).uniform(size=N)
    asked = {
        "predict": model.predict,
        "predict_proba": model.predict_proba,
        "score_samples": model.score_samples,
        "score": lambda rows: model.score(rows, sample_weight=weight),
        "impute": model.impute,
        "draws": lambda rows: model.impute(rows, mode="sample"),
    }
    asked |= {name: getattr(model, name) for name in ("bic", "reconstruct") if hasattr(model, name)}
    for what, ask in asked.items():
        np.testing.assert_allclose(ask(source), ask(X), rtol=1e-12, atol=1e-12, err_msg=what)
    assert brought == {"passes": 0, "picked": 0}


@pytest.mark.parametrize("name", MODELS)
def test_no_row_comes_to_the_driver_but_the_sample_of_a_start(name, pool, brought):
    assert_rows_stay(name, pool, brought)


@pytest.mark.parametrize("name", ["gaps, prior", "labels, gaps", "factors, gaps", "standardised, gaps"])
def test_no_row_comes_to_the_driver_of_a_dask_cluster(name, client, brought):
    assert_rows_stay(name, client, brought)


def test_errors_of_workers_rows_are_placed_without_bringing_them(pool, brought):
    X, _ = rows_for("full")
    X[41_234, 2] = np.inf
    source = distribute(X, pool)
    fitted = GaussianMixture(3, **SETTINGS)
    quietly(fitted.fit, np.delete(X, 41_234, axis=0))
    for model in (GaussianMixture(3), fitted, GaussianMixture(3, missing="em")):
        ask = model.predict if hasattr(model, "means_") else model.fit
        with pytest.raises(
            ValueError, match=r"infinity .*\(first at row 41234, which is row \d+ of part \d+, column 2\)"
        ):
            ask(source)
    assert brought["passes"] == 0


# ---- reads of a file ----


@pytest.fixture
def reads(monkeypatch):
    """How often the rows of a file are read from the beginning."""
    counts = []

    def chunks(self, original=StreamSource.chunks):
        counts.append(self)
        yield from original(self)

    monkeypatch.setattr(StreamSource, "chunks", chunks)
    return counts


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ("full", "gaps"),
        ("full", "noise"),
        ("prior", "gaps, prior"),
        ("factors", "factors, gaps"),
        ("standardised", "standardised, gaps"),
    ],
)
def test_a_file_with_gaps_or_noise_is_read_as_often_as_one_of_complete_rows(plain, other, reads, tmp_path):
    found = []
    for name in (plain, other):
        np.save(tmp_path / "rows.npy", rows_for(name)[0])
        reads.clear()
        quietly(MODELS[name].fit, tmp_path / "rows.npy")
        found.append(len(reads) - getattr(MODELS[name], "n_iter_", 0))
        for ask in (MODELS[name].score, MODELS[name].predict, MODELS[name].impute):
            reads.clear()
            ask(tmp_path / "rows.npy")
            assert len(reads) == 1
    assert found[1] <= found[0]


def test_labels_are_looked_at_once_for_all_starts(reads, tmp_path):
    X, _ = rows_for("plain")
    np.save(tmp_path / "x.npy", X)
    y = np.where(np.arange(N) < 50, np.arange(N) % 3, -1)
    counts = []
    for n_init in (1, 2, 4):
        reads.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = GaussianMixture(3, semi_supervised=True, random_state=0, max_iter=1, n_init=n_init)
            model.fit(tmp_path / "x.npy", y)
        counts.append(len(reads))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0]) == 2  # an iteration of each start


def test_places_are_numbered_as_the_parts_were_given():
    class Serial:
        def __call__(self, parts, dtype, common, own):
            return (compute_part(part, dtype, common, values) for part, values in zip(parts, own, strict=True))

    parts = [ArraySource(np.ones((n, 2))) for n in (3, 0, 0, 4)]
    for counts in (None, [3, 0, 0, 4]):
        source = DistributedSource([*parts], Serial(), parts[0], counts)
        assert (source.place(2), source.place(5)) == ("row 2 of part 0", "row 2 of part 3")


def test_patterns_of_gaps_are_looked_at_for_many_rows_together(monkeypatch):
    X = np.random.default_rng(0).normal(size=(3000, 900))
    X[np.arange(3000) % 5 == 0, 0] = np.nan
    assert X.nbytes > scoring.BLOCK_BYTES
    groups = []
    visible = missing._visible
    monkeypatch.setattr(missing, "_visible", lambda *of: groups.append(1) or visible(*of))
    model = GaussianMixture.from_parameters([1.0], X[1:2], np.ones((1, 900)), covariance_type="diag", missing="em")
    model.predict(X)
    assert len(groups) == 2
    model.impute(X)
    assert len(groups) == 3


def test_every_source_says_whether_this_process_reads_it(pool, tmp_path):
    X, _ = rows_for("full")
    np.save(tmp_path / "rows.npy", X)
    for source in (open_source(X), open_source(tmp_path / "rows.npy")):
        assert isinstance(source, Source)
        assert source.is_local
    assert not distribute(X, pool).is_local
