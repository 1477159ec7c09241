"""Reading ahead of what computes."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 2  # blocks
PATIENCE = 5.0  # seconds


class Prefetched(Generic[T]):
    """Items of an iterator, of which up to `depth` are made by another thread before they are asked for.

    The thread ends whenever enough is ready and begins anew when something was taken, so that a consumer that stops
    early, or fails, leaves none behind. An exception of the iterator reaches the consumer in the place of the item.
    """

    def __init__(self, items: Iterator[T], depth: int = DEPTH) -> None:
        self._items, self._depth = items, depth
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._ended = False

    def __iter__(self) -> "Prefetched[T]":
        return self

    def __next__(self) -> T:
        with self._changed:
            self._start()
            while not self._ready and not self._ended:
                self._changed.wait()
            if self._ready:
                item = self._ready.popleft()
                self._start()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Stop reading, wait for the thread a while, and close the iterator.

        A thread that is stuck in reading ends by itself when that ends.
        """
        with self._changed:
            self._ended = True
            thread = self._thread
        if thread is not None and thread.ident is not None:
            thread.join(PATIENCE)
            if thread.is_alive():
                return
        close = getattr(self._items, "close", None)
        if close is not None:
            close()
        self._ready.clear()

    def _start(self) -> None:
        """Begin to read if nobody does and there is room; called with the lock held."""
        if self._thread is None and not self._ended and len(self._ready) < self._depth:
            self._thread = threading.Thread(target=self._read, name="fastgmm-prefetch", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # there can be no more threads; an interrupt comes when this one may run already
                self._thread = None
                raise

    def _read(self) -> None:
        while True:
            item: list[T] = []  # which also lets go of the one before
            error: BaseException | None = None
            try:
                item.append(next(self._items))
            except StopIteration:
                pass
            except BaseException as caught:
                error = caught
            with self._changed:
                if item:
                    self._ready.extend(item)
                else:
                    self._ended, self._error = True, error
                stops = self._ended or len(self._ready) >= self._depth
                if stops:
                    self._thread = None
                self._changed.notify_all()
                if stops:
                    return
