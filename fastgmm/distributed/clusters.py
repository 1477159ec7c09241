"""Dask clusters. This module knows Dask."""

import asyncio
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, wait
from typing import Any

import numpy as np

from ..exceptions import WorkerError
from ..rows.distributed import DistributedSource
from ..rows.slices import DaskReader, block_values
from ..rows.source import ArraySource, Source
from ..rows.streams import StreamSource
from .worker import compute

RETRIES = 3  # of a task that raises; tasks of a worker that is lost are computed elsewhere by the scheduler anyway
GATHERED = 64  # results that are fetched at a time
CONNECT_SECONDS = 10.0
POLL_SECONDS, WORKERLESS_SECONDS = 2.0, 60.0  # how often workers are looked for, and how long none is waited for
SILENT_SECONDS = 30.0  # how long the scheduler may take to say how many there are
RESUME = "go on with checkpoint=PATH and resume=True if the fit wrote checkpoints"


def active_client() -> Any:
    """Return the Dask client that this process works with, or None; imports nothing."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:  # there is none
        return None


def is_client(executor: Any) -> bool:
    """Whether it is a Dask client."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(executor, distributed.Client)


def connect(address: str) -> Any:
    """Return a client of the scheduler at this address, such as tcp://host:8786; ConnectionError if none answers."""
    try:
        from dask.distributed import Client
    except ImportError:
        raise ImportError("Dask clusters need dask: pip install 'fastgmm[dask]'") from None
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(f"There is no Dask scheduler at {address!r}: {error}") from error


class ClusterRunner:
    """Runs tasks on the workers of a Dask cluster.

    A task is a pure function of a part and of what it is sent, which are in its graph, and returns statistics: nothing
    that could be lost with a worker lives on one alone.

    Parameters
    ----------
    client : dask.distributed.Client
    dtype : dtype
        Of the values of the parts, before they are read as float32 or float64.
    collection : object, optional
        What holds the blocks that the parts are: workers keep them in memory as long as somebody does.
    """

    def __init__(self, client: Any, dtype: np.dtype[Any], collection: Any = None) -> None:
        self._client, self._dtype, self._collection = client, dtype, collection

    def __call__(
        self, parts: Sequence[Any], dtype: np.dtype[Any], common: bytes, own: Iterator[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """Yield the results in the order of the parts."""
        import dask

        call = dask.delayed(_compute_block, pure=False)
        shared = dask.delayed(common, pure=False)  # a task of its own, so that it travels once to each worker
        calls = [
            call(_packed(part), self._dtype, dtype, shared, pickle.dumps(values) if values else b"")
            for part, values in zip(parts, own, strict=True)
        ]
        self._check_open()
        futures = self._client.compute(calls, retries=RETRIES)
        try:
            for first in range(0, len(futures), GATHERED):
                yield from self._gathered(futures[first : first + GATHERED])
        except WorkerError:
            raise  # nobody is left who could be told to stop
        except BaseException:
            if self._client.status == "running":
                self._client.cancel(futures)
            raise

    def _gathered(self, futures: list[Any]) -> list[Any]:
        """Return results; WorkerError where they cannot come any more, within a bounded time.

        They are waited for in the loop of the client, and this thread looks after the cluster meanwhile: a host whose
        network is cut closes no connection.
        """
        coroutine = self._client.gather(futures, asynchronous=True)
        pending = asyncio.run_coroutine_threadsafe(coroutine, self._client.loop.asyncio_loop)
        alone_since = None
        try:
            while not wait([pending], POLL_SECONDS).done:
                if self._count_workers():
                    alone_since = None
                elif alone_since is None:
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > WORKERLESS_SECONDS:
                    raise WorkerError(
                        f"The cluster has had no worker for {WORKERLESS_SECONDS:g} s. Start some, and {RESUME}."
                    )
            return list(pending.result())
        except WorkerError:
            raise
        except Exception as error:
            self._explain(error)
            raise
        finally:
            pending.cancel()

    def _count_workers(self) -> int:
        """Ask the scheduler how many workers there are; WorkerError if it is gone or does not answer."""
        self._check_open()
        try:
            answer = self._client.sync(self._client.scheduler.identity, callback_timeout=SILENT_SECONDS)
        except (OSError, TimeoutError) as error:  # Dask's CommClosedError is an OSError
            self._check_open(error)
            raise WorkerError(
                f"The Dask scheduler at {self._client.scheduler.address} is gone, or has not answered for "
                f"{SILENT_SECONDS:g} s. See to it and to the network, connect again, and {RESUME}."
            ) from error
        return int(answer.get("n_workers", len(answer["workers"])))  # older releases send them all

    def _explain(self, error: Exception) -> None:
        """Raise WorkerError for an error that is of the cluster, not of the task."""
        from dask.distributed import KilledWorker, comm

        self._check_open(error)
        if isinstance(error, KilledWorker):
            raise WorkerError(
                f"Workers died again and again over the same rows, perhaps of too little memory ({error}). Give them "
                f"more, or smaller parts, and {RESUME}."
            ) from error
        if isinstance(error, (CancelledError, comm.CommClosedError)):
            raise WorkerError(
                f"The Dask scheduler was out of reach, or forgot the tasks ({' '.join(str(error).split())}). Repeat "
                f"the call, or {RESUME}."
            ) from error

    def _check_open(self, cause: Exception | None = None) -> None:
        """Raise WorkerError unless the client is connected with a scheduler."""
        if self._client.status != "running":
            raise WorkerError(
                f"The Dask client is {self._client.status}, so that the rows on its workers cannot be reached. Connect "
                f"again, and {RESUME}."
            ) from cause


def _packed(part: Any) -> Any:
    """Pack a source: a worker that cannot open its file while it receives tasks would lose its connection, and end."""
    return pickle.dumps(part) if isinstance(part, Source) else part


def _compute_block(part: Any, own_dtype: np.dtype[Any], dtype: np.dtype[Any], common: bytes, own: bytes) -> Any:
    # A block that came from another worker may lie anywhere in memory; unaligned it would be read in other portions.
    if isinstance(part, bytes):
        source: Source = pickle.loads(part)
    else:
        source = ArraySource(np.require(block_values(part, own_dtype), None, ["C", "A"]))
    return compute(source, dtype, common, pickle.loads(own) if own else ())


def distribute_blocks(source: StreamSource, client: Any) -> DistributedSource:
    """Spread a Dask array or frame as it lies: each block or partition is a part."""
    assert isinstance(source.reader, DaskReader)
    blocks, counts = source.reader.blocks()
    return DistributedSource(blocks, ClusterRunner(client, source.input_dtype, source.reader), source, counts)


def distribute_array(source: ArraySource, client: Any, n_rows: int) -> DistributedSource:
    """Send an array in memory to the workers, once, in parts."""
    import dask.array

    blocks = client.persist(dask.array.from_array(source.X, chunks=(n_rows, source.n_features)))
    runner = ClusterRunner(client, source.input_dtype, blocks)
    return DistributedSource(list(blocks.to_delayed()[:, 0]), runner, source, list(blocks.chunks[0]))
