"""What a host would wait for is seen where nothing is waited for."""

import pytest
import torch

from specverify.waits import Waits


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (lambda x: x.tolist(), "Tensor.tolist"),
        (lambda x: x.cpu(), "Tensor.cpu"),
        (lambda x: x.numpy(), "Tensor.numpy"),
        (lambda x: int(x[0]), "aten::_local_scalar_dense"),
        (lambda x: x[x > 1], "aten::index"),
        (lambda x: x.clone().masked_fill_(x > 1, 0)[x > 1], "aten::index"),
        (lambda x: x.clone().__setitem__(x > 1, 0), "aten::index_put_"),
        (lambda x: x.masked_select(x > 1), "aten::masked_select"),
        (lambda x: x.unique(), "aten::_unique2"),
        (lambda x: x.repeat_interleave(x), "aten::repeat_interleave"),
        (lambda x: torch.where(x > 1), "aten::nonzero"),
        (lambda x: torch.allclose(x, x), "aten::allclose"),
    ],
)
def test_what_waits_is_seen_on_a_cpu(read, named):
    x = torch.arange(4)
    with Waits() as watch:
        read(x)
    assert watch.seen == {named: 1}


def test_what_does_not_wait_is_not_seen():
    x = torch.arange(4)
    with Waits() as watch:
        x.masked_fill(x > 1, 0)[x]
        x[:, None].expand(4, 2).repeat_interleave(2, 0).double()
        x.repeat_interleave(x, output_size=6)
        torch.where(x > 1, x, 0)
        x.clone()[1] = 2
    assert not watch.seen
