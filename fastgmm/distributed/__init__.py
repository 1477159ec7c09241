"""Fits whose rows workers hold or read: Dask clusters, and pools of processes or machines.

Every iteration sends the parameters to each part of the rows and adds up the statistics that come back, in a fixed
order: the results do not depend on the number of workers, on who computes what, or on what must be computed twice.
"""

from .sources import distribute

__all__ = ["distribute"]
