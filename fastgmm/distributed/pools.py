"""Any `concurrent.futures.Executor`: processes, MPI ranks, Ray actors, threads."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any

import numpy as np

from ..exceptions import WorkerError
from .worker import compute

RETRIES = 3
AHEAD = 4  # tasks per worker under way: enough to keep them busy, and few parts in memory at a time


class PoolRunner:
    """Runs tasks on an executor; tasks that fail for want of a file, a connection or a machine are repeated."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        n_workers = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        self._ahead = AHEAD * int(n_workers)

    def __call__(
        self, parts: Sequence[Any], dtype: np.dtype[Any], common: bytes, own: Iterator[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """Yield the results in the order of the parts."""
        waiting: deque[tuple[Future[Any], tuple[Any, ...]]] = deque()
        try:
            for part, values in zip(parts, own, strict=True):
                call = (part, dtype, common, values)
                waiting.append((self._executor.submit(compute, *call), call))
                if len(waiting) == self._ahead:
                    yield self._result(*waiting.popleft())
            while waiting:
                yield self._result(*waiting.popleft())
        except BrokenExecutor as error:
            raise WorkerError(
                f"A worker died, and the executor cannot replace it ({type(error).__name__}: {error}). Repeat the call "
                "with a new executor, a fit with checkpoint=PATH and resume=True; Dask replaces workers by itself. In "
                "a script, start processes under `if __name__ == '__main__':`."
            ) from error
        except RuntimeError as error:
            if "shutdown" not in str(error):  # "cannot schedule new futures after shutdown"
                raise
            raise WorkerError(
                f"The executor is shut down ({error}). Repeat the call with a new one, a fit with checkpoint=PATH and "
                "resume=True."
            ) from error
        finally:
            for future, _ in waiting:
                future.cancel()

    def _result(self, future: Future[Any], call: tuple[Any, ...]) -> Any:
        for _ in range(RETRIES):
            try:
                return future.result()
            except (OSError, EOFError, CancelledError):
                future = self._executor.submit(compute, *call)
        return future.result()
