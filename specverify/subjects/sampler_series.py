"""A series of calls of a black box on one case: made, checked, added up.

Whatever the subject raises or breaks ends its series with an error and is no error of ours.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from specverify.claims import Claim, Lossless, Relaxed
from specverify.deadline import WAITING, Deadline
from specverify.decoders.run import Run
from specverify.errors import ContractError, InputError
from specverify.evidence.result import COPIES, Evidence
from specverify.evidence.sequences import sequence_index
from specverify.model import Model
from specverify.subjects.places import Along, Prefixed
from specverify.subjects.sampler_batches import SIZES, Batches
from specverify.subjects.sampler_checks import INDEPENDENCE, Bounds, Counts, Rows, Tally, dispersion, independence
from specverify.subjects.sampler_location import locate, place_in_trace
from specverify.subjects.sampler_logs import CHECK as LOG_CHECK
from specverify.subjects.sampler_logs import Logs, split
from specverify.subjects.sampler_matches import matches_counts
from specverify.subjects.sampler_pairs import PAIRS, pairs_of_rows
from specverify.subjects.sampler_suite import Case, claimed_law
from toymodels.catalogue import fixed_sequences

Sampler = Callable[[Model, Model, int, int], Any]
"""(target, draft, n, seed) -> tokens Int[n, length], a tensor or an array; or a `decoders.Run`, whose counts of
verified and accepted drafts then show whether anything was at stake. Or a pair of tokens and their log-probabilities,
Float[n, length] or, of whole sequences, Float[n]."""

DISPERSION = "dispersion of the first calls"
FIRST_CALLS = 8
"""Small calls of one size that begin each series."""
FIRST_ROWS, ROWS = 512, 16_384
"""Most rows of one of those, and of any call."""
SEED_BITS = (8, 16, 24)
"""Seeds that are alike up to so many bits must not lead to the same sequences, in calls of `FEW` rows on a toy on which
those would be as good as never the same."""
FEW, UNLIKE = 4, 2.0**60
LOCATION = 1e-3
"""Probability that a refuted sampler is said to be wrong, for certain, at a prefix where it is not."""


class Series:
    """The calls on one case, what they add up to, and what is wrong with them."""

    def __init__(
        self,
        sample: Sampler,
        case: Case,
        claim: Claim,
        first_seed: int,
        generator: np.random.Generator,
        batches: Batches | None = None,
    ) -> None:
        self.sample, self.case, self.first_seed = sample, case, first_seed
        self.generator = generator
        self.batches = batches
        self.logs = Logs(case.target, case.draft)
        self.law, self.cluster, self.vocab = claimed_law(case, claim)
        self.tally: Tally
        if self.law is None:
            if not isinstance(claim, Lossless):
                raise InputError(f"{case.name}: too many sequences to judge the claim {claim}; use a smaller toy")
            self.tally = Rows(case.target, generator)
        elif isinstance(claim, Relaxed):
            self.tally = Bounds(self.law, self.vocab, claim.tv, generator)
        else:
            self.tally = Counts(self.law, self.vocab, generator)
        self.pairs = PAIRS if isinstance(claim, Lossless) else {}
        self.checks = {**self.tally.checks, **INDEPENDENCE, DISPERSION: 1.0, **self.pairs}
        self.before = _fingerprint(case)
        self.first: list[Tensor] = []
        self.later: list[Tensor] = []  # of one whose first calls are small, for want of time
        self.inside: Int[Tensor, " branches"] | None = None
        self.calls = self.drawn = self.planned = self.enough = self.begun = 0
        self.sizes: set[int] = set()
        self.speed = self.spent = 0.0
        self.copies: list[Evidence] = []
        self.evidence: list[Evidence] = []
        self.refuted = False
        self.left = False  # for want of time: what is seen on it by then is no part of an answer
        self.error = ""
        self.location: Prefixed | Along | None = None
        self.notes: list[str] = []

    def plan(self, rates: Mapping[str, float], delta: float, beta: float, seconds: float, slack: float = 1.0) -> None:
        """Fix the number of sequences and the size of the first calls, before any; an answer may be `slack` coarser."""
        self.rates, self.beta, self.patience = rates, beta, seconds / 24
        n = self.tally.sample_size(delta, rates, beta)
        self.enough = n if slack == 1 else min(n, self.tally.sample_size(slack * delta, rates, beta))
        self.rows = min(FIRST_ROWS, max(32, n // 32))
        self.usual, self.planned = self.rows, max(n, FIRST_CALLS * self.rows)
        self.most = min(ROWS, max(self.rows, n // 8))

    @property
    def possible(self) -> int:
        """How many sequences can come, as far as it is known."""
        return int(self.case.target.vocab**self.case.target.length if self.law is None else (self.law > 0).sum())

    @property
    def choices(self) -> int:
        """The most tokens, or clusters of them, that can come after any prefix, as far as it is known."""
        if self.law is None:
            return int(self.case.target.vocab)
        v = self.vocab
        rows = (self.law.reshape(v**place, v, -1).sum(2) for place in range(self.case.target.length))
        return max(int((row > 0).sum(1).max()) for row in rows)

    @property
    def takes(self) -> float:
        """Seconds until it can be answered, at the speed of the widest call so far."""
        return max(0, self.enough - self.drawn) / self.speed if self.speed else 0.0

    @property
    def progress(self) -> float:
        """The share of the planned sequences that are drawn; 1 once there is nothing left to do."""
        return 1.0 if self.error or self.refuted else self.drawn / self.planned

    def play(self, deep: bool, deadline: Deadline) -> None:
        """Make the small calls: those of one row first, each time twice as many, as long as patience lasts.

        They count in their groups alone: what is wrong in them must not look like the law of all rows.
        """
        with self._caught():
            often, start = 1, self.spent
            patience = self.patience * (2 if self.law is None else 1) if deep else self.patience / 3
            left = {rows: count if deep and self.pairs else 1 for rows, count in SIZES.items()}
            if self.law is None:  # long rows say more, and take longer
                left = {rows: count if rows == 1 else max(1, count // 2) for rows, count in left.items()}
            while any(left.values()):
                for rows, count in left.items():
                    for _ in range(min(count, often)):
                        spent = self.spent - start
                        takes = rows / self.speed if self.speed else 0.0
                        if deadline.over or (self.sizes and spent + takes > patience):
                            return
                        self._in_groups(self._next(rows))
                        left[rows] -= 1
                often *= 2

    def advance(self, deadline: Deadline) -> None:
        """Begin with the first calls, or make the next one, twice as large as the last but none too long."""
        with self._caught():
            begins = len(self.first) < FIRST_CALLS
            for _ in range(FIRST_CALLS - len(self.first) if begins else 1):
                if deadline.over:
                    return
                in_time = int(self.patience * self.speed) if self.speed else self.rows * FIRST_CALLS
                if begins and not self.first:
                    self.rows = max(2, min(self.rows, in_time // FIRST_CALLS))
                elif not begins:
                    self.rows = max(1, min(2 * self.rows, self.most, in_time, self.planned - self.drawn))
                tokens = self._next(self.rows)
                self.drawn += len(tokens)
                self.refuted |= self.tally.add(tokens, self.rates)
                self._in_groups(tokens)
                if begins:
                    self.begun = self.calls - 1 if not self.first else self.begun
                    self.first.append(tokens)
                elif self.short and sum(map(len, self.later)) < ROWS:
                    self.later.append(tokens)
            if begins:
                self.copies = self._look_for_copies()
                self.refuted |= any(found.rejected for found in self.copies)

    def _in_groups(self, tokens: Tensor) -> None:
        if self.batches is not None and self.pairs:
            self.batches.add(self.case.name, self.case.target, self.law, tokens)

    @property
    def repeatable(self) -> bool:
        """Whether the first call was made, and would hardly come out the same for another seed."""
        return bool(self.first) and not self.error and self.possible ** len(self.first[0]) >= UNLIKE

    def repeat(self, complaint: str) -> None:
        """Make the first call again; other tokens for the same seed are an error."""
        with self._caught():
            if not torch.equal(self.call(len(self.first[0]), self.first_seed + self.begun), self.first[0]):
                raise ContractError(
                    f"{complaint}; derive all randomness from the seed, or say --no-reproducible (reproducible=False)"
                )

    def tell_seeds_apart(self) -> None:
        """Make small calls with seeds that are alike in their lower bits, if they take little of the time; the same
        tokens for them are an error."""
        takes = FEW * (1 + len(SEED_BITS)) / self.speed if self.speed else math.inf
        if self.error or self.possible**FEW < UNLIKE or takes > self.patience:
            return
        with self._caught():
            first = self.call(FEW, self.first_seed)
            for bits in SEED_BITS:
                if torch.equal(first, self.call(FEW, self.first_seed ^ 1 << bits)):
                    raise ContractError(
                        f"gives the same sequences for the seeds {self.first_seed} and {self.first_seed ^ 1 << bits}, "
                        f"so that calls repeat each other: it uses the lowest {bits} bits of a seed; use all of it"
                    )

    def settle(self, deadline: Deadline) -> None:
        """After the last call: all checks on what was drawn, and where the law is wrong if it is."""
        with self._caught():
            if _fingerprint(self.case) != self.before:
                raise ContractError("changed the model that it was given; leave target and draft as they are")
        if not self.drawn:
            return
        if self.pairs and len(self.first) == FIRST_CALLS and self.short:
            self.copies += self._pairs()
        self.evidence = [*self.copies, *self.logs.evidence(), *self.tally.evidence(self.rates, self.beta)]
        wrong = [found for found in self.evidence if found.rejected and found.check not in (LOG_CHECK, *PAIRS)]
        self.refuted |= any(found.rejected for found in self.evidence)
        if wrong and not any(found.metric == COPIES for found in wrong) and not self.error:
            with self._caught():
                self.location = place_in_trace(self.evidence) if self.law is None else self._locate(deadline)

    def _locate(self, deadline: Deadline) -> Prefixed | None:
        """From fresh sequences: as many again, up to 16 times as many while it is unclear."""
        assert self.law is not None  # sequences are counted
        total, rows = np.zeros(len(self.law), dtype=np.int64), min(self.most, max(self.drawn, self.rows))
        found = None
        for _ in range(16):
            if deadline.over:
                break
            total += self._count(self._next(rows))
            found = locate(self.law, total, self.vocab, alpha=LOCATION, beta=self.beta)
            if found["certain"]:
                break
        if self.pairs and found is not None:
            self.notes += matches_counts(self.case, self.law, total)
        return found

    def call(self, rows: int, seed: int) -> Int[Tensor, "rows length"]:
        """One call, its outcome checked and mapped to the claim's clusters.

        Raises:
            ContractError: for anything but Int[rows, length] tokens in range.
        """
        clock, busy = time.monotonic(), time.process_time()
        output, logs = split(self.sample(self.case.target, self.case.draft, rows, seed))
        # As a `Deadline` counts: computing, or a tenth of waiting.
        took = max(time.process_time() - busy, (time.monotonic() - clock) / WAITING, 1e-6)
        self.spent += took
        if rows >= max(self.sizes, default=0):  # the widest call says most of what wider ones take
            self.speed = rows / took
        self.sizes.add(rows)
        if isinstance(output, Run):
            branches = output.branches.sum(0).cpu()
            self.inside = branches if self.inside is None else self.inside + branches
            output = output.tokens
        tokens = checked(output, rows, self.case.target)
        if logs is not None:
            self.logs.add(tokens, logs)
        return tokens if self.cluster is None else self.cluster[tokens]

    def _next(self, rows: int) -> Int[Tensor, "rows length"]:
        self.calls += 1
        return self.call(rows, self.first_seed + self.calls - 1)

    def _look_for_copies(self) -> list[Evidence]:
        found = independence(self.first, self.rates, self.beta)
        if self.law is not None:
            counts = [self._count(tokens) for tokens in self.first]
            spread = dispersion(self.law, counts, alpha=self.rates[DISPERSION], beta=self.beta)
            found += [replace(evidence, check=DISPERSION) for evidence in spread]
        return found + (self._pairs() if self.pairs and not self.short else [])

    @property
    def short(self) -> bool:
        """Whether the first calls have too few rows to say how rows depend on each other."""
        return len(self.first[0]) < self.usual

    def _pairs(self) -> list[Evidence]:
        return pairs_of_rows(self.case.target, self.first, self.generator, self.rates, self.beta, self.later)

    def _count(self, tokens: Tensor) -> Int[np.ndarray, " sequences"]:
        assert self.law is not None  # sequences are counted only where they are few
        return np.bincount(sequence_index(tokens, self.vocab).numpy(), minlength=len(self.law))

    @contextlib.contextmanager
    def _caught(self) -> Iterator[None]:
        """Subjects are arbitrary code: whatever they raise is the reason of a verdict, and the other cases go on."""
        try:
            yield
        except Exception as error:
            self.error = f"on {self.case.name}: {message_of(error)}"


def checked(output: Any, rows: int, model: Model) -> Int[Tensor, "rows length"]:
    """What a sampler returned, as int64 on the CPU and a copy.

    Raises:
        ContractError: for anything but integers in range, Int[rows, length].
    """
    if isinstance(output, list):
        lengths = {len(row) if isinstance(row, list | tuple) else 0 for row in output}
        if len(lengths) != 1:
            raise ContractError("returned a list of rows of different lengths; fill them up with the end token")
        output = np.asarray(output)
    if not isinstance(output, Tensor | np.ndarray):
        raise ContractError(f"returned {type(output).__name__}; return a tensor or an array of tokens, Int[n, length]")
    tokens = torch.as_tensor(output).detach()
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        nan = ", with NaN" if tokens.is_floating_point() and bool(tokens.isnan().any()) else ""
        raise ContractError(
            f"returned tokens of dtype {tokens.dtype}{nan}; tokens are integers (what draws vectors is judged as a "
            "decoder, by its init and step)"
        )
    if tokens.ndim != 2 or tokens.shape[1] != model.length:
        raise ContractError(
            f"returned shape {tuple(tokens.shape)}; {rows} sequences of {model.length} tokens were asked for"
        )
    if len(tokens) != rows:
        raise ContractError(f"returned {len(tokens)} sequences; {rows} were asked for")
    tokens = tokens.to("cpu", torch.int64, copy=True)
    if int(tokens.min()) < 0 or int(tokens.max()) >= model.vocab:
        raise ContractError(f"returned tokens {int(tokens.min())}..{int(tokens.max())}, outside 0..{model.vocab - 1}")
    return tokens


def message_of(error: Exception) -> str:
    """What a subject did wrong, or what it raised."""
    return str(error) if isinstance(error, ContractError) else f"raised {type(error).__name__}: {error}"


def name_of(sample: Sampler) -> str:
    """`module:name`, where it has one."""
    module = getattr(sample, "__module__", None)
    return f"{module}:{getattr(sample, '__qualname__', type(sample).__qualname__)}" if module else repr(sample)


def _fingerprint(case: Case) -> tuple[Any, ...]:
    """What a sampler must leave as it is: the models' laws along fixed sequences, and what they say of themselves."""
    parts: list[Any] = []
    for model in (case.target, case.draft):
        tokens = fixed_sequences(256, model.vocab, model.length).to(model.device)
        with torch.no_grad():
            laws = model.laws(model.start(len(tokens)), tokens[:, :-1])
        parts += [laws.cpu().numpy().tobytes(), model.vocab, model.length, model.eos]
    return tuple(parts)
