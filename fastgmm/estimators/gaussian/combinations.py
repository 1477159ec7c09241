"""Which settings of `GaussianMixture` do not go together; `python -m tests.combinations` writes the README's table."""

from collections.abc import Mapping

from ...optimization.solvers import SOLVERS

ACCELERATION = {
    "noise": "accelerated steps do not move the weight of the noise; set acceleration=None.",
    "fixed weights": "accelerated steps change all weights together; set acceleration=None.",
    "covariance_floor": "accelerated steps do not know of the floor; set acceleration=None.",
    "on_singular='restart'": "a re-seeded component is no step of EM; set acceleration=None.",
    "on_singular='regularize'": "accelerated steps do not know of the floor; set acceleration=None.",
}
EM_ALONE = "acceleration is built from EM's own steps; set solver='em'."
HELD = "a fixed component cannot be put elsewhere; use 'regularize'."
# (one setting, another, why they do not go together). A setting is a parameter's value, or a property of the data.
CONFLICTS: tuple[tuple[str, str, str], ...] = (
    *(("acceleration", solver.setting, EM_ALONE) for solver in SOLVERS.values() if not solver.accelerations),
    *(("acceleration", other, reason) for other, reason in ACCELERATION.items()),
    *((solver.setting, other, reason) for solver in SOLVERS.values() for other, reason in solver.conflicts.items()),
    ("fixed means", "on_singular='restart'", HELD),
    ("fixed covariances", "on_singular='restart'", HELD),
)


def check_combinations(active: Mapping[str, bool]) -> None:
    """Raise ValueError for the first two active settings that do not go together, with the reason."""
    for one, other, reason in CONFLICTS:
        if active.get(one) and active.get(other):
            raise ValueError(f"{one} and {other} do not go together: {reason}")
