"""What a step says of itself in `Info`, held against what it did: calls of the model, drafts shown, tokens kept."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.decoders.protocol import Branch, Info, State
from specverify.errors import ContractError
from specverify.evidence.relay import Watched, few
from specverify.model import Pass


def check_accounts(info: Info, before: State, after: State, target: Watched, drafts: Watched | None) -> None:
    """Hold every figure against what the models have seen since they were told to `begin`.

    Args:
        info: what the step says.
        before, after: the states.
        target: the model.
        drafts: the draft model, where there is one that can be watched.

    Raises:
        ContractError: naming the figure, and what it is in truth.
    """
    _check_passes(info, before, after, target)
    _check_kept(info, before, after, target)
    if drafts is not None:
        _check_draft_passes(info, before, drafts)


def _check_passes(info: Info, before: State, after: State, target: Watched) -> None:
    batch, count = len(before.length), after.length - before.length
    least, most = torch.zeros_like(count), 0
    for made in target.passes.made:
        most += 1
        if len(made.draft) >= batch:
            ahead = target.ahead(made.context)
            finished = torch.zeros_like(after.done)
            if ahead is not None and len(ahead) == batch:
                finished = after.done & (ahead >= count)
            least = least + (~before.done & ~finished)
    wrong = ~before.done & ((info.passes < least) | (info.passes > most))
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        due = int(least[row]) if info.passes[row] < least[row] else most
        raise ContractError(
            f"Info.passes says {int(info.passes[row])}, but the model was called {due} times in this step for a row; "
            "every call of laws counts, whatever it is for"
        )


def _check_draft_passes(info: Info, before: State, drafts: Watched) -> None:
    batch = len(before.length)
    most = len(drafts.passes.made)
    whole = sum(len(made.draft) >= batch for made in drafts.passes.made)
    room = drafts.length - before.length
    least = room.clamp(max=whole)
    wrong = ~before.done & ((info.draft_passes < least) | ((info.draft_passes > most) & (most > 0)))
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        raise ContractError(
            f"Info.draft_passes says {int(info.draft_passes[row])}, but the draft model was called {most} times in "
            f"this step for a row with room for {int(room[row])} tokens; only calls for places behind the end of a row "
            "may be left out"
        )


def _check_kept(info: Info, before: State, after: State, target: Watched) -> None:
    size = info.branch.shape[1]
    accepted, recovered = info.branch == Branch.ACCEPTED, info.branch == Branch.RECOVERED
    named = accepted.sum(1)
    if not torch.equal(info.accepted.long(), named):
        row = int((info.accepted != named).int().argmax())
        raise ContractError(
            f"Info.accepted says {int(info.accepted[row])}, but Info.branch names {int(named[row])} of the "
            "committed tokens ACCEPTED; a draft that was not committed was not accepted"
        )
    place = before.length[:, None] + torch.arange(size, device=before.length.device)
    token = after.tokens.gather(1, place.clamp(max=after.tokens.shape[1] - 1))
    shown, same = _shown(target, token)
    if bool((accepted & ~same).any() or (recovered & ~shown).any()):
        more = _shown_anywhere(target, before, after, size)
        shown, same = shown | more[0], same | more[1]
    if bool((odd := accepted & ~same).any()):
        row, slot = odd.nonzero()[0].tolist()
        there = "another draft" if bool(shown[row, slot]) else "no draft"
        raise ContractError(
            f"Info.branch names token {int(token[row, slot])} at position {int(place[row, slot])} ACCEPTED, but the "
            f"model was shown {there} there; a token is ACCEPTED if it was the draft that a pass of this step read at "
            "its place, SAMPLED if there was none"
        )
    if bool((odd := recovered & ~shown).any()):
        row, slot = odd.nonzero()[0].tolist()
        raise ContractError(
            f"Info.branch names the token at position {int(place[row, slot])} RECOVERED, but the model was shown no "
            "draft there that could be rejected; a token drawn from p alone is SAMPLED, or BONUS behind accepted drafts"
        )
    _check_verified(info, named, recovered.sum(1), shown, after.length - before.length)


def _check_verified(
    info: Info,
    accepted: Int[Tensor, " batch"],
    recovered: Int[Tensor, " batch"],
    shown: Bool[Tensor, "batch size"],
    count: Int[Tensor, " batch"],
) -> None:
    # A draft may have been rejected behind the last token, with nothing in its place so far; but not a second one.
    behind = torch.cat([shown, torch.ones_like(shown[:, :1])], 1).gather(1, count[:, None]).squeeze(1) & (
        recovered == 0
    )
    judged = accepted + recovered
    wrong = (info.verified < judged) | (info.verified > judged + behind.long())
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        raise ContractError(
            f"Info.verified says {int(info.verified[row])}, but {int(accepted[row])} drafts were accepted and "
            f"{int(recovered[row])} replaced ({few(info.branch[row])} in Info.branch); verified are those accepted and "
            "the one rejected, not those behind it"
        )


def _shown(
    target: Watched, token: Int[Tensor, "batch size"]
) -> tuple[Bool[Tensor, "batch size"], Bool[Tensor, "batch size"]]:
    """Where a pass was shown a draft, and where this draft is the token."""
    shown = torch.zeros_like(token, dtype=torch.bool)
    same = shown.clone()
    for made in target.passes.made:
        if made.draft.shape[1] == 0 or len(made.draft) == 0:
            continue
        for draft, ahead in _of_rows(made, target, len(token)):
            column = torch.arange(token.shape[1], device=token.device) - ahead[:, None]
            there = (column >= 0) & (column < draft.shape[1])
            found = draft.gather(1, column.clamp(0, draft.shape[1] - 1))
            shown, same = shown | there, same | (there & (found == token))
    return shown, same


def _of_rows(made: Pass, target: Watched, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """What each row was shown, and from which of the step's tokens on.

    Rows of a context that was selected from others may belong to any: several chains to a row, side by side or one
    after the other, are told by their number; of fewer rows than there are, each may be every row's.
    """
    draft, ahead = made.draft, target.ahead(made.context)
    none = torch.zeros(len(draft), dtype=torch.int64, device=draft.device) if ahead is None else ahead
    if len(draft) == batch:
        yield draft, none
        return
    chains = len(draft) // batch
    if chains * batch == len(draft):
        for chain in range(chains):
            yield draft[chain::chains], none[chain::chains]
            yield draft[chain * batch : (chain + 1) * batch], none[chain * batch : (chain + 1) * batch]
        return
    for row in range(len(draft)):
        yield draft[row : row + 1].expand(batch, -1), none[row : row + 1].expand(batch)


def _shown_anywhere(
    target: Watched, before: State, after: State, size: int
) -> tuple[Bool[Tensor, "batch size"], Bool[Tensor, "batch size"]]:
    """The same by what contexts hold, whichever rows they lie in and wherever they begin.

    A row's token was shown if some pass of the step read a context that holds so many of the row's tokens, and as
    drafts those that follow.
    """
    batch, length = after.tokens.shape[:2]
    shown = torch.zeros(batch, length + size, dtype=torch.bool, device=before.length.device)
    same = shown.clone()
    passes = [(tree.to_bits(made.context), made.draft) for made in target.passes.made if len(made.draft)]
    widest = max((draft.shape[1] for _, draft in passes), default=0)
    tokens = torch.nn.functional.pad(after.tokens, (0, widest))
    start = target.inner.start(batch)
    for held in range(length):
        context = target.inner.advance(start, after.tokens[:, :held], torch.full_like(before.length, held))
        mine = tree.to_bits(context)
        for theirs, draft in passes:
            for column in range(min(draft.shape[1], length - held)):
                ours, other = (
                    torch.cat([a, b[:, : column + 1]], 1) for a, b in ((mine, tokens[:, held:]), (theirs, draft))
                )
                shown[:, held + column] |= torch.isin(tree.hashed(ours[:, :-1]), tree.hashed(other[:, :-1]))
                same[:, held + column] |= torch.isin(tree.hashed(ours), tree.hashed(other))
    place = before.length[:, None] + torch.arange(size, device=before.length.device)
    return shown.gather(1, place), same.gather(1, place)


def check_progress(name: str, before: State, after: State) -> None:
    """Raise ContractError if a step committed nothing in some row."""
    stuck = after.length <= before.length
    if bool(stuck.any()):
        raise ContractError(
            f"decoder {name!r} committed nothing after {before.tokens[stuck][0].tolist()} "
            f"at length {int(before.length[stuck][0])}; each step must commit at least one token"
        )


def check_mass(name: str, law: Float[Tensor, " sequences"]) -> None:
    """Raise ContractError unless the law of a decoder's output sums to 1."""
    missing = abs(float(law.sum()) - 1)
    if missing > 1e-9:
        raise ContractError(f"decoder {name!r} lost or made probability: its law sums to 1 +- {missing:.3g}")
