"""k-means for starting values: greedy k-means++ seeding and Lloyd's iterations on a transposed sample.

`xt` is (n_features, n_samples), features padded to a multiple of four with zeros, so that points are the vector lane.
"""

import numpy as np

from ._compile import jit
from .spherical import compute_squared_distance

BLOCK = 512


@jit()
def compute_closest_candidates(xt, sample_weight, candidates, closest, distances, potentials):
    """distances[c] = min(closest, squared distance to candidate c); potentials[c] = its weighted sum.

    candidates: (n_candidates, n_features); closest: (n_samples,); distances: (n_candidates, n_samples), overwritten.
    """
    n_samples = xt.shape[1]
    for c in range(candidates.shape[0]):
        s = 0.0
        for first in range(0, n_samples, BLOCK):
            last = min(first + BLOCK, n_samples)
            out, best, weight = distances[c, first:last], closest[first:last], sample_weight[first:last]
            compute_squared_distance(xt[:, first:last], candidates[c], out)
            for p in range(out.shape[0]):
                value = out[p] if out[p] < best[p] else best[p]
                out[p] = value
                s += weight[p] * value
        potentials[c] = s


@jit()
def assign_labels(xt, centers, labels, distance):
    """labels[p] = the first nearest centre, distance[p] = its squared distance; both (n_samples,), overwritten."""
    n_samples = xt.shape[1]
    to_center = np.empty(BLOCK, xt.dtype)
    for first in range(0, n_samples, BLOCK):
        last = min(first + BLOCK, n_samples)
        block, best, label = xt[:, first:last], distance[first:last], labels[first:last]
        current = to_center[: last - first]
        best[:] = np.inf
        label[:] = 0
        for k in range(centers.shape[0]):
            compute_squared_distance(block, centers[k], current)
            for p in range(current.shape[0]):
                nearer = current[p] < best[p]
                best[p] = current[p] if nearer else best[p]
                label[p] = k if nearer else label[p]


@jit()
def accumulate_clusters(xt, sample_weight, labels, sums, counts):
    """Add the weighted rows of every cluster into sums (n_clusters, n_features) and their weights into counts."""
    for p in range(labels.shape[0]):
        counts[labels[p]] += sample_weight[p]
    for d in range(xt.shape[0]):
        row = xt[d]
        for p in range(row.shape[0]):
            sums[labels[p], d] += sample_weight[p] * row[p]
