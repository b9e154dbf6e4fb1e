"""Grouped speculative decoding over a partition of the vocabulary (GSD's static form, arXiv 2508.07747).

With p'(C) and q'(C) the masses of a cluster, a draft x is kept with probability min(1, p'(C(x)) / q'(C(x))): as often
as the token rule would keep its cluster. What replaces a rejected draft decides what is guaranteed:

    token    from (p - q)+, as published: the least total variation that this acceptance allows, but the clusters'
             masses are not those of p'
    cluster  C from (p' - q')+, then a token from p given C: the clusters' masses are exactly p', whatever q is. Inside
             a cluster that was accepted the law is that of q, so that the token law is off by
             sum_C min(p'(C), q'(C)) TV(p(.|C), q(.|C))

Over whole sequences, the second says more only of a model whose cluster masses depend on the earlier tokens through
their clusters alone (its clusters *lump*). Then the sequence of clusters is that of autoregressive decoding, and
`ClusterLossless` is true whatever drafts. On any other model the tokens inside a cluster, which come from q, change the
masses of later clusters, and the claim is false in general.

A draft from a one-hot q is kept with probability p'(C(x)); the cluster residual then never returns to C(x).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Claim, ClusterLossless
from specverify.errors import InputError
from specverify.rules.neighbours import check_embedding
from specverify.rules.relaxation import NOTHING, Laws, Rates, Tokens, of_one_law
from specverify.rules.token import accept_probability, residual

Partition = tuple[tuple[int, ...], ...]
Residual = Literal["token", "cluster"]


@dataclass(frozen=True)
class Clusters:
    """GSD over a partition.

    Args:
        partition: clusters of token ids, or Int[vocab] with the cluster of each token. A tensor on the laws' device
            saves a copy at every step.
        residual: from what a rejected draft is replaced.

    Raises:
        InputError: this is no partition, or, when judging, not one of the laws' vocabulary.
    """

    recovers_alike: ClassVar[bool] = True
    partition: Partition | Int[Tensor, " vocab"] = field(repr=False)
    residual: Residual = "token"
    _label: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.residual not in get_args(Residual):
            raise InputError(f"unknown residual {self.residual!r}; choose one of {', '.join(get_args(Residual))}")
        label = labels(self.partition)
        object.__setattr__(self, "_label", label)
        object.__setattr__(self, "partition", clusters_of(label))

    @property
    def claim(self) -> Claim:
        """ClusterLossless with the cluster residual (where the clusters lump, see above); nothing with the token's."""
        return ClusterLossless(clusters_of(self._label)) if self.residual == "cluster" else NOTHING

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""
        label = self._on(p)
        return accept_probability(self._totals(p), self._totals(q), label[draft])

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""
        if self.residual == "token":
            return residual(p, q)
        totals = self._totals(p)
        left = residual(totals, self._totals(q))
        return p * torch.where(totals > 0, left / totals, 0.0).index_select(-1, self._on(p))

    def _totals(self, law: Tensor) -> Tensor:
        """Mass of each cluster, Float[..., clusters]; half precision would lose small tokens in the sum."""
        if of_one_law(law):
            one = self._totals(law[0])
            return one.expand(len(law), *one.shape)
        wide = law.to(torch.promote_types(law.dtype, torch.float32))
        totals = torch.zeros(*law.shape[:-1], len(self.partition), dtype=wide.dtype, device=law.device)
        totals.index_add_(-1, self._on(law), wide)
        return totals.to(law.dtype)

    def _on(self, law: Tensor) -> Tensor:
        if law.shape[-1] != len(self._label):
            raise InputError(
                f"the partition covers {len(self._label)} tokens, but the laws have {law.shape[-1]}; "
                "each token of the vocabulary belongs to one cluster"
            )
        return self._label.to(law.device)


def labels(partition: Sequence[Sequence[int]] | Tensor) -> Int[Tensor, " vocab"]:
    """The cluster of each token, numbered from 0 without gaps.

    Raises:
        InputError: an empty cluster, a token in two clusters or in none, or a tensor that is not Int[vocab].
    """
    if isinstance(partition, Tensor):
        if partition.ndim != 1 or partition.numel() == 0 or partition.dtype != torch.int64:
            raise InputError(
                f"cluster labels of shape {tuple(partition.shape)} and dtype {partition.dtype}; they are int64 [vocab]"
            )
        numbered: Tensor = partition.unique(return_inverse=True)[1]
        return numbered
    members = [token for cluster in partition for token in cluster]
    if not members:
        raise InputError("the partition is empty; each token id belongs to one cluster")
    for number, cluster in enumerate(partition):
        if not cluster:
            raise InputError(f"cluster {number} is empty; leave it out")
    if twice := sorted(token for token, times in Counter(members).items() if times > 1):
        raise InputError(f"token {twice[0]} is in more than one cluster; each token id belongs to exactly one")
    if min(members) < 0:
        raise InputError(f"token id {min(members)} in the partition; ids are at least 0")
    if missing := sorted(set(range(max(members) + 1)) - set(members)):
        raise InputError(f"token {missing[0]} is in no cluster; each id of 0..{max(members)} belongs to one")
    label = torch.empty(len(members), dtype=torch.int64)
    for number, cluster in enumerate(partition):
        label[list(cluster)] = number
    return label


def clusters_of(label: Int[Tensor, " vocab"]) -> Partition:
    """The clusters as tuples of token ids."""
    found: list[list[int]] = [[] for _ in range(int(label.max()) + 1)]
    for token, number in enumerate(label.tolist()):
        found[number].append(token)
    return tuple(map(tuple, found))


def partition_from_embedding(
    embedding: Float[Tensor, "vocab dim"], clusters: int, seed: int = 0
) -> Int[Tensor, " vocab"]:
    """Clusters of tokens that lie close, by k-means (scikit-learn; the best of four starts).

    Args:
        embedding: a row per token, such as an image tokenizer's codebook.
        clusters: how many.
        seed: same seed, same partition.

    Raises:
        InputError: fewer different rows than clusters, or none asked for.
    """
    check_embedding(embedding)
    distinct = len(embedding.unique(dim=0))
    if not 1 <= clusters <= distinct:
        raise InputError(f"{clusters} clusters of {distinct} different rows; ask for 1 to {distinct}")
    from sklearn.cluster import KMeans  # half a second that only this needs

    found = KMeans(clusters, n_init=4, random_state=seed).fit_predict(embedding.double().cpu().numpy())
    return labels(torch.as_tensor(found, dtype=torch.int64)).to(embedding.device)
