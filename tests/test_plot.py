"""The displays of fastgmm.plot show what they say: geometry, levels, normalisation, attributes and errors."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers
from fastgmm.exceptions import NotFittedError
from fastgmm.plot import ConvergenceDisplay, MixtureDisplay, ResponsibilitiesDisplay
from fastgmm.plot._canvas import component_colours

pytest.importorskip("matplotlib")
LEVELS = (0.5, 0.9, 0.99)


def fitted(kind, X):
    if kind == "factors":
        return MixtureOfFactorAnalyzers(3, 1, random_state=0, tol=0.01).fit(X)
    if kind == "bayesian":
        return BayesianGaussianMixture(n_components=4, random_state=0, max_iter=300).fit(X)
    return GaussianMixture(3, covariance_type=kind, random_state=0).fit(X)


@pytest.fixture(scope="module", params=["full", "tied", "diag", "spherical", "factors", "bayesian"])
def mixture(request, blobs):
    return fitted(request.param, blobs[0])


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (900, 3)), rng.normal(6, 1, (900, 3)), rng.uniform(-10, 20, (400, 3))])
    return GaussianMixture(2, noise=True, random_state=0).fit(X), X


def assert_share(inside, level):
    error = 5 * np.sqrt(level * (1 - level) / len(inside))
    assert abs(np.mean(inside) - level) < error


def test_ellipses_hold_their_share_of_each_component(mixture):
    features = (2, 0)
    rows, labels = mixture.sample(40_000)
    display = MixtureDisplay.from_estimator(mixture, features=features, levels=LEVELS, min_weight=0.01)
    drawn = np.flatnonzero(mixture.weights_ >= 0.01)
    assert len(display.ellipses_) == len(drawn) * len(LEVELS)
    for k, ellipses in zip(drawn, np.reshape(display.ellipses_, (-1, len(LEVELS))), strict=True):
        for ellipse, level in zip(ellipses, LEVELS, strict=True):
            unit = ellipse.get_patch_transform().inverted().transform(rows[labels == k][:, features])
            assert_share(np.sum(unit**2, axis=1) <= 1, level)


def test_density_is_that_of_the_mixture_and_integrates_to_one(mixture, blobs):
    X = blobs[0]
    display = MixtureDisplay.from_estimator(mixture, X, features=(0, 1), kind="density")
    low, high = X[:, :2].min(axis=0) - 8, X[:, :2].max(axis=0) + 8
    axes = [np.linspace(low[d], high[d], 400) for d in range(2)]
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert display.mixture.density(points).sum() * cell == pytest.approx(1, abs=2e-3)  # Bayesian: a wide empty one


def test_density_in_all_features_is_the_estimators(blobs):
    X = blobs[0][:, :2]
    mixture = GaussianMixture(3, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(mixture)
    np.testing.assert_allclose(np.log(display.mixture.density(X)), mixture.score_samples(X), rtol=1e-9)


@pytest.mark.parametrize("features", [(0, 1), (1,)])
def test_regions_of_highest_density_hold_their_share(mixture, features):
    display = MixtureDisplay.from_estimator(mixture, features=features)
    rows, _ = mixture.sample(20_000)
    density = display.mixture.density(rows[:, features])
    for level, height in zip(LEVELS, display.mixture.highest_density_levels(LEVELS), strict=True):
        assert_share(density >= height, level)


def test_contours_are_at_these_levels_and_noise_is_part_of_them(noisy):
    mixture, X = noisy
    levels = (0.5, 0.75)
    display = MixtureDisplay.from_estimator(mixture, X, kind="density", levels=levels)
    heights = display.mixture.highest_density_levels(levels)
    np.testing.assert_allclose(display.contours_.levels, np.sort(heights))
    rows, _ = mixture.sample(20_000)
    density = display.mixture.density(rows[:, :2])
    for level, height in zip(levels, heights, strict=True):
        assert_share(density >= height, level)
    # 0.9 and 0.99 both end on the plateau of the noise, where one line is drawn and named.
    plateau = display.plot(kind="density", levels=LEVELS)
    assert [text.get_text() for text in plateau.ax_.get_legend().get_texts()] == ["50 %", "99 %"]
    assert "noise 1" in display.note_.get_text()
    # The contour of one Gaussian is its ellipse.
    one = MixtureDisplay([1.0], [[1.0, 2.0]], [[[2.0, 0.5], [0.5, 1.0]]]).plot(kind="density", levels=(0.9,))
    points = one.contours_.allsegs[0][0] - [1.0, 2.0]
    squares = np.einsum("nd,de,ne->n", points, np.linalg.inv([[2.0, 0.5], [0.5, 1.0]]), points)
    np.testing.assert_allclose(squares, -2 * np.log(0.1), rtol=0.02)


def test_one_dimension_has_normalised_histogram_and_curves(noisy):
    mixture, X = noisy
    display = MixtureDisplay.from_estimator(mixture, X, features=1)
    density, edges = display.histogram
    assert np.sum(density * np.diff(edges)) == pytest.approx(1)
    assert edges[0] == X[:, 1].min()
    assert edges[-1] == X[:, 1].max()
    *parts, noise, total = display.lines_
    assert len(parts) == 2
    areas = [np.trapezoid(*line.get_data()[::-1]) for line in (*parts, noise, total)]
    expected = [*mixture.weights_, mixture.noise_weight_, 1]
    np.testing.assert_allclose(areas, expected, atol=2e-4)


def test_a_mixture_of_one_feature_is_drawn_in_one_dimension():
    X = np.random.default_rng(0).normal(size=(300, 1))
    display = MixtureDisplay.from_estimator(GaussianMixture(1).fit(X), X)
    assert display.X.shape == (300, 1)
    assert display.bars_ is not None
    assert display.ax_.get_ylabel() == "probability density"


def test_axes_are_named_and_the_rows_shown_are_counted(blobs):
    frame = pd.DataFrame(blobs[0], columns=["length", "width", "height"])
    mixture = GaussianMixture(3, random_state=0).fit(frame)
    display = MixtureDisplay.from_estimator(mixture, frame, features=("height", "length"), max_points=100)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("height", "length")
    assert len(display.points_.get_offsets()) == len(display.labels) == 100
    assert "100 of 600 rows" in display.note_.get_text()
    display = MixtureDisplay.from_estimator(mixture, features=-1, feature_names=["height (m)"])
    assert display.ax_.get_xlabel() == "height (m)"


def test_components_that_are_too_light_are_counted_not_drawn():
    display = MixtureDisplay([0.9999, 1e-4], [[0, 0], [1, 1]], [np.eye(2), np.eye(2)]).plot()
    assert len(display.ellipses_) == 3
    assert "1 of 2 components" in display.note_.get_text()
    assert len(display.plot(min_weight=0).ellipses_) == 6


def test_rows_without_a_value_shown_are_left_out(blobs):
    X = blobs[0].copy()
    X[::3, 0] = np.nan
    mixture = GaussianMixture(3, missing="em", random_state=0).fit(X)
    assert MixtureDisplay.from_estimator(mixture, X).X.shape == (400, 2)
    assert MixtureDisplay.from_estimator(mixture, X, features=(1, 2)).X.shape == (600, 2)


def test_convergence_shows_the_history(mixture):
    display = ConvergenceDisplay.from_estimator(mixture)
    np.testing.assert_array_equal(display.line_.get_ydata(), np.asarray(mixture.lower_bounds_, float))
    assert display.line_.get_xdata()[-1] == mixture.n_iter_
    assert "(nats)" in display.ax_.get_ylabel()
    gap = ConvergenceDisplay.from_estimator(mixture, kind="gap", ax=display.figure_.add_subplot())
    assert gap.ax_.get_yscale() == "log"
    assert gap.figure_ is display.figure_


def test_convergence_marks_falls_and_names_restarts():
    display = ConvergenceDisplay([-3, -2, -2.5, -1], stop_reason="max_iter", restarts=[4]).plot()
    assert display.falls_.get_xdata().tolist() == [3]
    assert "re-seeded components: 4" in display.note_.get_text().replace("\n", " ")


def test_several_fits_on_one_axes_differ_in_colour():
    first = ConvergenceDisplay([-3, -2]).plot(label="one")
    second = ConvergenceDisplay([-3, -1]).plot(first.ax_, label="two")
    assert first.line_.get_color() != second.line_.get_color()
    assert [text.get_text() for text in second.ax_.get_legend().get_texts()] == ["one", "two"]


def test_responsibilities_are_those_of_the_rows(mixture, blobs):
    X = blobs[0]
    display = ResponsibilitiesDisplay.from_estimator(mixture, X)
    np.testing.assert_allclose(display.responsibilities, mixture.predict_proba(X))
    np.testing.assert_array_equal(display.labels, mixture.predict(X))
    assert np.all(np.diff(display.labels[display.order]) >= 0)
    assert len(display.bars_) == len(mixture.weights_) + 1
    points = ResponsibilitiesDisplay.from_estimator(mixture, X, kind="points", features=(0, 2), max_points=200)
    assert points.X.shape == (200, 2)
    named = GaussianMixture(3, random_state=0).fit(pd.DataFrame(X, columns=["a", "b", "c"]))
    ResponsibilitiesDisplay.from_estimator(named, pd.DataFrame(X, columns=["a", "b", "c"]))  # and no warning
    largest = points.points_.get_sizes()
    assert np.all(np.diff(largest) >= 0)  # the unsure are larger, and on top


def test_responsibilities_leave_the_rest_to_the_noise(noisy):
    mixture, X = noisy
    display = ResponsibilitiesDisplay.from_estimator(mixture, X, max_points=len(X))
    np.testing.assert_array_equal(display.labels == -1, mixture.predict(X) == -1)
    np.testing.assert_allclose(display.noise, 1 - mixture.predict_proba(X).sum(axis=1), atol=1e-6)
    assert display.labels[display.order][-1] == -1
    assert display.ax_.get_xticklabels()[-1].get_text() == "noise"


def test_colours_differ_for_thirty_two_components_and_then_repeat():
    colours = component_colours(40)
    assert len(np.unique(colours[:32], axis=0)) >= 31  # black has no darker shade
    np.testing.assert_array_equal(colours[32:], colours[:8])
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_a_figure_of_its_own_is_written_and_shown_by_notebooks_without_pyplot():
    code = """
import sys, fastgmm.plot
assert "matplotlib" not in sys.modules
display = fastgmm.plot.MixtureDisplay([1.0], [[0, 0]], [[[1, 0], [0, 1]]]).plot(kind="density")
assert display._repr_png_()[:4] == b"\\x89PNG"
print("matplotlib.pyplot" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_axes_of_the_caller_are_used_and_shown_by_the_caller():
    display = MixtureDisplay([1.0], [[0.0]], [[[1.0]]]).plot()
    buffer = io.BytesIO()
    display.figure_.savefig(buffer, format="pdf")
    assert buffer.getvalue()[:4] == b"%PDF"
    again = MixtureDisplay([1.0], [[0.0]], [[[1.0]]]).plot(display.ax_)
    assert again.ax_ is display.ax_
    assert again._repr_png_() is None


def test_matplotlib_missing_is_named_with_its_remedy(monkeypatch, noisy):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (
        lambda: MixtureDisplay.from_estimator(noisy[0]),
        lambda: ConvergenceDisplay.from_estimator(noisy[0]),
        lambda: ResponsibilitiesDisplay.from_estimator(*noisy),
        lambda: ConvergenceDisplay([1.0]).plot(),
    ):
        with pytest.raises(ImportError, match=r"pip install 'fastgmm\[plot\]'"):
            draw()


def test_what_cannot_be_drawn_is_refused_in_words(noisy):
    mixture, X = noisy
    draw = MixtureDisplay.from_estimator
    for display in (draw, ConvergenceDisplay.from_estimator, lambda m: ResponsibilitiesDisplay.from_estimator(m, X)):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            display(GaussianMixture(2))
        with pytest.raises(TypeError, match=r"Got int; fastgmm\.from_sklearn"):
            display(3)
    for settings, words in (
        ({"features": (0, 3)}, "feature 3 is out of range: the mixture has 3 features"),
        ({"features": (0, 1, 2)}, "one feature or two different ones"),
        ({"features": (1, 1)}, "one feature or two different ones"),
        ({"features": ()}, "one feature or two different ones"),
        ({"features": "length"}, "there is no feature 'length': the mixture has no feature names"),
        ({"features": (0.5, 1)}, r"column indices or names\. Got 0\.5"),
        ({"kind": "contours"}, "kind must be 'ellipses' or 'density'"),
        ({"levels": (0.5, 1)}, "levels must be shares between 0 and 1"),
        ({"max_points": 0}, "max_points must be an int of at least 1"),
        ({"feature_names": ["one"]}, "feature_names must be 2 names"),
    ):
        with pytest.raises(ValueError, match=words):
            draw(mixture, X, **settings)
    with pytest.raises(ValueError, match="X has 2 features, but GaussianMixture is expecting 3"):
        draw(mixture, X[:, :2])
    with pytest.raises(ValueError, match="kind='points' needs two features"):
        ResponsibilitiesDisplay.from_estimator(mixture, X, kind="points", features=0)
    unfitted = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    with pytest.raises(ValueError, match="no history of iterations"):
        ConvergenceDisplay.from_estimator(unfitted)


def test_data_of_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"means must have shape .* Got \(1, 3\)"):
        MixtureDisplay([1.0], np.zeros((1, 3)), np.eye(3)[None])
    with pytest.raises(ValueError, match="weights and covariances must have shapes"):
        MixtureDisplay([1.0], [[0.0, 0.0]], np.eye(3)[None])
    with pytest.raises(ValueError, match=r"X must have shape \(n_rows, 1\)"):
        MixtureDisplay([1.0], [[0.0]], [[[1.0]]], X=[[0.0, 1.0]])
    with pytest.raises(ValueError, match="sum to at most 1"):
        ResponsibilitiesDisplay([[0.9, 0.9]])
    with pytest.raises(ValueError, match="needs two features of the rows"):
        ResponsibilitiesDisplay([[0.5, 0.5]]).plot(kind="points")
    with pytest.raises(ValueError, match="lower_bounds must be"):
        ConvergenceDisplay([])
