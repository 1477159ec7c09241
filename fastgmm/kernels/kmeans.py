"""k-means for starting values: greedy k-means++ seeding and Lloyd's iterations on blocks of a transposed sample.

`blocks` is (n_blocks, n_features, block), features padded to a multiple of four and rows to whole blocks, with zeros:
points are the vector lane. Padding rows have weight 0. Row i of the sample is blocks[i // block, :, i % block].
"""

import numpy as np

from ._compile import jit
from .portable.spherical import compute_two_distances


@jit(entry=True)
def compute_closest_candidates(blocks, sample_weight, candidates, closest, distances, potentials):
    """distances[c] = min(closest, squared distance to candidate c); potentials[c] = its weighted sum.

    candidates: (n_candidates, n_features); closest: (n_rows,); distances: (n_candidates, n_rows), overwritten.
    """
    n_candidates, size = distances.shape[0], blocks.shape[2]
    spare = np.empty(size, blocks.dtype)
    for c in range(n_candidates):
        potentials[c] = 0
    for b in range(blocks.shape[0]):
        first, last = b * size, (b + 1) * size
        best, weight = closest[first:last], sample_weight[first:last]
        for c in range(0, n_candidates, 2):
            partner = min(c + 1, n_candidates - 1)
            second = distances[partner, first:last] if partner > c else spare
            compute_two_distances(blocks[b], candidates[c], candidates[partner], distances[c, first:last], second)
        for c in range(n_candidates):
            out = distances[c, first:last]
            s = 0.0
            for p in range(size):
                value = out[p] if out[p] < best[p] else best[p]
                out[p] = value
                s += weight[p] * value
            potentials[c] += s


@jit(entry=True)
def assign_labels(blocks, centers, labels, distance, second):
    """labels[i] = the first nearest centre, distance[i] = its squared distance, second[i] = that of the next nearest.

    All (n_rows,), overwritten; second is infinite for a single centre.
    """
    n_centers, size = centers.shape[0], blocks.shape[2]
    to_first, to_second = np.empty(size, blocks.dtype), np.empty(size, blocks.dtype)
    for b in range(blocks.shape[0]):
        rows = slice(b * size, (b + 1) * size)
        best, runner_up, label = distance[rows], second[rows], labels[rows]
        best[:] = np.inf
        runner_up[:] = np.inf
        label[:] = 0
        for k in range(0, n_centers, 2):
            compute_two_distances(blocks[b], centers[k], centers[min(k + 1, n_centers - 1)], to_first, to_second)
            if k + 1 == n_centers:  # an odd last centre has no partner
                to_second[:] = np.inf
            for p in range(size):
                from_first, from_second = to_first[p], to_second[p]
                low = from_first if from_first <= from_second else from_second
                high = from_second if from_first <= from_second else from_first
                closer = k if from_first <= from_second else k + 1
                beaten = low if best[p] < low else best[p]
                high = high if high <= runner_up[p] else runner_up[p]
                runner_up[p] = beaten if beaten <= high else high
                label[p] = closer if low < best[p] else label[p]
                best[p] = low if low < best[p] else best[p]


@jit(entry=True)
def accumulate_clusters(blocks, sample_weight, labels, sums, counts):
    """Add the weighted rows of every cluster into sums (n_clusters, n_features) and their weights into counts."""
    size = blocks.shape[2]
    for b in range(blocks.shape[0]):
        label, weight = labels[b * size : (b + 1) * size], sample_weight[b * size : (b + 1) * size]
        for p in range(size):
            counts[label[p]] += weight[p]
        for d in range(blocks.shape[1]):
            row = blocks[b, d]
            for p in range(size):
                sums[label[p], d] += weight[p] * row[p]
