"""Libraries that hold scikit-learn's mixtures, unmodified: `python -m tests.consumers OUT.npz [patched]`.

Each function runs one of them and returns arrays that do not depend on the order of the components. Data are well
separated and tolerances small, so that every start ends in the same maximum.
"""

from __future__ import annotations

import sys

import numpy as np

if "patched" in sys.argv:
    import fastgmm

    fastgmm.patch_sklearn()

import sklearn.mixture  # the consumers come after the patch

SETTINGS = {"tol": 1e-10, "max_iter": 500, "random_state": 0}


def make_rows(counts: tuple[int, ...] = (300, 300, 300)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    labels = rng.permutation(np.repeat(np.arange(3), counts))
    centers = np.array([[0.0, 0.0, 0.0], [8.0, 1.0, -3.0], [-4.0, 9.0, 4.0]])
    spread = np.array([[1.0, 0.5, 2.0], [0.7, 1.5, 1.0], [1.2, 1.0, 0.8]])
    return centers[labels] + rng.normal(size=(len(labels), 3)) * spread[labels], labels


def pyod_detector() -> dict[str, np.ndarray]:
    from pyod.models.gmm import GMM

    X, _ = make_rows()
    detector = GMM(n_components=3, contamination=0.05, **SETTINGS).fit(X)
    return {
        "decision": detector.decision_function(X),
        "labels": detector.labels_,
        "class": np.array(type(detector.detector_).__module__),
    }


def skimage_fisher_vector() -> dict[str, np.ndarray]:
    from skimage.feature import fisher_vector, learn_gmm

    X, _ = make_rows()
    settings = SETTINGS | {"covariance_type": "diag"}
    vocabulary = learn_gmm(X, n_modes=3, gm_args=settings)
    vector = fisher_vector(X[:200] + 0.1, vocabulary)
    order = np.argsort(vocabulary.means_[:, 0])
    weights, means, deviations = vector[:3], vector[3:12].reshape(3, 3), vector[12:].reshape(3, 3)
    return {
        "vector": np.concatenate([weights[order], means[order].ravel(), deviations[order].ravel()]),
        "class": np.array(type(vocabulary).__module__),
    }


def scikit_lego() -> dict[str, np.ndarray]:
    from sklego.mixture import GMMClassifier, GMMOutlierDetector

    X, y = make_rows()
    classifier = GMMClassifier(n_components=1, **SETTINGS).fit(X, y)
    detector = GMMOutlierDetector(n_components=3, threshold=0.95, **SETTINGS).fit(X)
    return {
        "probability": classifier.predict_proba(X),
        "outlier_score": detector.score_samples(X),
        "class": np.array(type(detector.gmm_).__module__),
    }


def grid_search() -> dict[str, np.ndarray]:
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, _ = make_rows((1000, 200, 60))
    pipeline = make_pipeline(StandardScaler(), sklearn.mixture.GaussianMixture(**SETTINGS))
    grid = {
        "gaussianmixture__n_components": [1, 3],
        "gaussianmixture__covariance_type": ["full", "tied", "diag", "spherical"],
    }
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=3).fit(X)
    return {
        "scores": search.cv_results_["mean_test_score"],
        "best": np.array(str(sorted(search.best_params_.items()))),
        "class": np.array(type(search.best_estimator_[-1]).__module__),
    }


CONSUMERS = {
    "pyod": pyod_detector,
    "scikit-image": skimage_fisher_vector,
    "scikit-lego": scikit_lego,
    "grid-search": grid_search,
}

if __name__ == "__main__":
    results = {f"{name}/{key}": value for name, consumer in CONSUMERS.items() for key, value in consumer().items()}
    np.savez(sys.argv[1], **results)
