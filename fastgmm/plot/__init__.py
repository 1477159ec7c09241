"""Plots of fitted mixtures, in the shape of scikit-learn's Display classes; they need `pip install 'fastgmm[plot]'`.

A display holds the numbers that it draws. `from_estimator` computes and draws them, `plot` draws them again, and what
was drawn are attributes: `ax_`, `figure_` and the artists. Without `ax`, a display draws on a figure of its own that
pyplot knows nothing of: nothing global is touched, no window opens, nothing needs to be closed, and it works in any
thread and without a screen. `display.figure_.savefig(path)` writes it, and a notebook shows the display that is the
value of a cell. For a window, pass `ax=pyplot.gca()` and call `pyplot.show()`.

Examples
--------
>>> import numpy as np
>>> from fastgmm import GaussianMixture
>>> from fastgmm.plot import ConvergenceDisplay, MixtureDisplay
>>> rng = np.random.default_rng(0)
>>> X = np.concatenate([rng.normal(0, 1, (500, 2)), rng.normal(5, 2, (500, 2))])
>>> mixture = GaussianMixture(2, random_state=0).fit(X)
>>> display = MixtureDisplay.from_estimator(mixture, X, levels=(0.5, 0.9))
>>> display.ax_.get_xlabel(), len(display.ellipses_)
('feature 0', 4)
>>> display = ConvergenceDisplay.from_estimator(mixture)
>>> len(display.lower_bounds) == mixture.n_iter_
True
"""

from .convergence import ConvergenceDisplay
from .mixture import MixtureDisplay
from .responsibilities import ResponsibilitiesDisplay

__all__ = ["ConvergenceDisplay", "MixtureDisplay", "ResponsibilitiesDisplay"]
