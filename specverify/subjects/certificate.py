"""Certificates: a counterexample as JSON, complete enough that anybody can check it again.

A certificate names the subject, its claim, the setting (the model as integer weights after each context, the draft
model, the window) and what came of it: the total variation, both laws as fractions where they are some, and where it
goes wrong. `replay` takes none of the results on trust: it enumerates the subject in that setting once more.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jsonschema
import torch

from specverify import checksum
from specverify.claims import Claim, ClusterLossless, Lossless, Relaxed
from specverify.errors import BudgetError, InputError
from specverify.evidence.budget import Budget
from specverify.evidence.cases import Case, Weights
from specverify.evidence.found import Counterexample, ExactRow, Outcome
from specverify.evidence.rational import as_fraction
from specverify.evidence.rounding import floor
from specverify.evidence.search import SMALL, explain
from specverify.subjects import proofs
from specverify.subjects import reference as references
from specverify.subjects.certificate_schema import (
    FORMAT,
    SCHEMA,
    VERSION,
    Certificate,
    ClaimRow,
    LawsRow,
    WeightsRow,
)  # fmt: skip
from specverify.subjects.describe import describe, headline
from specverify.subjects.factory import as_factory
from specverify.subjects.judgement import Judgement
from specverify.verdict import Kind, Verdict

LISTED = 4096
"""Longest law that is written out."""


def certificate(counterexample: Counterexample, *, name: str, subject: str | None) -> Certificate:
    """The certificate of a counterexample.

    Args:
        counterexample: what was found.
        name: how the subject is called.
        subject: `pkg.mod:object`, where the subject is found again; None if it has to be handed to `replay`.
    """
    outcome, location, case = counterexample.outcome, counterexample.location, counterexample.case
    laws: LawsRow | None = None
    if outcome is not None and len(outcome.came) <= LISTED:
        laws = {"due": [_exact(x) for x in outcome.due.tolist()], "came": [_exact(x) for x in outcome.came.tolist()]}
    return {
        "format": FORMAT,
        "version": VERSION,
        "subject": subject,
        "name": name,
        "claim": _claim_to_json(counterexample.claim),
        "setting": {
            "model": _model_to_json(case.model),
            "draft": None if case.draft is None else _model_to_json(case.draft),
            "window": case.window,
            "initial": case.initial,
            "arrangement": case.arrangement,
            "precision": case.precision,
        },
        "problem": counterexample.problem,
        "tv": None if outcome is None else outcome.tv,
        "bound": None if outcome is None else outcome.bound,
        "laws": laws,
        "location": None if location is None else json.loads(json.dumps(location.to_json())),
        "error": counterexample.error,
    }


def save(found: Mapping[str, Any], path: Path | str) -> Path:
    """Write a certificate, with the folder in which its subject is found, and say where."""
    path = Path(path)
    here = Path.cwd()
    whole = check(found)
    if whole["subject"] is not None:
        try:
            file = references.source(whole["subject"], here)
        except InputError:  # an object of this process that has a name, and no file
            file = None
        whole["found_in"] = {
            "folder": str(here),
            "from_here": os.path.relpath(here, path.parent.resolve()),
            "sha256": None if file is None else _digest(file),
        }
    path.write_text(json.dumps(checksum.sealed(whole), indent=1) + "\n", encoding="utf-8")
    return path


def load(path: Path | str) -> Certificate | proofs.Proved:
    """Read a certificate.

    Raises:
        InputError: there is no such file, it is no JSON, no certificate of this version, or not what was written.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        passed = isinstance(error, FileNotFoundError) and Path(path).with_name("judgement.json").exists()
        why = "the judgement beside it has none: one has that is refuted by an enumeration, or proved for every law"
        why = why if passed else error.strerror or str(error)
        raise InputError(f"certificate {path} cannot be read: {why}") from None
    except (ValueError, RecursionError) as error:  # also for bytes that are no text
        raise InputError(f"certificate {path} is no JSON: {error}") from None
    if isinstance(found, dict) and "verdict" in found:
        what, where = ("record", "in proofs/") if "cells" in found else ("judgement", "beside it, certificate.json")
        raise InputError(f"{path} is a {what}; what can be replayed is a certificate {where}")
    remedy = f"judge the subject again, or, if the change is meant, delete its {checksum.KEY!r}"
    return check(checksum.opened(found, f"certificate {path}", remedy), str(path))


def find_subject(found: Certificate | proofs.Proved, path: Path) -> tuple[Path, str]:
    """The folder from which a certificate's subject is found, and what is to be said of the subject there.

    Tried are the folder of old as it lies from the certificate, that folder itself, and the current one.

    Raises:
        InputError: the subject is in none of them.
    """
    place, here = found.get("found_in"), Path.cwd()
    tried = [here]
    if place is not None:
        tried = [(path.parent / place["from_here"]).resolve(), Path(place["folder"]), here]
    subject = found["subject"] or ""
    for folder in dict.fromkeys(tried):
        try:
            file = references.source(subject, folder)
        except InputError:
            continue
        if place is None or place["sha256"] is None or file is None or _digest(file) == place["sha256"]:
            return folder, ""
        return folder, f"{file} is not what it was when the certificate was written"
    where = " and ".join(str(folder) for folder in dict.fromkeys(tried))
    raise InputError(
        f"the subject {found['subject']} of {path} is not to be found from {where}; name it where it is now with "
        "--subject REF"
    )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check(found: Any, what: str = "the certificate") -> Certificate | proofs.Proved:
    """The certificate itself, once it has the form and numbers of one.

    Raises:
        InputError: naming the part that is wrong.
    """
    if proofs.is_one(found):
        return proofs.check(found, what)
    if isinstance(found, dict) and found.get("format") == FORMAT and found.get("version") != VERSION:
        raise InputError(
            f"{what} has version {found.get('version')!r}; this specverify reads version {VERSION}: find it anew"
        )
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(SCHEMA).iter_errors(found))
    if error is not None:
        place = "/".join(map(str, error.absolute_path)) or "the whole"
        raise InputError(f"{what} is not valid at {place}: {error.message[:200]}")
    case_of(found)
    claim_of(found)
    plain: Certificate = json.loads(json.dumps(found))
    return plain


def case_of(found: Certificate) -> Case:
    """The setting of a certificate."""
    setting = found["setting"]
    draft = setting["draft"]
    return Case(
        model=_model_from_json(setting["model"]),
        draft=None if draft is None else _model_from_json(draft),
        window=setting["window"],
        initial=setting["initial"],
        arrangement=setting["arrangement"],
        precision=setting.get("precision", "float64"),
    )


def claim_of(found: Certificate | proofs.Proved) -> Claim:
    """The claim of a certificate."""
    claim = found["claim"]
    if claim["kind"] == "relaxed":
        return Relaxed(claim["tv"])
    if claim["kind"] == "cluster-lossless":
        return ClusterLossless(tuple(tuple(cluster) for cluster in claim["partition"]))
    return Lossless()


def replay(found: Mapping[str, Any] | Path | str, subject: Any = None, budget: Budget = SMALL) -> Judgement:
    """Carry out a certificate's enumeration again, and say whether the refutation stands.

    Args:
        found: a certificate, or the file that holds one.
        subject: the decoder; by default the one that the certificate names.
        budget: for the enumeration.

    Returns:
        REFUTED (or ERROR) where the claim is broken again; where it is not, CONSISTENT: of other settings it
        says nothing.

    Raises:
        InputError: the file is no certificate, or there is no subject.
    """
    start = time.monotonic()
    path = found if isinstance(found, str | Path) else None
    found = load(path) if path is not None else check(found)
    if proofs.is_one(found):
        return proofs.replay(found, subject, path)
    found = cast("Certificate", found)
    if subject is None and found["subject"] is None:
        raise InputError(f"the certificate of {found['name']!r} does not say where its subject is; pass the subject")
    factory = as_factory(found["subject"] if subject is None else subject, found["name"])
    case, claim = case_of(found), claim_of(found)
    recorded = "the certificate says " + (found["error"] if found["tv"] is None else f"TV {found['tv']:.6g}")
    again: Counterexample | None = None
    exact: list[ExactRow] = []
    try:
        # A repaired decoder may compute in float32, unless what was found is itself as small as its rounding.
        coarse = found["tv"] is None or found["tv"] > floor(torch.float32, case.target().length)
        came = explain(factory.build, case, claim, budget, torch.float32 if coarse else torch.float64)
    except (InputError, BudgetError) as error:
        verdict = Verdict(Kind.ERROR, f"the certificate's setting cannot be judged: {error}; {recorded}")
    else:
        if isinstance(came, Outcome):
            exact = [came.row()]
            seen = f"exact TV {came.tv:.3g} in its setting, the only one that was run; {recorded}"
            verdict = Verdict(Kind.CONSISTENT, f"the refutation does not stand: {seen}")
        else:
            again = came
            exact = [] if again.outcome is None else [again.outcome.row()]
            verdict = _stands(again, found, recorded)
    return Judgement(
        subject=factory.name,
        level="decoder",
        claim=str(claim),
        verdict=verdict,
        exact=exact,
        location=again.location.to_json() if again is not None and again.location is not None else None,
        certificate=found if again is None else certificate(again, name=factory.name, subject=factory.reference),
        not_covered=("every setting but the certificate's",),
        reproduce=f"specverify replay {shlex.quote(str(path))}" if path is not None else "",
        notes=() if again is None else (describe(again),),
        seconds=time.monotonic() - start,
    )


def _stands(again: Counterexample, found: Certificate, recorded: str) -> Verdict:
    if again.outcome is None:
        return Verdict(Kind.ERROR, f"the decoder breaks down: {again.error}; {recorded}")
    same = found["tv"] is not None and abs(again.outcome.tv - found["tv"]) <= 1e-9
    stands = "the refutation stands" if same else f"refuted, but not as before ({recorded})"
    return Verdict(Kind.REFUTED, f"{stands}: {headline(again)}")


def _claim_to_json(claim: Claim) -> ClaimRow:
    if isinstance(claim, Relaxed):
        return {"kind": "relaxed", "tv": claim.tv}
    if isinstance(claim, ClusterLossless):
        return {"kind": "cluster-lossless", "partition": [list(cluster) for cluster in claim.partition]}
    return {"kind": "lossless"}


def _model_to_json(model: Weights | str) -> WeightsRow | str:
    if isinstance(model, str):
        return model
    rows = zip(model.contexts(), model.weights, strict=True)
    plain: WeightsRow = {
        "vocab": model.vocab,
        "length": model.length,
        "eos": model.eos,
        "span": model.span,
        "processors": model.processors,
        "laws": [{"after": list(after), "weights": list(row)} for after, row in rows],
    }
    if model.guide is not None:
        plain["guide"] = [list(row) for row in model.guide]
    return plain


def _model_from_json(plain: WeightsRow | str) -> Weights | str:
    if isinstance(plain, str):
        return plain
    guide = tuple(tuple(row) for row in plain["guide"]) if "guide" in plain else None
    weights = tuple(tuple(law["weights"]) for law in plain["laws"])
    made = plain["vocab"], plain["length"], weights, plain["eos"], plain["span"], plain["processors"], guide
    model = Weights(*made)
    for context, law in zip(model.contexts(), plain["laws"], strict=True):
        if list(context) != law["after"]:
            raise InputError(f"the law after {law['after']} stands where that after {list(context)} belongs")
    return model


def _exact(value: float) -> str | float:
    near = as_fraction(value)
    return value if near is None else str(near)
