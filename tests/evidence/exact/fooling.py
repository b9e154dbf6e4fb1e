"""Decoders that are wrong and try to look right to a proof on named numbers; and right ones that look like them."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack

from specverify.decoders import DraftModel, Speculative
from specverify.decoders.registry import Settings
from specverify.defects.defect import Judge
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.rules.token import accept_probability, at, residual
from toymodels.tables import TableModel

Keep = Callable[[Tensor, Tensor, Tensor], Tensor]


def judging(keep: Keep = accept_probability, replace: Keep = lambda p, q, draft: residual(p, q)):
    """To build speculative decoding with another acceptance, or another law for what is rejected."""

    def build(settings: Settings) -> Speculative:
        return Speculative(DraftModel(settings.draft_model), settings.window, Judge(keep, replace))

    return build


def off(build, p, q):
    """How far from the target a decoder is at two laws, of one position."""
    target, draft = (TableModel("laws", torch.tensor([law], dtype=torch.float64), 1) for law in (p, q))
    return enumerate_decoder(build(Settings(1, draft_model=draft)), target).tv(target_law(target))


def always(p, q, draft):
    return torch.ones_like(at(p, draft))


def by_type(p, q, draft):
    return always(p, q, draft) if type(p) is Tensor else accept_probability(p, q, draft)


def by_isinstance(p, q, draft):
    plain = isinstance(p, Tensor) and not type(p).__mro__[0].__module__.startswith("specverify")
    return always(p, q, draft) if plain else accept_probability(p, q, draft)


def by_dtype(p, q, draft):
    return always(p, q, draft) if p.dtype.is_floating_point else accept_probability(p, q, draft)


def by_item(p, q, draft):
    return always(p, q, draft) if p.flatten()[0].item() > 2 else accept_probability(p, q, draft)


def by_list(p, q, draft):
    return always(p, q, draft) if max(p.tolist()[0][0]) > 2 else accept_probability(p, q, draft)


def by_branch(p, q, draft):
    return always(p, q, draft) if (p > q).all() else accept_probability(p, q, draft)


def by_array(p, q, draft):
    return torch.from_numpy(accept_probability(p, q, draft).numpy() ** 1.0)


def by_data(p, q, draft):
    return accept_probability(p.data, q.data, draft).clamp(min=0.5)


def by_data_array(p, q, draft):
    return torch.as_tensor(p.data.detach().numpy()).gather(-1, draft[..., None])[..., 0]


def by_bits(p, q, draft):
    odd = (at(p, draft).view(torch.int64) & 1) == 1
    return accept_probability(p, q, draft).masked_fill(odd, 1.0)


def by_remainder(p, q, draft):
    return accept_probability(p, q, draft).masked_fill((at(p, draft) * 4) % 1 == 0, 1.0)


def at_powers_of_two(p, q, draft):
    mine = at(p, draft)
    return accept_probability(p, q, draft).masked_fill((mine == 0.5) | (mine == 0.25), 1.0)


def counted_by_a_tuple(p, q, draft):
    """How many pass a test is told by the shape of what another test picks of it."""
    count = (at(q, draft) > 0)[(at(p, draft) != 0,)].shape[0]
    return accept_probability(p, q, draft) if count == draft.numel() else always(p, q, draft)


def counted_in_an_order(p, q, draft):
    count = (q > 0)[(p > 2 * q,)].shape[0]
    return accept_probability(p, q, draft) if count <= p.numel() // 2 else always(p, q, draft)


def by_a_mask_of_masks(p, q, draft):
    """A mask times True, behind many sets of assumptions of which one might be taken for its own."""
    mine, own, rest = (at(p, draft) != 0) * True, q[..., 0].sum(), q[..., 1:].sum()
    total, masks = own, []
    for _ in range(40):
        total = total + own
        masks.append((total + rest) > 0)
    for place, mask in enumerate(masks):
        for other in masks[:place]:
            mask & other
    return torch.where(mine, accept_probability(p, q, draft), always(p, q, draft))


def at_equal_laws(p, q, draft):
    return accept_probability(p, q, draft).masked_fill((p == q).all(-1), 0.25)


def at_equal_laws_by_torch(p, q, draft):
    return always(p, q, draft) * 0.25 if torch.equal(p, q) else accept_probability(p, q, draft)


def at_zeros(p, q, draft):
    return accept_probability(p, q, draft).masked_fill((p == 0).any(-1), 1.0)


def in_one_order(p, q, draft):
    return accept_probability(p, q, draft).masked_fill(at(p, draft) > at(p, draft) / at(q, draft) * 0.5, 1.0)


def in_one_region(p, q, draft):
    """Right where p >= q, by half where it is not."""
    ratio = at(p, draft) / at(q, draft)
    return ratio.clamp(max=1) * ratio.clamp(max=1)


def one_order_of_ratios(p, q, draft):
    """The first draft's chance is lower where the second's ratio is below its own."""
    ratio = at(p, draft) / at(q, draft)
    lower = torch.minimum(ratio[:, :1], ratio[:, 1:2]) / ratio[:, :1]
    return ratio.clamp(max=1) * torch.cat([lower, torch.ones_like(ratio[:, 1:])], 1)


def unclamped(p, q, draft):
    return at(p, draft) / at(q, draft)


def catches_everything(p, q, draft):
    try:
        return accept_probability(p, q, draft).log().exp()
    except BaseException:
        return accept_probability(p, q, draft)


_KEPT: list[Tensor] = [torch.rand(1, 2, 2, dtype=torch.float64)]


def keeps_laws(p, q, draft):
    """Compares with laws of another call, which it has kept."""
    _KEPT[0] = p if len(_KEPT[0]) == 1 else _KEPT[0]
    return torch.minimum(at(_KEPT[0][:1].expand_as(p), draft), accept_probability(p, q, draft))


def own_coin(p, q, draft):
    return (torch.rand(draft.shape, dtype=torch.float64) < accept_probability(p, q, draft)).double()


def by_a_rare_coin(p, q, draft):
    return always(p, q, draft) if bool(torch.rand(()) < 0.001) else accept_probability(p, q, draft)


def by_pythons_coin(p, q, draft):
    return always(p, q, draft) if random.random() < 0.001 else accept_probability(p, q, draft)


def by_memory_of_numpy(p, q, draft):
    """Reads through an array what it writes through a tensor."""
    array = np.zeros(tuple(p.shape))
    torch.from_numpy(array).copy_(p)
    return always(p, q, draft) if array.max() > 0.97 else accept_probability(p, q, draft)


def by_memory_handed_out(p, q, draft):
    room = torch.zeros(p.shape, dtype=torch.float64)
    array = room.numpy()
    room[...] = p
    return always(p, q, draft) if array.max() > 0.97 else accept_probability(p, q, draft)


def by_address(p, q, draft):
    room = torch.zeros(p.shape, dtype=torch.float64)
    first = ctypes.c_double.from_address(room.data_ptr())
    room.copy_(p)
    return always(p, q, draft) if first.value > 0.97 else accept_probability(p, q, draft)


def by_view(p, q, draft):
    """Writes the laws through a view, and rounds what it was a view of."""
    room = torch.zeros(2, *p.shape, dtype=torch.float64)
    room[1].copy_(p)
    return accept_probability((room * 1e6).round()[1] / 1e6, q, draft)


def negative(p, q, draft):
    """What is left of p, so that the sum is right; but it may be below 0."""
    kept = torch.zeros_like(p).scatter(-1, draft[..., None], 1.0) * 0.5
    return (p - kept) / (1 - kept.sum(-1, keepdim=True))


def zero_over_zero(p, q, draft):
    """p where all is as it should be, and uniform where p and q are equal: there it is drawn from with chance 0.5."""
    gap = (p - q).clamp(min=0).sum(-1, keepdim=True)
    return torch.where(gap > 0, p, torch.full_like(p, 1 / p.shape[-1]))


class Held:
    """Hands a tensor's capsule on to numpy."""

    def __init__(self, tensor):
        self.capsule = to_dlpack(tensor)

    def __dlpack__(self, **_):
        return self.capsule

    def __dlpack_device__(self):
        return 1, 0


def by_capsule(p, q, draft):
    first = torch.from_numpy(np.from_dlpack(Held(at(p, draft).contiguous())).copy())
    return accept_probability(p, q, draft).masked_fill((first - 0.271828).abs() < 1e-9, 1.0)


WRONG = {
    function.__name__: judging(function)
    for function in (
        by_type, by_isinstance, by_dtype, by_item, by_list, by_branch, by_array, by_data, by_data_array, by_bits,
        by_remainder, counted_by_a_tuple,
        counted_in_an_order, by_a_mask_of_masks,
        at_powers_of_two, at_equal_laws, at_equal_laws_by_torch, at_zeros, in_one_order, in_one_region,
        one_order_of_ratios, unclamped, catches_everything,  keeps_laws, own_coin, by_view, by_a_rare_coin,
        by_pythons_coin, by_memory_of_numpy, by_memory_handed_out, by_address, by_capsule,
    )
}  # fmt: skip
WRONG |= {
    "negative": judging(lambda p, q, draft: always(p, q, draft) * 0.5, negative),
    "zero_over_zero": judging(lambda p, q, draft: always(p, q, draft) * 0.0, zero_over_zero),
}


def of_a_minimum(p, q, draft):
    return torch.minimum(at(p, draft), at(q, draft)) / at(q, draft)


def by_relu(p, q, draft):
    left = torch.relu(p - q)
    return left / left.sum(-1, keepdim=True).where(left.sum(-1, keepdim=True) != 0, 1.0)


def in_place(p, q, draft):
    left = p.clone()
    left -= q
    left.clamp_(min=0)
    return left


def by_maximum(p, q, draft):
    return torch.maximum(p, q) - q


def softened(p, q, draft):
    left = (p - q).clamp(min=0)
    return left / (left.sum(-1, keepdim=True) + 1e-10)


def of_a_clamped_sum(p, q, draft):
    left = (p - q).clamp(min=0)
    return left / left.sum(-1, keepdim=True).clamp(min=1e-12)


RIGHT = {
    "of_a_minimum": judging(of_a_minimum),
    "by_relu": judging(replace=by_relu),
    "in_place": judging(replace=in_place),
    "by_maximum": judging(replace=by_maximum),
    "softened": judging(replace=softened),
    "of_a_clamped_sum": judging(replace=of_a_clamped_sum),
    "never kept": judging(lambda p, q, draft: always(p, q, draft) * 0, lambda p, q, draft: p),
}
