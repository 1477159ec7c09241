"""What runs on the workers."""

from typing import Any

import numpy as np

from ..rows.distributed import compute_part
from ..rows.source import Source
from ..threads import thread_limit


def compute(part: Source, dtype: np.dtype[Any], common: bytes, own: tuple[Any, ...]) -> Any:
    """Do a task with a part of the rows, on one thread: there are as many tasks as the workers can run."""
    with thread_limit(1):
        return compute_part(part, dtype, common, own)
