"""Which settings of `GaussianMixture` do not go together; tests/test_combinations.py holds the README's table to it."""

from collections.abc import Mapping

# (one setting, another, why they do not go together). A setting is a parameter's value, or a property of the data.
CONFLICTS: tuple[tuple[str, str, str], ...] = (
    ("acceleration", "solver='hard'", "acceleration is built from EM's own steps; set solver='em'."),
    ("acceleration", "solver='annealed'", "acceleration is built from EM's own steps; set solver='em'."),
    ("acceleration", "solver='stepwise'", "acceleration is built from EM's own steps; set solver='em'."),
    ("acceleration", "solver='gradient'", "acceleration is built from EM's own steps; set solver='em'."),
    ("acceleration", "noise", "accelerated steps do not move the weight of the noise; set acceleration=None."),
    ("acceleration", "fixed weights", "accelerated steps change all weights together; set acceleration=None."),
    ("acceleration", "covariance_floor", "accelerated steps do not know of the floor; set acceleration=None."),
    ("acceleration", "on_singular='restart'", "a re-seeded component is no step of EM; set acceleration=None."),
    ("acceleration", "on_singular='regularize'", "accelerated steps do not know of the floor; set acceleration=None."),
    (
        "solver='annealed'",
        "missing values",
        "tempered densities of rows with gaps do not factor; set solver='em'.",
    ),
    ("solver='stepwise'", "on_singular='restart'", "its statistics would forget the new place; use 'regularize'."),
    ("solver='gradient'", "on_singular='restart'", "gradient ascent has no M-step to mend; use solver='em'."),
    ("solver='gradient'", "on_singular='regularize'", "gradient ascent has no M-step to mend; use solver='em'."),
    ("solver='gradient'", "covariance_floor", "its parameters are unconstrained; pass a prior instead."),
    ("fixed means", "on_singular='restart'", "a fixed component cannot be put elsewhere; use 'regularize'."),
    ("fixed covariances", "on_singular='restart'", "a fixed component cannot be put elsewhere; use 'regularize'."),
)


def check_combinations(active: Mapping[str, bool]) -> None:
    """Raise ValueError for the first two active settings that do not go together, with the reason."""
    for one, other, reason in CONFLICTS:
        if active.get(one) and active.get(other):
            raise ValueError(f"{one} and {other} do not go together: {reason}")
