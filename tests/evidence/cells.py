"""Samples on a line as counts between edges, for laws that have no density."""

import numpy as np
import torch


def binned(samples, edges, distribution):
    """Counts, and what the target expects there: the arguments of `TotalVariation`.

    A point mass falls into the cell that ends there; the outermost cells reach to infinity.
    """
    below = np.concatenate([[0.0], distribution(edges[:, None])[:, 0], [1.0]])
    counts = np.bincount(np.searchsorted(edges, torch.as_tensor(samples).numpy()), minlength=len(edges) + 1)
    return counts, np.diff(below)
