"""A decoder whose every call is checked, so that one that breaks the protocol is told what it broke, and where.

A decoder of the project's with `draws_with_torch` runs somebody's code: while draws are sampled it is lent their
generator. Nobody else's is: it could do another thing then, unnoticed by who compares it with itself behind the guard.

Somebody's decoder may keep its own kind of state and report, as long as a state has `tokens`, `length` and `done` and a
report has the fields of `Info`; behind the guard every decoder has the project's own. Its claim is taken as it is:
what the guard looks at is shape, type and range, progress, and that nothing is changed that was only lent.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.claims import Claim, Lossless
from specverify.decoders.protocol import Branch, Info, State
from specverify.draws import Draws
from specverify.errors import ContractError, InputError, SpecverifyError
from specverify.evidence.accounts import check_accounts
from specverify.evidence.relay import Relay, Watched, few, runs_torch
from specverify.model import Model, row_mask

LONGEST = 300
"""Characters of somebody's error message that are repeated."""
COUNTS = ("passes", "verified", "accepted", "emitted", "draft_passes")


class Guarded:
    """A decoder, checked.

    Args:
        decoder: with `init` and `step`.
        drafts: its draft model, if it was given one that can be watched.

    Attributes:
        drafts: the drafts that the last complete step showed to the model, Int[batch, w]; None if it showed none.
        kinds: the kinds of draw asked for so far.
        widest: the most drafts that a pass was shown so far.

    Raises:
        InputError: if it has no `init` and `step`; and whatever InputError it raises itself, which says that it does
            not take this model.
        ContractError: from every call that breaks the protocol, or raises anything else.
    """

    def __init__(self, decoder: Any, drafts: Watched | None = None) -> None:
        if not all(callable(getattr(decoder, part, None)) for part in ("init", "step")):
            raise InputError(
                f"{decoder!r} is no decoder; it needs the methods init(model, batch, draws) and "
                "step(state, model, draws)"
            )
        self.decoder = decoder
        self.name = str(getattr(decoder, "name", type(decoder).__name__))
        claim = getattr(decoder, "claim", None)
        self.claim: Claim = Lossless() if claim is None else claim
        window = getattr(decoder, "window", None)
        self.window = window if isinstance(window, int) and window > 0 else 1
        self.drafts: Tensor | None = None
        self._draft_model = drafts
        self._target: Watched | None = None
        self.kinds: set[str] = set()
        self.widest = 0
        self._template: Any = None

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        own = self._call("init", self._watched(model), batch, self._lent(draws, batch))
        return self._state(own, model, batch, "init")

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        batch = len(state.length)
        before = state.drafting.state if isinstance(state.drafting, _Own) else state
        copies = tree.map_tensors(before, torch.clone)
        lent, watched = self._unpacked(copies), self._watched(model, copies)
        try:
            result = self._call("step", lent, watched, self._lent(draws, batch))
        except BaseException:
            _check_unchanged(before, _packed(lent))
            raise
        _check_unchanged(before, _packed(lent))
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ContractError(f"step returned {_kind(result)}; it returns a pair: the next state, and an Info")
        after = self._state(result[0], model, batch, "step")
        _check_layout(before, _packed(result[0]))
        count = _check_commits(state, after)
        info = _info(result[1], count, state.done)
        try:
            check_accounts(info, state, after, watched, self._draft_model)
        except ContractError as error:
            raise ContractError(f"{watched.breach}; besides, {error}" if watched.breach else str(error)) from None
        first = next((made.draft for made in watched.passes.made if made.draft.shape[1] > 0), None)
        self.drafts = first if first is not None and len(first) == batch else None
        self.widest = max(self.widest, 0 if first is None else first.shape[1])
        return after, info

    @property
    def breach(self) -> str:
        """How `advance` was first called against its contract, which no toy minds: empty if it never was."""
        return "" if self._target is None else self._target.breach

    def _watched(self, model: Model, state: Any = None) -> Watched:
        """The model, as it is shown in every call, so that one that was kept from an earlier call is watched too."""
        if self._target is None or self._target.inner is not model:
            self._target = Watched(model)
        self._target.begin(state)
        if self._draft_model is not None:
            self._draft_model.begin(state)
        return self._target

    def _call(self, part: str, *arguments: Any) -> Any:
        try:
            return getattr(self.decoder, part)(*arguments)
        except SpecverifyError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
            message = " ".join(str(error).split())[:LONGEST]
            raise ContractError(
                f"{part} raised {type(error).__name__}: {message} ({where}, in {place.name})"
            ) from error

    def _lent(self, draws: Draws, batch: int) -> Relay:
        """The draws, with their arguments looked at; outcomes are copies, so that changing them changes no replay."""

        def relay(kind: str, *arguments: Any) -> Any:
            self.kinds.add(kind)
            if kind == "race":
                rows, due, where = arguments[0], arguments[:2], arguments[3]
            elif not all(isinstance(argument, Tensor) for argument in arguments):
                raise ContractError(f"draws.{kind} was given {', '.join(map(_kind, arguments))}; it takes tensors")
            else:
                values, where = arguments[-2], arguments[-1]
                rows = values.shape[0] if values.ndim else 0
                due = values.shape[:-1] if kind in ("categorical", "winner") else values.shape
                if kind == "earliest":
                    due = arguments[0].shape[:-1]
            if where is not None and (where.dtype, where.shape) != (torch.bool, due):
                raise ContractError(
                    f"draws.{kind} was given `where` of shape {tuple(where.shape)}, {where.dtype}; "
                    f"here it is a mask of shape {tuple(due)}"
                )
            if rows != batch:
                raise ContractError(
                    f"draws.{kind} was asked for {rows} rows; the batch has {batch}: ask for all rows at once, and say "
                    "with `where` which of them draw"
                )
            return tree.map_tensors(getattr(draws, kind)(*arguments), torch.clone)

        return Relay(relay, getattr(draws, "generator", None) if runs_torch(self.decoder) else None)

    def _state(self, own: Any, model: Model, batch: int, part: str) -> State:
        missing = [name for name in ("tokens", "length", "done") if not isinstance(getattr(own, name, None), Tensor)]
        if missing:
            raise ContractError(
                f"the state of {part}, {_kind(own)}, has no tensor {', '.join(missing)}; it needs tokens, length, done"
            )
        _check("tokens", own.tokens, (batch, model.length), torch.int64)
        _check("length", own.length, (batch,), torch.int64)
        _check("done", own.done, (batch,), torch.bool)
        _check_tokens(own, model)
        packed = _packed(own)
        if isinstance(packed, dict):
            self._template = own
        for path, leaf in _leaves(packed):
            if isinstance(leaf, Tensor) and (leaf.ndim == 0 or leaf.shape[0] != batch):
                raise ContractError(
                    f"the state's {path} has shape {tuple(leaf.shape)}; every tensor of a state has one row for "
                    f"each of the {batch} sequences (keep what they share on the decoder)"
                )
        return own if isinstance(own, State) else State(None, own.tokens, own.length, own.done, _Own(packed))

    def _unpacked(self, packed: Any) -> Any:
        if not isinstance(packed, dict):
            return packed
        own = copy.copy(self._template)
        vars(own).update(packed)
        return own


@dataclass(frozen=True)
class _Own:
    """Somebody's own state: a structure of tensors, or the attributes of an object as a dict."""

    state: Any


def _packed(own: Any) -> Any:
    """A state as a structure that `tree` knows."""
    if dataclasses.is_dataclass(own) or isinstance(own, tuple):
        return own
    if not hasattr(own, "__dict__"):
        raise ContractError(
            f"the state, {_kind(own)}, cannot be taken apart; make it a dataclass or a named tuple of tensors"
        )
    return dict(vars(own))


def _check(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise ContractError(
            f"the state's {name} has shape {tuple(value.shape)} and {value.dtype}; expected {shape} and {dtype}"
        )


def _check_tokens(own: Any, model: Model) -> None:
    """Lengths within the model's, tokens within the vocabulary, and rows done exactly where the sequence has ended."""
    tokens, length, done = own.tokens, own.length, own.done
    if bool(((length < 0) | (length > model.length)).any()):
        raise ContractError(f"the state's length holds {few(length)}; a sequence has 0..{model.length} tokens")
    committed = row_mask(length, model.length)
    outside = (committed | done[:, None]) & ((tokens < 0) | (tokens >= model.vocab))
    if bool(outside.any()):
        raise ContractError(f"committed token {int(tokens[outside][0])} is outside 0..{model.vocab - 1}")
    ended = torch.zeros_like(done)
    if model.eos is not None:
        ended = ((tokens == model.eos) & committed).any(1)
        unpadded = ended & done & (~committed & (tokens != model.eos)).any(1)
        if bool(unpadded.any()):
            raise ContractError(
                f"a row ended early and holds {tokens[unpadded][0].tolist()}; behind its end every token is "
                f"eos, {model.eos}"
            )
    full = length == model.length
    if bool((done & ~full & ~ended).any()):
        raise ContractError(
            f"a row is done after {few(length[done & ~full & ~ended])} of {model.length} tokens, without eos"
        )
    if bool((full & ~done).any()):
        raise ContractError(f"a row has all {model.length} tokens and is not done")


def _check_unchanged(lent: Any, returned: Any) -> None:
    if all(itertools.starmap(_alike, itertools.zip_longest(tree.tensors(lent), tree.tensors(returned)))):
        return
    before, after = dict(_leaves(lent)), dict(_leaves(returned))
    for path, was in before.items():
        now = after.get(path)
        if isinstance(was, Tensor) and not _alike(was, now):
            raise ContractError(f"step changed its argument state.{path} in place; it must return a new one")


def _check_layout(before: Any, after: Any) -> None:
    """What is no tensor in a state is the same in every row and at every step."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    if odd := old.keys() ^ new.keys():
        raise ContractError(f"the state's layout changed in a step: {', '.join(sorted(odd))} is not in both")
    for path, was in old.items():
        now = new[path]
        if isinstance(was, Tensor) and isinstance(now, Tensor):
            continue
        if isinstance(was, Tensor) != isinstance(now, Tensor) or not (was is now or was == now):
            raise ContractError(
                f"the state's {path} was {_kind(was)} and is {_kind(now)}; what changes must be a tensor with "
                "one row per sequence"
            )


def _check_commits(before: State, after: State) -> Tensor:
    """How many tokens each row committed."""
    count = after.length - before.length
    if bool((before.done & ((count != 0) | ~after.done)).any()):
        raise ContractError("a row that was done has changed; step leaves such rows as they are")
    stuck = ~before.done & (count < 1)
    if bool(stuck.any()):
        prefix = before.tokens[stuck][0, : int(before.length[stuck][0])].tolist()
        raise ContractError(
            f"step committed nothing after {prefix}; each step commits at least one token in every row that is not done"
        )
    kept = row_mask(before.length, before.tokens.shape[1])
    changed = (kept & (before.tokens != after.tokens)).any(1)
    if bool(changed.any()):
        raise ContractError(
            f"step changed tokens that were committed: {before.tokens[changed][0].tolist()} with length "
            f"{int(before.length[changed][0])} became {after.tokens[changed][0].tolist()}"
        )
    return count


def _info(own: Any, count: Tensor, was_done: Tensor) -> Info:
    batch = len(count)
    parts: dict[str, Tensor] = {}
    for name in (*COUNTS, "branch"):
        value = getattr(own, name, None)
        if (
            not isinstance(value, Tensor)
            or value.is_floating_point()
            or value.shape[:1] != (batch,)
            or value.ndim != 1 + (name == "branch")
        ):
            shape = f"{tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else _kind(value)
            due = f"({batch}, tokens per step)" if name == "branch" else f"({batch},)"
            raise ContractError(f"Info.{name} is {shape}; it is an integer tensor of shape {due}")
        parts[name] = value
    info = Info(**parts)
    if not torch.equal(info.emitted.long(), count):
        raise ContractError(f"Info.emitted says {few(info.emitted)}, but the step committed {few(count)}")
    named = (info.branch > 0) & (info.branch < len(Branch))
    if not torch.equal(named, row_mask(count, info.branch.shape[1])):
        raise ContractError(
            f"Info.branch is {info.branch[0].tolist()} where the step committed {int(count[0])}; it names the "
            "Branch of each committed token, in order, and is 0 behind them"
        )
    spent = torch.stack([info.passes, info.verified, info.accepted, info.draft_passes])
    if bool((spent < 0).any()) or bool((spent[:, was_done] != 0).any()):
        raise ContractError("Info counts something in a row that was done before, or less than nothing")
    return info


def _leaves(structure: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a state that is no container, with its name."""
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        parts = [(field.name, getattr(structure, field.name)) for field in dataclasses.fields(structure)]
    elif isinstance(structure, dict):
        parts = [(str(key), value) for key, value in structure.items()]
    elif isinstance(structure, tuple | list):
        names = getattr(structure, "_fields", range(len(structure)))
        parts = [(str(name), value) for name, value in zip(names, structure, strict=True)]
    else:
        yield path, structure
        return
    for name, value in parts:
        yield from _leaves(value, f"{path}.{name}" if path else name)


def _alike(one: Any, other: Any) -> bool:
    """Whether both are tensors of the same numbers; NaN is the same as NaN."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape):
        return False
    one, other = tree.plain(one), tree.plain(other)
    if torch.equal(one, other):
        return True
    return one.is_floating_point() and torch.equal(one.nan_to_num(), other.nan_to_num())


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return f"a {type(value).__name__}"
