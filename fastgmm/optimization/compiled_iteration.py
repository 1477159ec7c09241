"""Plain EM, in compiled code where the problem is small."""

from ..model.expectation import Expectation
from ..model.parameters import MixtureParameters
from .convergence import ConvergenceMonitor
from .em import EMIteration, MStep
from .problem import MixtureProblem


class CompiledIteration(EMIteration):
    """Plain EM, whose iterations compiled code does as far as it can; of others, and large problems, Python does."""

    def __init__(
        self, expectation: Expectation, parameters: MixtureParameters, maximise: MStep, problem: MixtureProblem
    ) -> None:
        super().__init__(expectation, parameters, maximise)
        self._compiled = problem.compiled if maximise is problem.maximise else None
        self._known: tuple[MixtureParameters, float | None] | None = None  # a mixture and its log-likelihood

    def log_likelihood(self) -> float | None:
        """The log-likelihood of the parameters of a small problem; None where a row is out of range."""
        if self._compiled is None:
            return None
        if self._known is None or self._known[0] is not self.parameters:
            found = self._compiled.iterate(self.parameters, 0, 0.0, 0.0, evaluates=True)
            self._known = self.parameters, found.log_likelihood
        return self._known[1]

    def advance(self, monitor: ConvergenceMonitor) -> str | None:
        """Do one iteration: `EMIteration.advance`."""
        return self._advance(monitor, 1, evaluates=False)

    def advance_far(self, monitor: ConvergenceMonitor, most: int) -> str | None:
        """Do at least one and at most `most` iterations."""
        return self._advance(monitor, most, evaluates=True)

    def _advance(self, monitor: ConvergenceMonitor, most: int, evaluates: bool) -> str | None:
        if self._compiled is None:
            return super().advance(monitor)
        most = min(most, self._compiled.steps_per_call)
        found = self._compiled.iterate(self.parameters, most, monitor.tol, monitor.lower_bound, evaluates)
        self.parameters, reason = found.parameters, None
        self._known = (self.parameters, found.log_likelihood) if evaluates else None
        for bound in found.bounds:
            reason = monitor.update(bound)
        return super().advance(monitor) if found.is_left else reason
