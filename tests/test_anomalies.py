"""Unusual rows: reasons against the textbook, an ensemble on real labelled rows, p-values that hold."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastgmm import GaussianMixture, MixtureOutlierDetector
from fastgmm.estimators.outlier_detector import PyODMixtureDetector
from fastgmm.exceptions import NotFittedError
from fastgmm.model.outliers import conformal_pvalues, discoveries, log_chi2_tail, tail_scores
from fastgmm.representation.robust import DrawnIn
from tests import reference_anomalies as slow
from tests.test_conditioning import KINDS, dense, mixture

FEW = {"n_members": 2, "n_projections": 5, "random_state": 0}


@parametrize_with_checks([MixtureOutlierDetector(n_members=2, n_projections=4, random_state=0)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# ---- reasons ----


@pytest.mark.parametrize("kind", KINDS)
def test_reasons_are_the_textbooks(kind):
    model = mixture(kind)
    X = model.sample(12)[0]
    X[0, 2] += 30.0
    found = model.reasons(X, top=5)
    np.testing.assert_array_equal(np.sort(found.columns, axis=1), np.tile(np.arange(5), (12, 1)))
    assert (np.diff(found.surprise, axis=1) <= 0).all()
    for i, x in enumerate(X):
        for place, j in enumerate(found.columns[i]):
            expected = slow.surprise(*dense(model), x, int(j))
            values = [getattr(found, name)[i, place] for name in ("surprise", "expected", "deviation", "tail")]
            np.testing.assert_allclose(values, expected, rtol=1e-7, atol=1e-9)
            assert found.values[i, place] == x[j]


def test_a_missing_value_is_no_reason():
    model = mixture("full").set_params(missing="em")
    X = model.sample(8)[0]
    X[0, 1], X[1, :4] = np.nan, np.nan
    found = model.reasons(X, top=5)
    assert np.isnan(found.surprise[0, 4])
    assert np.isnan(found.surprise[1, 1:]).all()
    keep = [0, 2, 3, 4]
    weights, means, covariances = dense(model)
    for place, j in enumerate(found.columns[0, :4]):
        expected = slow.surprise(weights, means[:, keep], covariances[:, keep][:, :, keep], X[0, keep], keep.index(j))
        assert found.expected[0, place] == pytest.approx(expected[1], rel=1e-8)


def test_planted_cells_are_named_first():
    """Breast cancer's benign rows, a cell of held-out ones changed: 4 deviations, 2, or another row's value."""
    X = load_breast_cancer().data[load_breast_cancer().target == 1][:, :10]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rng = np.random.default_rng(0)
    X = X[rng.permutation(len(X))]
    train, test = X[:250], X[250:]
    model = GaussianMixture(2, random_state=0).fit(train)
    shares = {}
    for kind, least in (("4", 0.97), ("2", 0.87), ("swap", 0.72)):
        changed, cell = test.copy(), rng.integers(10, size=len(test))
        rows = np.arange(len(test))
        if kind == "swap":
            changed[rows, cell] = train[rng.integers(len(train), size=len(test)), cell]
        else:
            changed[rows, cell] += float(kind) * rng.choice([-1, 1], size=len(test))
        moved = np.abs(changed - test).max(axis=1) > (1.0 if kind == "swap" else 0.5)
        named = model.reasons(changed[moved], top=1).columns[:, 0]
        shares[kind] = (named == cell[moved]).mean()
        assert shares[kind] >= least, shares


def test_reasons_of_the_detector_are_in_the_units_of_the_rows():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    X[:, 2] = 1000 + 50 * (X[:, 0] + X[:, 1] + 0.1 * rng.normal(size=600))
    frame = pd.DataFrame(X, columns=["a", "b", "sum"])
    detector = MixtureOutlierDetector(training="clean", **FEW).fit(frame)
    odd = pd.DataFrame([[0.5, 0.5, 900.0]], columns=frame.columns)
    found = detector.reasons(odd)
    first = found.sentences(0)[0]
    assert first.startswith(("sum: expected", "a: expected", "b: expected"))
    place = found.columns[0].tolist().index(2)
    assert found.values[0, place] == 900.0
    assert found.expected[0, place] == pytest.approx(1050, abs=25)
    assert found.deviation[0, place] < 60


def test_a_mixtures_own_verdicts():
    model = mixture("full")
    X, normal = model.sample(400)[0], model.sample(1000)[0][::2]
    X[:20] += 40
    flagged = model.anomalies(X, contamination=0.05)
    assert flagged.sum() == 20
    assert flagged[:20].all()
    found = model.anomalies(X, reference=normal, rate=0.1)
    assert found[:20].all()
    assert found[20:].sum() <= 8
    with pytest.raises(ValueError, match="either contamination"):
        model.anomalies(X)
    with pytest.raises(ValueError, match="contamination must lie between 0 and 1"):
        model.anomalies(X, contamination=3)


# ---- parts ----


def test_tails_are_counts_of_draws_and_do_not_underflow():
    model = mixture("full")
    weights, means, covariances = dense(model)
    lower = np.linalg.cholesky(covariances)
    X = model.sample(4)[0]
    for x, score in zip(X, tail_scores(X, weights, means, lower), strict=True):
        assert score == pytest.approx(slow.tail_score(weights, means, covariances, x), abs=0.03)
    for d in (1, 2, 7, 40):
        x = np.array([0.1, 5.0, 300.0, 1300.0])
        np.testing.assert_allclose(log_chi2_tail(x, d), chi2.logsf(x, d), rtol=1e-9, atol=1e-300)
        far = log_chi2_tail(np.array([1e4, 1e6]), d)
        np.testing.assert_allclose(far, -np.array([5e3, 5e5]), rtol=0.05)


def test_pvalues_and_discoveries_are_counts():
    rng = np.random.default_rng(0)
    folds = [np.sort(rng.normal(size=n)) for n in (7, 5, 6)]
    scores = rng.normal(size=(3, 20))
    found = conformal_pvalues(scores, folds)
    assert found.tolist() == [pytest.approx(slow.pvalue(scores[:, i], folds)) for i in range(20)]
    p = np.concatenate([rng.uniform(size=200), rng.uniform(0, 1e-3, size=20)])
    for rate in (0.01, 0.1, 0.5):
        assert set(np.flatnonzero(discoveries(p, rate))) == slow.discoveries(p, rate)
    assert not discoveries(np.array([np.nan, 0.9]), 0.1).any()


def test_columns_are_drawn_in_and_back():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_cauchy(500), np.ones(500), 1e8 + rng.normal(size=500), rng.integers(2, size=500)])
    X[:, 3] = np.where(X[:, 3] + rng.integers(9, size=500) < 9, 0.0, X[:, 0])  # mostly zeros
    scale = DrawnIn.of(X)
    assert scale.kept.tolist() == [0, 2, 3]
    Z = scale.transform(X)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(Z.std(axis=0), 1, rtol=1e-8)
    for unit in (1e-300, 1e300):
        np.testing.assert_allclose(
            DrawnIn.of(X[:, :1] * unit / 1e3).transform(X[:, :1] * unit / 1e3), Z[:, :1], rtol=1e-9
        )
    columns = np.tile(np.arange(3), (500, 1))
    np.testing.assert_allclose(scale.inverse(Z, columns), X[:, scale.kept], rtol=1e-9, atol=1e-9)


# ---- the detector on real rows ----


def labelled(load, strange, seed, n_strange=None):
    """Rows of a class as anomalies among those of the others: at most 5 % of them, but ten."""
    data = load()
    rng = np.random.default_rng(seed)
    normal, odd = np.flatnonzero(data.target != strange), rng.permutation(np.flatnonzero(data.target == strange))
    n_odd = max(10, len(normal) // 20)
    index = np.concatenate([normal, odd[:n_odd]])
    return data.data[index], np.repeat([0, 1], [len(normal), len(index) - len(normal)])


def test_contaminated_and_clean_rows_against_peers():
    """Means over two sets that scikit-learn ships and three seeds; `python -m benchmarks.anomalies` has 15 sets."""
    means = {"ours": [], "forest": [], "clean": [], "lof": []}
    for load in (load_breast_cancer, load_wine):
        for seed in range(3):
            X, y = labelled(load, 0, seed)
            ours = MixtureOutlierDetector(random_state=seed).fit(X)
            forest = IsolationForest(random_state=seed).fit(X)
            means["ours"].append(average_precision_score(y, -ours.score_samples(X)))
            means["forest"].append(average_precision_score(y, -forest.score_samples(X)))
            rows = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
            train, test = X[rows[: len(rows) // 2]], np.append(rows[len(rows) // 2 :], np.flatnonzero(y == 1))
            clean = MixtureOutlierDetector(training="clean", random_state=seed).fit(train)
            lof = LocalOutlierFactor(novelty=True).fit(train)
            means["clean"].append(average_precision_score(y[test], -clean.score_samples(X[test])))
            means["lof"].append(average_precision_score(y[test], -lof.score_samples(X[test])))
    found = {name: np.mean(values) for name, values in means.items()}
    assert found["ours"] > found["forest"] + 0.02, found
    assert found["clean"] > 0.69, found


@pytest.mark.parametrize("calibration", ["cross", "split"])
def test_pvalues_of_new_normal_rows_hold(calibration):
    X = load_breast_cancer().data[load_breast_cancer().target == 1]
    shares = []
    for seed in range(4):
        rows = X[np.random.default_rng(seed).permutation(len(X))]
        detector = MixtureOutlierDetector(training="clean", calibration=calibration, **{**FEW, "random_state": seed})
        p = detector.fit(rows[:240]).pvalues(rows[240:])
        assert (p >= 1 / 241).all()
        assert (p <= 1).all()
        shares.append((p <= 0.05).mean())
    # 468 rows, dependent by their calibration: three standard errors of a share of 0.05 are 0.03.
    assert 0.02 <= np.mean(shares) <= 0.08, shares


def test_pvalues_of_training_rows_are_uniform_ranks():
    X = load_wine().data
    detector = MixtureOutlierDetector(**FEW).fit(X)
    np.testing.assert_allclose(np.sort(detector.pvalues()), np.arange(1, len(X) + 1) / len(X))
    with pytest.raises(ValueError, match="calibration='cross'"):
        MixtureOutlierDetector(calibration="model", **FEW).fit(X).pvalues()


def test_false_discoveries_of_clean_rows_are_few():
    rng = np.random.default_rng(0)
    train, normal, odd = rng.normal(size=(1000, 4)), rng.normal(size=(500, 4)), rng.normal(size=(50, 4)) + 6
    detector = MixtureOutlierDetector(training="clean", **FEW).fit(train)
    found = detector.discoveries(np.concatenate([normal, odd]), rate=0.1)
    assert found[500:].mean() > 0.9
    assert found[:500].sum() <= 0.2 * found.sum()
    with pytest.raises(ValueError, match="rate must lie between 0 and 1"):
        detector.discoveries(train, rate=2)


def test_verdicts_follow_contamination_and_files_answer_as_arrays(tmp_path):
    X = load_wine().data
    detector = MixtureOutlierDetector(contamination=0.1, **FEW).fit(X)
    assert (detector.predict(X) == -1).sum() == pytest.approx(0.1 * len(X), abs=1)
    np.testing.assert_allclose(detector.decision_function(X), detector.score_samples(X) - detector.offset_)
    np.save(tmp_path / "X.npy", X)
    again = MixtureOutlierDetector(contamination=0.1, **FEW).fit(tmp_path / "X.npy")
    np.testing.assert_array_equal(again.score_samples(tmp_path / "X.npy"), detector.score_samples(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(X), detector.score_samples(X))
    assert (MixtureOutlierDetector(**FEW).fit_predict(X) == MixtureOutlierDetector(**FEW).fit(X).predict(X)).all()


def test_many_rows_are_fitted_by_a_sample():
    X = np.random.default_rng(0).normal(size=(5000, 3))
    X[0] = 50
    detector = MixtureOutlierDetector(max_samples=500, **FEW).fit(X)
    assert len(detector.pvalues()) == 500
    assert np.argmin(detector.score_samples(X)) == 0


def test_pyods_signs():
    X = load_wine().data
    theirs = PyODMixtureDetector(contamination=0.1, **FEW).fit(X)
    ours = MixtureOutlierDetector(contamination=0.1, **FEW).fit(X)
    np.testing.assert_array_equal(theirs.decision_scores_, -ours.score_samples(X))
    np.testing.assert_array_equal(theirs.labels_, (ours.predict(X) == -1).astype(int))
    np.testing.assert_array_equal(theirs.predict(X), theirs.labels_)
    np.testing.assert_array_equal(theirs.decision_function(X), theirs.decision_scores_)


def test_what_is_wrong_is_named():
    X = load_wine().data
    with pytest.raises(NotFittedError, match="not fitted"):
        MixtureOutlierDetector().predict(X)
    with pytest.raises(ValueError, match="training"):
        MixtureOutlierDetector(training="dirty").fit(X)
    with pytest.raises(ValueError, match="all columns of X are constant"):
        MixtureOutlierDetector().fit(np.ones((50, 2)))
    with pytest.raises(ValueError, match="X has 2 features"):
        MixtureOutlierDetector(**FEW).fit(X).predict(X[:, :2])
    with pytest.raises(ValueError, match="top must be at least 1"):
        mixture("full").reasons(np.zeros((2, 5)), top=0)
    with pytest.raises(ValueError, match="NaN"):
        mixture("full").reasons(np.full((2, 5), np.nan))
