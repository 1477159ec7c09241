"""From rows and an executor to a source whose parts the executor's workers look at."""

import pickle
from concurrent.futures import Executor
from typing import Any

from ..exceptions import InvalidParameterError
from ..rows.distributed import DistributedSource
from ..rows.open import is_count, open_source
from ..rows.slices import DaskReader
from ..rows.source import ArraySource, Source, rows_per_part
from ..rows.streams import StreamSource
from . import clusters
from .pools import PoolRunner


def distribute(data: Any, executor: Any = None, *, rows: int | None = None) -> Source:
    """Return rows as a source whose parts are looked at by workers, which every estimator accepts for an array.

    `fit(X, executor=...)` does this by itself; here it is for the option, and for what takes no executor, as
    `score` and `predict`.

    Parameters
    ----------
    data : array-like, path, list of paths, Dask collection, or what `open_source` returns
        Dask arrays and frames are used as they lie, each block or partition a part: call `persist()` first where they
        fit into the memory of the workers, or every iteration computes them anew. `.npy` files, Parquet files (between
        row groups), CSV files (each as a whole) and Zarr arrays are read by the workers, in the parts, in every
        iteration. An array in memory is sent to a Dask cluster once, and to other executors with every task.
    executor : dask.distributed.Client, concurrent.futures.Executor or None
        None takes the active Dask client. Workers need fastgmm and see the same files. Each task takes one thread, so
        give a worker as many threads (Dask), or as many workers (pools), as it has processors.
    rows : int, optional
        Rows of a part; by default 1/32 of them, at most 64 MiB. Not for Dask collections. Results are the same bits
        for the same parts, whatever the workers; between other parts they differ by rounding, as between chunks.

    Raises
    ------
    TypeError
        For an executor that is none of these, and for data that other processes cannot read in parts.
    WorkerError
        By the fit, if a pool loses a worker that it cannot replace. Dask repeats what a lost worker had to do.
    """
    if rows is not None and not is_count(rows):
        raise InvalidParameterError(f"rows must be a positive int or None. Got {rows!r}.")
    client = executor if clusters.is_client(executor) else None
    if executor is None:
        client = clusters.active_client()
        if client is None:
            raise TypeError("There is no active Dask client; give one, or a concurrent.futures.Executor, as executor.")
    elif client is None and not isinstance(executor, Executor):
        raise TypeError(
            f"executor must be a dask.distributed.Client or a concurrent.futures.Executor. Got "
            f"{type(executor).__name__}."
        )
    source = open_source(data)
    if isinstance(source, DistributedSource):
        return source
    if isinstance(source, StreamSource) and isinstance(source.reader, DaskReader):
        return _distribute_dask(source, client, rows)
    n_rows = None if rows is None else int(rows)
    if client is not None and isinstance(source, ArraySource):
        size = n_rows or rows_per_part(source.n_samples, source.n_features, source.dtype)
        return clusters.distribute_array(source, client, size)
    parts = source.split(n_rows)
    try:
        pickle.dumps(parts[0])
    except Exception as error:
        raise TypeError(f"{type(data).__name__} cannot be sent to workers: {error}. Give files or arrays.") from error
    runner = PoolRunner(executor) if client is None else clusters.ClusterRunner(client, source.input_dtype)
    counts = [count for part in parts if (count := part.known_n_samples) is not None]
    return DistributedSource(parts, runner, source, counts if len(counts) == len(parts) else None)


def distribute_if_asked(data: Any, executor: Any) -> Any:
    """`distribute` where there is an executor, or where the rows are Dask's and it has workers; else the data."""
    if executor is None and (type(data).__module__.split(".")[0] != "dask" or clusters.active_client() is None):
        return data
    return distribute(data, executor)


def _distribute_dask(source: StreamSource, client: Any, rows: int | None) -> DistributedSource:
    if client is None:
        raise TypeError("Dask arrays and frames need a dask.distributed.Client as executor.")
    if rows is not None:
        raise ValueError("The parts of a Dask collection are its blocks; rechunk it instead of giving rows.")
    if source.on_bad == "skip":
        raise ValueError("on_bad='skip' is not for Dask on workers; leave bad rows out with Dask, as by dropna().")
    return clusters.distribute_blocks(source, client)
