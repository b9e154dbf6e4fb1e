"""The calling conventions of verification kernels, as adapters: each takes a function and returns a `Kernel`.

    plain         (draft, q, p, lengths, generator) -> (accepted, token): ours; what the others are brought to
    rectangular   (draft, q, p, generator) -> (accepted, token): every row has all its drafts
    coins         (draft, q, p, lengths, coins, pick) -> (accepted, token): randomness is an argument
    vllm          `rejection_sample` of vLLM's vllm/v1/sample/rejection_sampler.py
    flashinfer    `chain_speculative_sampling` of flashinfer.sampling
    transformers  `_speculative_sampling` of transformers.generation.utils

None of those libraries is needed: adapters state the convention, and the function is the caller's. Shapes, with B rows,
gamma slots for drafts, V tokens:

    draft     Int[B, gamma]       p         Float[B, gamma + 1, V]     accepted  Int[B], how many drafts are kept
    lengths   Int[B]              coins     Float[B, gamma]            token     Int[B], the one that follows, -1: none
    q         Float[B, gamma, V] or None    pick      Float[B]

A `generator` is a torch.Generator on the CPU, and so are the tensors; `on("cuda", function)` takes them elsewhere.
Functions that draw from torch's global generator get it seeded by ours, and restored afterwards.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.errors import InputError
from specverify.model import row_mask
from specverify.rules.token import at
from specverify.subjects.rounds.kernel import NONE, Fault, Kernel, Outcome, Round, block, call, check, integers
from specverify.verdict import Kind

Function = Callable[..., Any]


def as_kernel(subject: Kernel | Function) -> Kernel:
    """A kernel as it is; a function by its number of positional parameters: 5 `plain`, 4 `rectangular`, 6 `coins`.

    Raises:
        InputError: for anything else.
    """
    if isinstance(subject, Kernel):
        return subject
    kinds = {4: rectangular, 5: plain, 6: coins}
    parameters = _parameters(subject).values()
    positional = [
        x for x in parameters if x.kind in (x.POSITIONAL_ONLY, x.POSITIONAL_OR_KEYWORD) and x.default is x.empty
    ]
    if len(positional) not in kinds:
        raise InputError(
            f"{_name(subject)} is no round subject: a function takes (draft, q, p, generator), (draft, q, p, lengths, "
            "generator) or (draft, q, p, lengths, coins, pick); wrap others in vllm(), flashinfer() or transformers()"
        )
    return kinds[len(positional)](subject)


def plain(function: Function, *, certain: bool = True) -> Kernel:
    """(draft, q, p, lengths, generator) -> (accepted, token).

    Args:
        function: the kernel.
        certain: whether it takes q = None: drafts that count as certain.
    """

    def verify(given: Round, generator: torch.Generator) -> Outcome:
        return _counted(call(function, given.draft, given.q, given.p, given.lengths, generator), given)

    return Kernel(_name(function), verify, certain=certain)


def rectangular(function: Function, *, certain: bool = True) -> Kernel:
    """(draft, q, p, generator) -> (accepted, token), called once for each number of drafts, at least 1."""

    def verify(given: Round, generator: torch.Generator) -> Outcome:
        return _counted(call(function, given.draft, given.q, given.p, generator), given)

    return Kernel(_name(function), _by_length(verify), 1, certain, batch="equal")


def coins(function: Function, *, certain: bool = True) -> Kernel:
    """(draft, q, p, lengths, coins, pick) -> (accepted, token): no other randomness.

    Coins are float32 multiples of 2^-24 in [0, 1), as `torch.rand` gives: one for each draft, and `pick` for the token
    that follows. Kernels that take one table of gamma + 1 uniforms, as SGLang's do, join the two along the last axis.
    """

    def given_coins(given: Round, coin: Tensor, pick: Tensor) -> Outcome:
        return _counted(call(function, given.draft, given.q, given.p, given.lengths, coin, pick), given)

    return Kernel(_name(function), tossing(given_coins), certain=certain, with_coins=given_coins)


def tossing(with_coins: Callable[[Round, Tensor, Tensor], Outcome]) -> Callable[[Round, torch.Generator], Outcome]:
    """What judges a round with coins from a generator, of what judges it with given coins."""

    def verify(given: Round, generator: torch.Generator) -> Outcome:
        coin = torch.rand(given.draft.shape, generator=generator)
        return with_coins(given, coin, torch.rand(len(given.lengths), generator=generator))

    return verify


def vllm(function: Function, *, seeded_rows: bool = False) -> Kernel:
    """vLLM's `rejection_sample`.

    (draft_token_ids Int[N], num_draft_tokens list, max_spec_len, cu_num_draft_tokens Int[B], draft_probs Float[N, V] or
    None, target_probs Float[N, V], bonus_token_ids Int[B, 1], sampling_metadata) -> Int[B, max_spec_len + 1], padded
    with -1. N drafts of all rows are laid end to end. The metadata hold `temperature` Float[B] (0 in greedy rows, whose
    target_probs are at temperature 1), `top_k` Int[B], `top_p` None, `generators`, `all_greedy`, `all_random`.

    The bonus token is drawn here, from p, as vLLM draws it outside of the function: it says nothing of the kernel. What
    it does with rows that have a generator is judged with `seeded_rows` alone.

    Args:
        function: the kernel.
        seeded_rows: whether every second row has a generator of its own in `generators`, as requests with a seed do. A
            row with drafts that is not greedy has to draw from it: a request whose generator stays as it was, since a
            copy of it was used, draws the same numbers in each of its steps.
    """

    def verify(given: Round, generator: torch.Generator) -> Outcome:
        batch, gamma = given.draft.shape
        used = row_mask(given.lengths, gamma)
        greedy = given.temperature == 0
        laws = torch.where(greedy[:, None, None], given.raw, given.p)[:, :-1]
        last = given.p[torch.arange(batch), given.lengths]
        bonus = torch.multinomial(last, 1, generator=generator)
        seeds = torch.randint(2**62, (batch,), generator=generator).tolist() if seeded_rows else []
        own = {row: torch.Generator().manual_seed(seeds[row]) for row in range(0, len(seeds), 2)}
        metadata = SimpleNamespace(
            temperature=given.temperature.clone(),
            top_k=given.top_k.clone(),
            top_p=None,
            generators=dict(own),
            all_greedy=bool(greedy.all()),
            all_random=not bool(greedy.any()),
        )
        with _global_seed(generator):
            result = call(
                function,
                given.draft[used].int(),
                given.lengths.tolist(),
                gamma,
                given.lengths.cumsum(0).int(),
                None if given.q is None else given.q[used],
                laws[used],
                bonus.int(),
                metadata,
            )
        tokens = integers(result, (batch, gamma + 1), "output_token_ids")
        # A last token that equals its draft was accepted if it fills the row's drafts, and recovered otherwise.
        count = (tokens != NONE).sum(1)
        equal = (at(tokens, (count - 1).clamp(min=0)) == at(given.draft, (count - 1).clamp(0, gamma - 1))) & (count > 0)
        accepted = torch.where(equal & (count == given.lengths), count, (count - 1).clamp(min=0))
        outcome = Outcome(tokens, accepted)
        check(outcome, given)
        _check_drawn(own, seeds, (given.lengths > 0) & ~greedy)
        return outcome

    return Kernel(_name(function), verify)


def _check_drawn(own: Mapping[int, torch.Generator], seeds: list[int], random: Tensor) -> None:
    """Raise Fault unless rows that had something to draw have drawn from their own generators."""
    rows = [row for row in own if random[row]]
    for row in dict.fromkeys(rows[:2] + rows[-2:]):  # a state takes long to make: of each call these few
        if torch.equal(own[row].get_state(), torch.Generator().manual_seed(seeds[row]).get_state()):
            raise Fault(
                Kind.REFUTED,
                f"the generator of row {row} is after the call as it was before: a request with a seed draws the same "
                "numbers in each step, or none of its own; draw from generators[row] itself, not from a copy",
            )


def flashinfer(function: Function) -> Kernel:
    """FlashInfer's `chain_speculative_sampling`, called once for each number of drafts, at least 1.

    (draft_probs Float[B, n, V], draft_token_ids Int[B, n], target_probs Float[B, n + 1, V], generator=) ->
    (output_token_ids Int[B, n + 1], padded with -1, accepted Int[B], emitted Int[B]). `emitted` counts the drafts that
    were kept; `accepted` those that would have passed on their own, wherever the first was rejected (`reported.py`).
    """

    def verify(given: Round, generator: torch.Generator) -> Outcome:
        result = call(function, given.q, given.draft.int(), given.p, generator=generator)
        tokens, passed, emitted = _parts(result, 3, "(output_token_ids, accepted, emitted)")
        batch, slots = given.p.shape[:2]
        outcome = Outcome(
            integers(tokens, (batch, slots), "output_token_ids"),
            integers(emitted, (batch,), "the emitted counts"),
            integers(passed, (batch,), "the accepted counts"),
        )
        check(outcome, given)
        return outcome

    return Kernel(_name(function), _by_length(verify), 1, certain=False, batch="equal", reports=True)


def transformers(function: Function) -> Kernel:
    """transformers' `_speculative_sampling`, called for one row at a time.

    (candidate_input_ids Int[1, n + 1], candidate_logits Float[1, n, V], candidate_length,
    new_logits Float[1, n + 1, V]) -> (valid_tokens Int[1, n_matches + 1], n_matches). Logits are logarithms of q and p;
    the candidates come after one token of context. Releases that have the argument `is_done_candidate` get False.
    """
    done = {"is_done_candidate": False} if "is_done_candidate" in _parameters(function) else {}

    def verify(given: Round, generator: torch.Generator) -> Outcome:
        assert given.q is not None  # `certain` is False
        batch, size = given.p.shape[:2]
        tokens, accepted = torch.full((batch, size), NONE), torch.zeros(batch, dtype=torch.int64)
        logits, targets = given.q.log(), given.p.log()
        with _global_seed(generator):
            for row, length in enumerate(given.lengths.tolist()):
                candidates = torch.cat([torch.zeros(1, 1, dtype=torch.int64), given.draft[row : row + 1, :length]], 1)
                own = logits[row : row + 1, :length], targets[row : row + 1, : length + 1]
                result = call(function, candidates, own[0], length, own[1], **done)
                valid, matches = _parts(result, 2, "(valid_tokens, n_matches)")
                found = int(matches)
                valid = integers(valid, (1, found + 1), f"valid_tokens of {found} matches")
                if found > length:
                    raise Fault(Kind.REFUTED, f"it counts {found} matches of {length} candidates")
                tokens[row, : found + 1], accepted[row] = valid[0], found
        outcome = Outcome(tokens, accepted)
        check(outcome, given)
        return outcome

    return Kernel(_name(function), verify, fewest=1, certain=False, batch="single")


def on(device: torch.device | str, function: Function) -> Function:
    """The function on another device: tensors go there and come back, and a generator there is seeded by ours.

    What it does to its inputs in place is not seen then.
    """

    def move(value: Any) -> Any:
        if isinstance(value, torch.Generator):
            seed = int(torch.randint(2**62, (), generator=value))
            return torch.Generator(device).manual_seed(seed)
        return value

    @functools.wraps(function)
    def there(*arguments: Any, **named: Any) -> Any:
        given, extra = tree.map_tensors((list(arguments), dict(named)), lambda tensor: tensor.to(device))
        result = function(*map(move, given), **{name: move(value) for name, value in extra.items()})
        return tree.map_tensors(result, lambda tensor: tensor.cpu())

    return there


def _counted(result: Any, given: Round) -> Outcome:
    accepted, token = _parts(result, 2, "(accepted, token)")
    shape = tuple(given.lengths.shape)
    return block(integers(accepted, shape, "the accepted counts"), integers(token, shape, "the next tokens"), given)


def _parts(result: Any, size: int, what: str) -> tuple[Any, ...]:
    if not isinstance(result, tuple | list) or len(result) != size:
        found = f"{len(result)} values" if isinstance(result, tuple | list) else type(result).__name__
        raise Fault(Kind.ERROR, f"it returned {found}; expected {what}")
    return tuple(result)


def _by_length(
    verify: Callable[[Round, torch.Generator], Outcome],
) -> Callable[[Round, torch.Generator], Outcome]:
    """What judges a round with the rows of each length by themselves, without padding."""

    def judge(given: Round, generator: torch.Generator) -> Outcome:
        batch, slots = given.p.shape[:2]
        tokens, accepted = torch.full((batch, slots), NONE), torch.zeros(batch, dtype=torch.int64)
        passed = None
        for length in given.lengths.unique().tolist():
            index = (given.lengths == length).nonzero().squeeze(1)
            rows = tree.rows(given, index)
            part = verify(
                replace(
                    rows,
                    draft=rows.draft[:, :length].contiguous(),
                    q=None if rows.q is None else rows.q[:, :length].contiguous(),
                    p=rows.p[:, : length + 1].contiguous(),
                    raw=rows.raw[:, : length + 1].contiguous(),
                ),
                generator,
            )
            tokens[index, : length + 1], accepted[index] = part.tokens, part.accepted
            if part.passed is not None:
                passed = torch.zeros_like(accepted) if passed is None else passed
                passed[index] = part.passed
        return Outcome(tokens, accepted, passed)

    return judge


@contextmanager
def _global_seed(generator: torch.Generator) -> Iterator[None]:
    """Torch's global generator, seeded by ours while a function that draws from it runs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # no function, or one that does not say
        return {}


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
