"""Certificates of proofs for all laws: which boxes, from which seed, so that anybody can carry them out again."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jsonschema

from specverify.deadline import Deadline
from specverify.declared import Initial
from specverify.errors import InputError
from specverify.evidence.budget import Budget
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.goals import of_box
from specverify.evidence.exact.proof import Proof, prove
from specverify.subjects.certificate_schema import ClaimRow, FoundIn
from specverify.subjects.factory import as_factory
from specverify.subjects.for_all import ForAll
from specverify.subjects.judgement import Judgement
from specverify.verdict import Kind, Verdict

FORMAT, VERSION = "specverify-proof", 1
_SIZE = {"type": "integer", "minimum": 1}
_RUN = {
    "vocab": _SIZE,
    "length": _SIZE,
    "window": {"type": ["integer", "null"], "minimum": 1},
    "eos": {"type": ["integer", "null"], "minimum": 0},
    "drafts": {"type": "boolean"},
    "initial": {"type": ["string", "null"]},
    "rule": {"type": ["string", "null"]},
    "value": {"type": ["number", "null"]},
    "prime": {"type": "string", "pattern": "^[0-9]+$"},
    "error_bits": {"type": "number"},
    "worlds": _SIZE,
    "numbers": _SIZE,
    "symbols": {"type": "integer", "minimum": 0},
    "orders": {"type": "integer", "minimum": 0},
    "asked": {
        "type": "object",
        "required": ["tokens", "ended", "drafted"],
        "additionalProperties": False,
        "properties": {"tokens": _SIZE, "ended": {"type": "boolean"}, "drafted": {"type": "boolean"}},
    },
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A proof that a speculative decoder is lossless for every law of some sizes",
    "type": "object",
    "required": ["format", "version", "subject", "name", "claim", "seed", "runs"],
    "additionalProperties": False,
    "properties": {
        "format": {"const": FORMAT},
        "version": {"const": VERSION},
        "subject": {"type": ["string", "null"]},
        "name": {"type": "string"},
        "claim": {
            "type": "object",
            "properties": {"kind": {"enum": ["lossless", "relaxed"]}, "tv": {"const": 1.0}},
            "required": ["kind"],
            "additionalProperties": False,
        },
        "seed": {"type": "integer", "minimum": 0},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": [name for name in _RUN if name not in ("rule", "value", "orders", "asked")],
                "additionalProperties": False,
                "properties": _RUN,
            },
        },
        "found_in": {"type": "object"},
    },
}


class AskedRow(TypedDict):
    """See `specverify.evidence.exact.box.Asked`."""

    tokens: int
    ended: bool
    drafted: bool


class RunRow(TypedDict):
    """A run: its box, and what it took."""

    vocab: int
    length: int
    window: int | None
    eos: int | None
    drafts: bool
    initial: Initial | None
    rule: NotRequired[str | None]
    value: NotRequired[float | None]
    prime: str
    error_bits: float
    worlds: int
    numbers: int
    symbols: int
    orders: NotRequired[int]
    asked: NotRequired[AskedRow]


class Proved(TypedDict):
    """The certificate of a proof."""

    format: str
    version: int
    subject: str | None
    name: str
    claim: ClaimRow
    seed: int
    runs: list[RunRow]
    found_in: NotRequired[FoundIn]


def certificate(found: ForAll, *, name: str, subject: str | None) -> Proved:
    """The certificate of a proof.

    Args:
        found: what was proved.
        name: how the subject is called.
        subject: `pkg.mod:object`, where the subject is found again; None if it has to be handed to `replay`.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "subject": subject,
        "name": name,
        # Of a relaxed rule, what it keeps to follows from its runs.
        "claim": {"kind": "lossless"} if found.proved[0].box.rule is None else {"kind": "relaxed", "tv": 1.0},
        "seed": found.proved[0].seed,
        "runs": [_run(proof) for proof in found.proved],
    }


def _run(proof: Proof) -> RunRow:
    row: RunRow = {
        "vocab": proof.box.vocab,
        "length": proof.box.length,
        "window": proof.box.window,
        "eos": proof.box.eos,
        "drafts": proof.box.drafts,
        "initial": proof.box.initial,
        "rule": proof.box.rule,
        "value": proof.box.value,
        "prime": str(proof.prime),
        "error_bits": math.floor(proof.error_bits),
        "worlds": proof.worlds,
        "numbers": proof.numbers,
        "symbols": proof.symbols,
        "orders": proof.orders,
    }
    if proof.asked is not None:
        row["asked"] = {
            "tokens": proof.asked.tokens,
            "ended": proof.asked.ended,
            "drafted": proof.asked.drafted,
        }
    return row


def is_one(found: Any) -> bool:
    """Whether something is the certificate of a proof, valid or not."""
    return isinstance(found, Mapping) and found.get("format") == FORMAT


def check(found: Mapping[str, Any], what: str = "the certificate") -> Proved:
    """The certificate itself, once it has the form of one.

    Raises:
        InputError: naming the part that is wrong.
    """
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(SCHEMA).iter_errors(dict(found)))
    if error is not None:
        place = "/".join(map(str, error.absolute_path)) or "the whole"
        raise InputError(f"{what} is not valid at {place}: {error.message[:200]}")
    goals = {of_box(_box(run)).claim for run in found["runs"]}
    if (found["claim"]["kind"] == "lossless") != (goals == {"lossless"}) or len({*map(_rule, found["runs"])}) > 1:
        raise InputError(f"{what} is of {found['claim']['kind']}, and its runs of {', '.join(sorted(goals))}")
    plain: Proved = json.loads(json.dumps(found))
    return plain


def replay(found: Mapping[str, Any], subject: Any = None, path: Path | str | None = None) -> Judgement:
    """Carry out a proof again: every run as it was, and from another seed.

    Returns:
        PROVED-FOR-ALL if it stands; else INCONCLUSIVE, as a proof that does not stand refutes nothing.

    Raises:
        InputError: there is no subject.
    """
    start = time.monotonic()
    if subject is None and found["subject"] is None:
        raise InputError(f"the certificate of {found['name']!r} does not say where its subject is; pass the subject")
    factory = as_factory(found["subject"] if subject is None else subject, found["name"])
    proofs, why = [], ""
    for run in found["runs"]:
        for seed in (found["seed"], found["seed"] + 1):
            # As long as it takes: it took seconds.
            proofs.append(prove(factory.build, _box(run), seed, Budget(10**7, 4096, Deadline(600.0))))
            if not proofs[-1].proved:
                why = why or f"{proofs[-1].why} ({proofs[-1].box})"
        if str(proofs[-2].prime) != run["prime"]:
            why = why or f"seed {found['seed']} gives the prime {proofs[-2].prime}, not {run['prime']}"
    if why:
        verdict = Verdict(Kind.INCONCLUSIVE, f"the proof for all laws does not stand: {why}")
    else:
        verdict = Verdict(
            Kind.PROVED_FOR_ALL, f"the proof stands, and from another seed, too: {ForAll(proofs[::2]).sentence()}"
        )
    return Judgement(
        subject=factory.name,
        level="decoder",
        claim="; ".join(dict.fromkeys(of_box(_box(run)).claim for run in found["runs"])),
        verdict=verdict,
        certificate=dict(found),
        not_covered=(
            "every size but the certificate's: `specverify validate` enumerates or samples others",
            "rounding, and rows that depend on each other",
        ),
        reproduce=f"specverify replay {shlex.quote(str(path))}" if path is not None else "",
        seconds=time.monotonic() - start,
    )


def _box(run: RunRow) -> Box:
    sizes = run["vocab"], run["length"], run["window"], run["eos"], run["drafts"], run["initial"]
    return Box(*sizes, _rule(run), run.get("value"))


def _rule(run: RunRow) -> str | None:
    return run.get("rule")
