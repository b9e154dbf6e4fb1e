"""What each id of a forward pass sees: the positions and the attention mask that a loop hands to a model.

A transformer's law at an id follows from the ids that its mask shows, each at its position, each computed from what it
saw itself. A wrong position, a mask that hides what was committed or shows what is yet to come, or a key that is kept
from behind another draft changes it, and nothing says so. So it is with a toy, whose cache has two layers, as the
smallest transformer has of which that is true: one holds ids and positions, the other a number of all that an id saw.

An id that sees a sequence, each id of it once, one position behind the last, computed behind those before it, has the
law behind that sequence, wherever its positions begin. That of any other says nothing: all that is possible is equally
so. Thus a loop may verify a tree of drafts, pad its batches, and hide what was rejected instead of cutting it off.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.integrations.unprocessed import IMPOSSIBLE

HIDDEN = 0
"""The id behind the end of what an id sees."""
HIDES = -1e4
"""What is added to scores so that an id is not seen is this or less."""
Behind = Callable[[Int[Tensor, "rows n"], Int[Tensor, " rows"]], Float[Tensor, "rows n vocab"]]
"""The logits behind each id of sequences, given how long these are; behind them stands `HIDDEN`."""
BEHIND_OTHERS = "an id saw a key that was computed behind other ids than those before it, or by another model"
_FAR = 2**40
"""Beyond all positions."""
_PRIME, _FOLD = 4194301, 2654435
"""Numbers are exact in float32."""


@dataclass(frozen=True)
class Pass:
    """What a model holds once it has read the ids of a pass.

    Attributes:
        ids: in each slot, those that are held from earlier passes and those of this one behind them.
        positions: of these.
        past: slots of earlier passes.
        queries: ids of this one.
        cache: of transformers, if any.
        dtype: of what lies in it.
        remarks: takes the first time that an id saw no sequence, in words.
        of_model: a number of the model: what another one computed is none of its keys.
        layers: that read it; one alone leaves the second as it was, as a model that exits early does.
    """

    ids: Int[Tensor, "batch slots"]
    positions: Int[Tensor, "batch slots"]
    past: int
    queries: int
    cache: Any
    dtype: torch.dtype
    remarks: list[str]
    of_model: int = 0
    layers: int = 2

    @classmethod
    def of(
        cls,
        ids: Int[Tensor, "batch n"],
        cache: Any = None,
        position_ids: Any = None,
        dtype: torch.dtype = torch.float64,
        remarks: list[str] | None = None,
        of_model: int = 0,
        layers: int = 2,
        **others: Any,
    ) -> Pass:
        """A pass, once its ids are in the cache.

        Args:
            ids: what the model is called with.
            cache: of transformers; its keys and its values hold the same.
            position_ids: of these ids, Int[batch or 1, n]; by default, of releases that heed it, what is called
                `cache_position`, Int[n], among the other arguments, and else those behind what is held.
            dtype: of what lies in the cache.
            remarks, of_model, layers: see `Pass`.

        Raises:
            ValueError: positions of no such shape, or keys and values that differ.
        """
        past = 0 if cache is None else int(cache.get_seq_length())
        asked = position_ids
        if asked is None and others.get("cache_position") is not None and heeds_cache_position():
            asked = others["cache_position"]
        positions = _positions(asked, past, ids)
        remarks = [] if remarks is None else remarks
        if cache is None:
            return cls(ids, positions, 0, ids.shape[1], None, dtype, remarks, of_model, layers)
        held, _ = _updated(cache, torch.stack([ids, positions], -1), 0, dtype)
        return cls(held[..., 0], held[..., 1], past, ids.shape[1], cache, dtype, remarks, of_model, layers)

    def logits(self, behind: Behind, vocab: int, mask: Any) -> Float[Tensor, "batch queries vocab"]:
        """Logits behind the ids of the pass; of an id that sees nothing they are all the same.

        Args:
            behind: the model's law.
            vocab: of the logits.
            mask: `attention_mask`, if any.

        Raises:
            ValueError: a mask of another shape or kind.
        """
        return self._plain(behind) if self._is_plain(mask) else self._laid(behind, vocab, self._shown(mask))

    def _is_plain(self, mask: Any) -> bool:
        """Whether every id sees all before it, each one position behind the last."""
        slots = self.past + self.queries
        if self.ids.shape[1] != slots or not torch.equal(self.positions[:, 1:], self.positions[:, :-1] + 1):
            return False
        return mask is None or (isinstance(mask, Tensor) and mask.shape == self.ids.shape and bool(mask.all()))

    def _plain(self, behind: Behind) -> Float[Tensor, "batch queries vocab"]:
        logits = behind(self.ids, torch.full_like(self.ids[:, 0], self.ids.shape[1]))[:, self.past :]
        if self.layers == 1:
            return logits
        numbers = numbers_of(self.ids, self.of_model)
        computed, written = self._computed(numbers[:, self.past :])
        if torch.equal(computed, numbers):
            return logits
        right = (computed == numbers).cumprod(1).bool()[:, self.past :]
        remark(self.remarks, BEHIND_OTHERS)
        self._spoil(written, right)
        return logits.where(right[..., None], saying_nothing(logits))

    def _laid(
        self, behind: Behind, vocab: int, sees: Bool[Tensor, "batch queries slots"]
    ) -> Float[Tensor, "batch queries vocab"]:
        row, query = sees.any(-1).nonzero(as_tuple=True)
        seen, ids, positions = sees[row, query], self.ids[row], self.positions[row]
        place = (positions - positions.masked_fill(~seen, _FAR).amin(1, keepdim=True)).clamp(max=ids.shape[1])
        last = place.masked_fill(~seen, -1).amax(1)
        place = place.where(seen, last[:, None] + 1)  # a place that is not asked for
        each = torch.arange(len(row), device=ids.device)
        sequence = (seen.sum(1) == last + 1) & (place[each, self.past + query] == last)
        laid = torch.nn.functional.pad(ids, (0, 2), value=HIDDEN)  # where nothing is seen, what lies there
        count = torch.zeros_like(laid).scatter_add_(1, place, seen.long())
        sequence &= (count <= 1).all(1)
        laid.scatter_reduce_(1, place, ids, "amax", include_self=False)
        laid.masked_fill_(torch.arange(laid.shape[1], device=laid.device) > last[:, None], HIDDEN)
        written: list[Tensor] = []
        right = sequence
        if self.layers > 1:
            numbers = numbers_of(laid, self.of_model)
            mine = torch.zeros_like(self.ids[:, -self.queries :])
            mine[row, query] = numbers[each, last].where(sequence, 0)
            computed, written = self._computed(mine)
            right = sequence & ((computed[row] == numbers.gather(1, place)) | ~seen).all(1)
        if not bool(sequence.all()):
            odd = int((~sequence).nonzero()[0, 0])
            saw, own = positions[odd][seen[odd]].tolist(), int(positions[odd, self.past + query[odd]])
            remark(self.remarks, f"an id at position {own} saw ids at positions {saw}, which is no sequence")
        elif not bool(right.all()):
            remark(self.remarks, BEHIND_OTHERS)
        every = torch.ones_like(sees[..., 0])
        every[row, query] = right
        self._spoil(written, every)
        logits = torch.zeros(*sees.shape[:2], vocab, dtype=self.dtype, device=ids.device)
        if len(row):
            found = behind(laid, last + 1)[each, last]
            logits = logits.to(found.dtype)
            logits[row, query] = found.where(right[:, None], saying_nothing(found))
        return logits

    def _spoil(self, written: list[Tensor], right: Bool[Tensor, "batch queries"]) -> None:
        """What was computed from what was wrong is wrong itself, as in a transformer of any depth.

        It is written where the cache holds it: who hands out copies has two layers.
        """
        for part in written:
            part[:, 0, self.past : self.past + self.queries][~right] = 0

    def _computed(self, numbers: Int[Tensor, "batch queries"]) -> tuple[Int[Tensor, "batch slots"], list[Tensor]]:
        """What the second layer holds in each slot, once those of this pass are in it; and where it lies.

        Raises:
            ValueError: the layers were not treated alike.
        """
        if self.cache is None:
            return numbers, []
        held, written = _updated(self.cache, numbers[..., None].expand(-1, -1, 2), 1, self.dtype)
        if held.shape[:2] != self.ids.shape:
            raise ValueError(
                f"the cache's layers hold {self.ids.shape[1]} and {held.shape[1]} slots, of {len(self.ids)} and "
                f"{len(held)} rows; what is done to one layer is due to all"
            )
        return held[..., 0], written

    def _shown(self, mask: Any) -> Bool[Tensor, "batch queries slots"]:
        """Which slots each id of the pass sees."""
        batch, slots = self.ids.shape
        slot = torch.arange(slots, device=self.ids.device)
        causal = slot <= slot[self.past : self.past + self.queries, None]
        if mask is None:
            if self.cache is None:  # as transformers does, positions that begin anew are those of another sequence
                part = (self.positions.diff(dim=1) != 1).cumsum(1)
                part = torch.nn.functional.pad(part, (1, 0))
                return causal & (part[:, :, None] == part[:, None])
            return causal.expand(batch, -1, -1)
        if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
            kind = f"a tensor of {mask.ndim} dimensions" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"attention_mask is {kind}; a toy reads tensors of 2 or 4")
        if mask.ndim == 2:  # as transformers does: what is behind its end is hidden
            keys = torch.nn.functional.pad(mask != 0, (0, max(0, slots - mask.shape[1])))[:, :slots]
            return keys[:, None].expand(batch, -1, -1) & causal
        shape = (batch, self.queries, slots)
        heads = mask[:, 0]
        if heads.shape[1:] != shape[1:] or len(heads) not in (1, batch):
            raise ValueError(
                f"attention_mask has the shape {tuple(mask.shape)}; {self.queries} ids behind {self.past} held ones "
                f"take [{batch}, {slots}] or [{batch}, 1, {self.queries}, {slots}]"
            )
        if not torch.equal(mask, mask[:, :1].expand_as(mask)):
            raise ValueError("attention_mask shows different ids to different heads; a toy has one law for all")
        return _visible(heads).expand(shape)


@functools.cache
def heeds_cache_position() -> bool:
    """Whether models of the installed transformers take positions from `cache_position`: before 5."""
    if importlib.util.find_spec("transformers") is None:
        return False
    llama = importlib.import_module("transformers.models.llama.modeling_llama").LlamaModel
    return "cache_position" in inspect.signature(llama.forward).parameters


def _visible(mask: Tensor) -> Bool[Tensor, "rows queries slots"]:
    """Where a mask of 4 dimensions shows an id: True, or a 0 that is added to a score.

    Raises:
        ValueError: it has whole numbers, or does neither show nor hide.
    """
    if mask.dtype == torch.bool:
        return mask.clone()
    if not mask.is_floating_point():
        raise ValueError(f"attention_mask has 4 dimensions and is {mask.dtype}; it is bool, or added to scores")
    between = (mask != 0) & (mask > HIDES)
    if bool(between.any()) or bool(mask.isnan().any()):
        odd = float(mask[between | mask.isnan()][0])
        raise ValueError(f"attention_mask adds {odd:g} to a score; 0 shows an id, and {HIDES:g} or less hides it")
    return mask == 0


def remark(remarks: list[str], what: str) -> None:
    """Write down the first thing that was wrong with a pass, and what follows from it."""
    if not remarks:
        remarks.append(f"in some pass {what}: on a transformer its law would be another (docs/schedulers.md)")


def kept(logits: Float[Tensor, "batch queries vocab"], keep: Any) -> Float[Tensor, "batch kept vocab"]:
    """What `logits_to_keep` asks for: so many last ids, 0 for all, or those that a tensor names."""
    return logits[:, slice(-keep, None) if isinstance(keep, int) else keep]


def saying_nothing(logits: Float[Tensor, "*shape vocab"]) -> Float[Tensor, "*shape vocab"]:
    """Laws by which all that is possible is equally so."""
    return logits.where(logits <= IMPOSSIBLE, 0.0)


def numbers_of(ids: Int[Tensor, "rows n"], of_model: int = 0) -> Int[Tensor, "rows n"]:
    """A number of a model and of all ids up to each."""
    numbers: Tensor = ((ids + 2) @ _powers(ids.shape[1]).to(ids.device) + of_model) % _PRIME + 1
    return numbers


@functools.cache
def _powers(n: int) -> Int[Tensor, "n n"]:
    table = [[pow(_FOLD, k - j + 1, _PRIME) if k >= j else 0 for k in range(n)] for j in range(n)]
    return torch.tensor(table, dtype=torch.int64).view(n, n)


def _updated(
    cache: Any, slots: Int[Tensor, "batch n 2"], layer: int, dtype: torch.dtype
) -> tuple[Int[Tensor, "batch m 2"], list[Tensor]]:
    """All slots of a layer, once those are in it; and the keys and values in which they lie.

    Raises:
        ValueError: its keys and its values differ.
    """
    heads = slots[:, None].to(dtype)
    keys, values = cache.update(heads, heads.clone(), layer)
    if not torch.equal(keys, values):
        raise ValueError("the cache's keys and values hold different ids; what is done to one is due to the other")
    return keys[:, 0].long(), [keys, values]


def _positions(asked: Any, past: int, ids: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
    """Of the ids of a pass: those that are asked for, or those behind what is held."""
    if asked is None:
        return (past + torch.arange(ids.shape[1], device=ids.device)).expand(ids.shape)
    found = torch.as_tensor(asked, device=ids.device).long()
    if found.shape not in (ids.shape, (1, ids.shape[1]), ids.shape[1:]):
        raise ValueError(
            f"positions have the shape {tuple(found.shape)}; of these ids it is {list(ids.shape)}, or with 1 row"
        )
    return found.expand(ids.shape)
