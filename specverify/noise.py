"""Noise that is enumerated: a race is an identity, and what is known of it is kept beside it.

A race over two tokens is one number u = E_0 / (E_0 + E_1), uniform on [0, 1], and every winner that was asked for tells
in which interval it lies. That knowledge belongs to the race, not to the tensor that stands for it: a copy, a view, or
the tensor that was there before `winner` are the same race, and whoever asks them again hears no fresh noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.errors import ContractError

T = TypeVar("T")
COLUMNS = 2
"""Numbers that stand for a race, as many as it has tokens: the identity, and that and `BESIDE`. All 0: no race."""
BESIDE = 0.5
"""No two identities are so far apart: a race put together of other races' numbers, or of its own anew, is none."""
ROWS = 1 << 20
"""Rows that a call may have. While it goes on, a race is known by the call, its number and its row, in one number."""
_CALLS = itertools.count(1)
_STRUCTURE = (
    "__getitem__ __setitem__ __len__ __iter__ __repr__ __format__ __hash__ __reduce_ex__ "
    "size dim ndimension numel nelement stride storage_offset element_size is_contiguous "
    "is_floating_point is_complex data_ptr get_device type_as clone contiguous detach cpu "
    "cuda to gather take_along_dim index_select index_copy index_copy_ scatter scatter_ masked_scatter "
    "where cat concat concatenate stack hstack vstack reshape view view_as flatten unflatten expand "
    "expand_as broadcast_to repeat repeat_interleave tile unsqueeze squeeze select "
    "narrow split chunk tensor_split unbind transpose swapaxes permute movedim moveaxis roll flip "
    "masked_fill masked_fill_ copy_ index_put index_put_ select_scatter slice_scatter zeros_like "
    "empty_like new_zeros new_empty zero_ pad atleast_2d atleast_3d requires_grad_ "
    "retain_grad is_shared "
)
_ALLOWED = {
    getattr(owner, name)
    for owner in (Tensor, torch, torch.nn.functional)
    for name in _STRUCTURE.split()
    if hasattr(owner, name)
}
_UNFILLED = {torch.empty_like: torch.zeros_like, Tensor.new_empty: Tensor.new_zeros}
_OPAQUE = (
    "noise is opaque, and step computed with it ({name}): ask draws.winner(race, weights, where) for the token that a "
    "race picks; gathering, joining, selecting and padding with zeros is all that may be done to noise itself"
)


_CUT = "noise was cut apart, or put together of several races' numbers; keep races whole, as Float[batch, slots, noise]"


class Noise(Tensor):
    """Races under enumeration: may be gathered, joined, padded with zeros and kept, and nothing else."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Structure passes; whatever reads the numbers, or mixes them with other numbers, is refused."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if func not in _ALLOWED and name != "__get__":
            raise ContractError(_OPAQUE.format(name=name.strip("_")))
        if ((name.endswith("_") or name == "__setitem__") and not isinstance(args[0], Noise)) or "out" in kwargs:
            raise ContractError(
                "noise was written into a tensor that is none; make room for it with torch.zeros_like(race), or join "
                "races with torch.cat and torch.where"
            )
        for value in _mixed_in(func, args, kwargs):
            raise ContractError(
                f"noise was filled up with {value} ({name.strip('_')}); only zeros, which are no noise, may be there"
            )
        result = super().__torch_function__(  # type: ignore[no-untyped-call]
            _UNFILLED.get(func, func), types, args, kwargs
        )
        if func in _LIKE and not isinstance(args[0], Noise):
            return tree.plain(result)  # an index, shaped like noise
        if func in _SHAPES and result.dtype != torch.float64:
            return tree.plain(result)  # a mask or an index of its own
        if isinstance(result, Noise) and result.dtype != torch.float64:
            raise ContractError("noise was turned into another dtype; leave it as draws.race hands it out")
        return result

    def as_subclass(self, cls: Any) -> Any:
        """Refused: it would take the numbers out."""
        raise ContractError(_OPAQUE.format(name="as_subclass"))


def _mixed_in(func: Any, args: Any, kwargs: Any) -> Iterator[float]:
    """Numbers other than 0 that would come to stand among noise."""
    if func in _LIKE:
        return
    parts = args[2:] if func is Tensor.__setitem__ else (*args, *kwargs.values())
    for part in parts:
        for value in part if isinstance(part, tuple | list) else (part,):
            if isinstance(value, Tensor):
                if not isinstance(value, Noise) and value.is_floating_point() and bool((value != 0).any()):
                    yield float(value[value != 0].flatten()[0])
            elif isinstance(value, float) or (func in _FILLING and type(value) is int):
                yield from [float(value)] if value != 0 else []


_SHAPES = {torch.zeros_like, torch.empty_like, Tensor.new_zeros, Tensor.new_empty}
_LIKE = {Tensor.to, Tensor.type_as, Tensor.view_as, Tensor.expand_as}
_FILLING = {Tensor.__setitem__, Tensor.masked_fill, Tensor.masked_fill_, torch.masked_fill, Tensor.where, torch.where}


def _rows(batch: int, device: torch.device) -> Int[Tensor, "batch 1"]:
    return torch.arange(batch, device=device)[:, None]


class Ledger:
    """What is known of every race in one call: those of the state, numbered from 1, and then those made since.

    Args:
        known: the intervals of the state's races, in the order of their numbers.
    """

    def __init__(self, known: Float[Tensor, "batch races 2"]) -> None:
        self.known = known
        self._call = next(_CALLS) % (1 << 15) << 14  # so that all of a number fits into a float64

    def make(self, slots: int, where: Bool[Tensor, "batch slots"] | None = None) -> Noise:
        """Fresh races, of which nothing is known; zeros elsewhere."""
        batch, before = self.known.shape[:2]
        whole = torch.tensor([0.0, 1.0], dtype=torch.float64, device=self.known.device).expand(batch, slots, 2)
        self.known = torch.cat([self.known, whole], 1)
        number = 1 + before + torch.arange(slots, device=whole.device).expand(batch, -1)
        return self._noise(number if where is None else number.where(where, 0))

    def shown(self, tensor: Tensor) -> Tensor:
        """Races of the state as the call sees them: each knows its call and its row. Other tensors are as they are."""
        return self._noise(tree.plain(tensor)[..., 0].long()) if isinstance(tensor, Noise) else tensor

    def _noise(self, number: Int[Tensor, "batch ..."]) -> Noise:
        row = _rows(len(number), number.device).reshape(-1, *(1,) * (number.ndim - 1))
        whole = ((self._call + number) * ROWS + row).double()
        return torch.stack([whole, whole + BESIDE], -1).where(number[..., None] != 0, 0.0).as_subclass(Noise)

    def find(
        self, race: Tensor, where: Bool[Tensor, "batch slots"], kind: str
    ) -> tuple[Int[Tensor, "batch slots"], Float[Tensor, "batch slots 2"]]:
        """Which races these are, and what is known of them.

        Raises:
            ContractError: where one is asked for that is none, is not of this call, or is spent.
        """
        if not isinstance(race, Noise) or race.shape[-1] != COLUMNS:
            raise ContractError(f"{kind} was asked with a tensor that is no noise; races come from draws.race")
        place = self._places(race)
        if bool((where & (place < 0)).any()):
            raise ContractError(f"{kind} was asked for a race that is not there, but zeros; races come from draws.race")
        known = self.known.gather(1, place.clamp(min=0)[..., None].expand(-1, -1, 2)) if self.known.shape[1] else None
        if known is None:
            known = torch.zeros(*place.shape, 2, dtype=torch.float64, device=place.device)
        if bool((where & (known[..., 0] > known[..., 1])).any()):
            raise ContractError(
                f"{kind} was asked for noise that `earliest` has spent; a race that took part in `earliest` tells no "
                "winner of its own any more: ask draws.race for a fresh one"
            )
        return place, known

    def learn(
        self,
        place: Int[Tensor, "batch slots"],
        where: Bool[Tensor, "batch slots"],
        known: Float[Tensor, "batch slots 2"],
    ) -> None:
        """Write down what was found out, wherever it was asked."""
        row, slot = where.nonzero(as_tuple=True)
        self.known = self.known.index_put((row, place[row, slot]), known[row, slot])

    def spend(self, place: Int[Tensor, "batch slots"], where: Bool[Tensor, "batch slots"]) -> None:
        """Nothing more can be told of these."""
        nothing = torch.tensor([1.0, 0.0], dtype=torch.float64, device=place.device)
        self.learn(place, where, nothing.expand(*place.shape, 2))

    def settle(self, result: T) -> tuple[T, Float[Tensor, "batch races 2"]]:
        """The same structure with its races numbered by where they first stand, and what is known of each.

        Equal worlds have equal numbers, whatever became of their races before.
        """
        leaves = [tree.plain(leaf) for leaf in tree.tensors(result) if isinstance(leaf, Noise)]
        if not any(leaf.numel() for leaf in leaves):
            return result, self.known[:, :0]
        if any(leaf.ndim < 2 or leaf.shape[-1] != COLUMNS for leaf in leaves):
            raise ContractError(_CUT)
        sizes = [leaf[0].numel() // COLUMNS for leaf in leaves]
        place = self._places(torch.cat([leaf.reshape(len(leaf), -1, COLUMNS) for leaf in leaves], 1))
        there, slots = place >= 0, torch.arange(place.shape[1], device=place.device)
        first = (place[:, :, None] == place[:, None, :]).int().argmax(2)
        known = torch.zeros(*place.shape, 2, dtype=torch.float64, device=place.device)
        if self.known.shape[1]:
            known = self.known.gather(1, place.clamp(min=0)[..., None].expand(-1, -1, 2))
        known = known.where((there & (first == slots))[..., None], 0.0)
        number = (first + 1.0).double().where(there, 0.0)
        beside = (number + BESIDE).where(there, 0.0)
        parts = iter(torch.stack([number, beside], -1).split(sizes, 1))
        numbered = tree.map_tensors(
            result,
            lambda leaf: next(parts).reshape(leaf.shape).as_subclass(Noise) if isinstance(leaf, Noise) else leaf,
        )
        return numbered, known

    def _places(self, race: Tensor) -> Int[Tensor, "batch slots"]:
        """Each race's place in `known`; -1 for none."""
        first, second = tree.plain(race).unbind(-1)
        if not torch.equal(second, (first + BESIDE).where(first != 0, 0.0)):
            raise ContractError(_CUT)
        whole = first.long()
        there = whole != 0
        if bool(((whole % ROWS != _rows(len(whole), whole.device)) & there).any()):
            raise ContractError(
                "noise turned up in another row than its own; each row has races of its own, and draws and states have "
                "them as Float[batch, slots, noise], with rows and slots apart"
            )
        place = (whole // ROWS - self._call - 1).where(there, -1)
        if bool((there & ((place < 0) | (place >= self.known.shape[1]))).any()):
            raise ContractError(
                "noise turned up that is neither in the state nor of this call; keep races in the state, as tensors in "
                "tuples, lists, dicts or dataclasses, not on the decoder or inside of other objects"
            )
        return place
