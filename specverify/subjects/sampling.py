"""Samples of the decoder as it runs: bare, in batches as servers have them, against the law that is known.

What is enumerated is held against the law that was enumerated: the proof is then of the code that runs. Where nothing
can be enumerated (races over three tokens and more, a thousand tokens), samples are all that there is, and are held
against the target law.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from specverify.batteries import traces
from specverify.claims import Claim, Lossless
from specverify.deadline import Deadline
from specverify.decoders.registry import Settings
from specverify.errors import BudgetError, ContractError, InputError, SpecverifyError
from specverify.evidence.bare import sequences
from specverify.evidence.cached import Cached, told
from specverify.evidence.cases import Weights
from specverify.evidence.discrete import ChiSquare, sequence_counts
from specverify.evidence.found import Outcome
from specverify.evidence.ids import Groups
from specverify.evidence.result import Evidence
from specverify.evidence.sequences import target_law
from specverify.evidence.tokens import reduce
from specverify.model import Model
from specverify.processors import Processed, parse_processors
from specverify.seeds import derived_seed
from specverify.subjects.factory import Factory
from specverify.subjects.modes import Mode
from specverify.subjects.suite import scattered
from toymodels.tables import prefixes
from toymodels.wide import large

ALPHA, BETA = 1e-6, 0.01
"""Of all checks of a judgement together, and of each."""
SIZES = ((1, 100), (2, 400), (7, 1_400), (65, 6_500), (1_000, 20_000))
"""Rows of a batch, and sequences that are drawn in such batches."""
LARGER = ((1, 400), (65, 26_000), (1_000, 40_000))
SMALLER = ((2, 4_800), (3, 5_400), (5, 9_000), (7, 12_600), (12, 21_600))
"""The same where rows depend on each other, so that batches are all that there is: of the largest tiny model, and of
the smallest, which shows a slip of one row best."""
ONE = 2_400
"""Sequences of a row that was seen to depend on others in a larger batch."""
FEW = ((7, 140), (1_000, 10_000))
"""The same where only some toys are asked for."""
ALL_THERE_IS = 10_000, 300_000
"""The same over more than two tokens of decoders that draw by races, of which nothing there is enumerated."""
APART = 12
"""Rows of batches of up to so many are held against the law by themselves, too: a slip of one drowns among others."""
CROWD = 1_024
"""Tokens of the model that is too large for any enumeration."""
SPOKEN = tuple(name for name in traces.SAMPLED if name != "copies")
"""Checks of tokens of models that are too large for any law of sequences."""
FAR = 64
"""Positions of one of seven tokens, whose sequences are too long for any."""


@dataclass(frozen=True)
class Task:
    """Sequences to draw, and what they are held against.

    Attributes:
        name: of the checks.
        settings: to build the decoder from.
        model: the target.
        rows: of a batch.
        n: sequences.
        law: of whole sequences; None for a vocabulary that has too many, whose tokens are tested instead.
        places: rows of a batch that are held against the law by themselves, too.
    """

    name: str
    settings: Settings
    model: Model
    rows: int
    n: int
    law: Float[Tensor, " sequences"] | None
    places: tuple[int, ...] = ()


def tasks(
    mode: Mode,
    outcomes: Sequence[Outcome],
    claim: Claim,
    apart: tuple[int, int] | None,
    others: bool,
) -> list[Task]:
    """What is sampled of a mode: what was enumerated, in batches of every size, and what could not be.

    Args:
        mode: how the decoder is run.
        outcomes: what was enumerated.
        claim: what it claims; only a lossless decoder is held to the target law where nothing was enumerated.
        apart: where its rows depend on each other, so that batches are all that there is: a row that was seen to, and
            of how many (`beside.row_apart`); None where they do not.
        others: whether large models are sampled, too, and batches of every size.
    """
    found = []
    for model, sizes in _plan(mode, apart is not None, others):
        case = mode.case(model)
        listed = next((o for o in outcomes if o.case == case), None)
        found += [] if listed is None else _against(listed, sizes)
        if listed is not None and apart is not None and model == mode.tiny[0] and apart[1] > APART:
            found += [replace(_against(listed, [(apart[1], ONE * apart[1])])[0], places=apart[:1])]
    return found + (_unlisted(mode, others) if isinstance(claim, Lossless) else [])


def _plan(mode: Mode, dependent: bool, others: bool) -> list[tuple[Weights, Sequence[tuple[int, int]]]]:
    """Which models are sampled in batches of which sizes."""
    if dependent:
        return [(mode.tiny[0], SMALLER), (mode.tiny[-1], LARGER)]
    return [(mode.tiny[-1], SIZES if others else FEW)]


def _against(outcome: Outcome, sizes: Sequence[tuple[int, int]]) -> list[Task]:
    model = outcome.case.target()
    settings, law = outcome.case.settings(model), outcome.exact.law
    return [
        Task(f"batches of {rows:,}", settings, model, rows, n, law, tuple(range(rows)) if 1 < rows <= APART else ())
        for rows, n in sizes
    ]


def _unlisted(mode: Mode, others: bool) -> list[Task]:
    """Samples of lossless decoders where enumerations end: three tokens by races, many tokens, long sequences."""
    window = mode.windows[-1]
    found = []
    for vocab, length in [*([(3, 4), (5, 3)] * mode.races), *([(12, 2)] * others)]:
        case = mode.case(Weights(vocab, length, scattered(prefixes(vocab, length), vocab)), window)
        model: Model = case.target()
        rows, n = ALL_THERE_IS if mode.races else (1_000, 20_000)
        found.append(Task(f"{vocab} tokens", case.settings(model), model, rows, n, target_law(model)))
    if not others:
        return found
    for name, vocab, length in (f"{CROWD:,} tokens", CROWD, 4), (f"{FAR} positions", 7, FAR):
        settings, model = beyond(mode, vocab, length, window)
        found.append(Task(name, settings, model, 512, 2_048, None))
    return found


def beyond(mode: Mode, vocab: int, length: int, window: int | None, eos: int | None = None) -> tuple[Settings, Model]:
    """A target that is too large for any enumeration, and what a decoder of it is made with."""
    initial: Any = mode.initials[0] or "repeat-left"
    model: Model = large("large", vocab, length, eos)
    settings = Settings(window or 1, initial, large("large-draft", vocab, length, eos) if mode.drafts else None)
    return settings, Processed(model, parse_processors(mode.processors)) if mode.processors else model


def carry_out(
    factory: Factory, todo: Sequence[Task], number: int, deadline: Deadline
) -> Iterator[tuple[Task, Evidence | InputError | None]]:
    """The evidence of each task, at shares of `ALPHA`; an InputError if it does not take it; None without time.

    Raises:
        ContractError: it breaks down, or a cache would not hold what it commits; the latter behind all evidence.
    """
    breach = ""
    alpha = ALPHA / max(1, sum(1 + len(task.places) if task.law is not None else len(SPOKEN) for task in todo))
    for place, task in enumerate(todo):
        try:
            tokens, seen = _drawn(factory, task, derived_seed(number, place), deadline)
        except BudgetError:
            yield task, None
            continue
        except InputError as error:
            yield task, error
            continue
        except SpecverifyError:
            raise
        except Exception as error:
            raise ContractError(
                f"run as it is, {task.rows:,} rows at once, it raised {type(error).__name__}: {error}"
            ) from error
        breach = breach or (seen and f"on {task.name}, {task.rows:,} rows at once, {seen}")
        generator = np.random.default_rng([number, place])
        if task.law is None:
            laws = task.model.laws(task.model.start(len(tokens)), tokens[:, :-1])
            groups = Groups(tokens, task.model.vocab)
            groups.add(laws, slice(None), slice(None))
            trace = traces.Traced(reduce(laws, tokens, generator), groups=groups)
            for evidence in traces.carry_out(trace, dict.fromkeys(SPOKEN, alpha), BETA):
                yield task, replace(evidence, check=f"{task.name}: {evidence.check}")
            continue
        each = {task.name: tokens} | {f"{task.name}, row {row}": tokens[row :: task.rows] for row in task.places}
        for name, some in each.items():
            counts = sequence_counts(some, task.model.vocab)
            found = ChiSquare(task.law).check(counts, alpha=alpha, beta=BETA, generator=generator)
            yield task, replace(found, check=f"{name}: {found.check}")
    if breach:
        raise ContractError(breach)


def _drawn(factory: Factory, task: Task, seed: int, deadline: Deadline) -> tuple[Int[Tensor, "n length"], str]:
    """Sequences, and what a cache would not hold of them; of a decoder that takes no model with a cache, as it is."""
    drafts = None if task.settings.draft_model is None else Cached(task.settings.draft_model)
    model = Cached(task.model)
    try:
        decoder = factory.build(replace(task.settings, draft_model=drafts))
        return sequences(decoder, model, task.n, seed, task.rows, deadline), told(model, drafts)
    except SpecverifyError:
        raise
    except Exception:  # told by `cache.breaches`
        decoder = factory.build(task.settings)
        return sequences(decoder, task.model, task.n, seed, task.rows, deadline), ""
