"""Claims: what can be claimed, and how it reads."""

import math
import re

import pytest

from specverify.claims import ClusterLossless, Lossless, Relaxed
from specverify.errors import InputError


def test_claims_read_as_what_they_say():
    assert str(Lossless()) == "lossless"
    assert str(ClusterLossless(((0, 2), (1,)))) == "cluster-lossless(2 clusters)"
    assert [str(Relaxed(tv)) for tv in (0, 0.25, 1)] == ["relaxed(tv<=0)", "relaxed(tv<=0.25)", "relaxed(tv<=1)"]
    assert str(Relaxed(1 - 1e-8)) == "relaxed(tv<=0.99999999)"


def test_claims_are_values():
    assert Lossless() == Lossless() != Relaxed(0.0)
    assert len({Relaxed(0.5), Relaxed(0.5), ClusterLossless(((0,),)), ClusterLossless(((0,),))}) == 2


@pytest.mark.parametrize("partition", [(), ((),), ((0, 1), (1, 2)), ((0,), (2,)), ((1, 2),), ((-1, 0),)])
def test_clusters_that_are_no_partition_are_refused(partition):
    with pytest.raises(InputError, match=re.escape(f"{partition} is no partition of token ids 0..V-1")):
        ClusterLossless(partition)


@pytest.mark.parametrize("tv", [-0.1, 1.5, math.nan, math.inf])
def test_distances_outside_the_unit_interval_are_refused(tv):
    with pytest.raises(InputError, match=re.escape(f"Relaxed(tv={tv}): a total variation lies between 0 and 1")):
        Relaxed(tv)
