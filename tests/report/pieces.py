"""What a made-up record is made of, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

NASTY = "<script>alert('&|*_`$x$')</script>"
BRANCHES = ("sampled", "accepted", "recovered", "bonus")


def cell(kind: str, decoder: str, model: str, verdict: str, reason: str, **parts: Any) -> dict[str, Any]:
    settings = {"window": None, "initial": None, "draft": None, "guidance": None, "batch": None}
    settings |= parts.pop("settings", {})
    words = [f"{key[0]}{value}" for key, value in settings.items() if value is not None]
    identity = "/".join([kind, decoder, model, *words])
    return {
        "id": identity,
        "kind": kind,
        "decoder": decoder,
        "claim": "lossless",
        "model": model,
        "settings": settings,
        "verdict": {"kind": verdict, "reason": reason},
        "expected": "REFUTED" if kind == "defect" else None,
        "seconds": 0.25,
        "reproduce": f"specverify verify --tier quick --seed 0 --only '{identity}'",
        "exact": None,
        "evidence": [],
        "run": None,
        "figures": {},
    } | parts


def exact(tv: float, passes: float, drafts: bool = True) -> dict[str, Any]:
    verified, accepted = (6.0, 4.0) if drafts else (0.0, 0.0)
    return {
        "tv": tv,
        "passes": passes,
        "acceptance_rate": accepted / verified if drafts else None,
        "verified": verified,
        "accepted": accepted,
        "branches": dict(zip(BRANCHES, (0.0, 4.0, 1.5, 0.5), strict=True)),
        "states": 1234,
        "worlds": 56789,
        "sequences": 729,
    }


def evidence(check: str, p_value: float | None, rejected: bool = False, **parts: Any) -> dict[str, Any]:
    return {
        "check": check,
        "statistic": 731.2,
        "p_value": p_value,
        "alpha": 1e-7,
        "beta": 1e-6,
        "delta": 0.0123,
        "metric": "total variation",
        "n": 1_000_000,
        "rejected": rejected,
        "basis": "finite-sample bound",
        "power": "asymptotic",
        "estimate": 0.0011,
        "interval": [0.0, 0.0123],
        "vacuous": "",
        "blind": "",
        "detail": f"{check} over 729 sequences",
        "coverage": {"cells": 729},
        "data": {"counts": [1, 2, 3]},
    } | parts


def run(passes: float, rate: float | None) -> dict[str, Any]:
    return {
        "n": 1600,
        "tokens": 1600 * 64,
        "passes_mean": passes,
        "passes_interval": [passes * 0.985, passes * 1.015],
        "acceptance_rate": rate,
        "acceptance_interval": None if rate is None else [rate - 0.01, rate + 0.01],
        "branches": dict(zip(BRANCHES, (0, 60_000, 30_000, 12_400), strict=True)),
        "seconds": 12.5,
        "tokens_per_second": 8192.0,
        "step_compression": 64 / passes,
        "draft_passes_mean": 0.0,
        "lock_step": [{"batch": 64, "passes": 25.0, "interval": [24.5, 25.5], "speedup": 64 / 25.0}],
    }


def sensitivity() -> dict[str, Any]:
    figures = (("slight", 0.004, 7000), ("plain", 0.1, 120), ("silent", 0.001, None))
    where = {"command": "python -m this", "model": "digits-s", "window": 16, "guidance": 1.0, "images": 1600}
    rows = [
        {
            "defect": name,
            "kolmogorov": distance,
            "kolmogorov_error": 0.002,
            "nats": -distance,
            "nats_error": 0.003,
            "images": 12800,
            "needed": needed,
            "shown": needed is not None and needed <= 1600,
        }
        for name, distance, needed in figures
    ]
    return where | {"alpha": 1e-9, "beta": 1e-6, "rows": rows}


def images(rng: np.random.Generator) -> dict[str, Any]:
    y, x = np.mgrid[:8, :8]
    rows = []
    for label in list(range(10)) * 5:
        ring = np.exp(-((np.hypot(x - 3.5, y - 3.5) - 1 - 0.25 * label) ** 2))
        rows.append(np.clip(16 * ring + rng.normal(0, 1.5, (8, 8)), 0, 16).astype(int).ravel().tolist())
    return {"height": 8, "width": 8, "levels": 17, "labels": list(range(10)) * 5, "tokens": rows}


def path(rng: np.random.Generator, drift: float) -> dict[str, Any]:
    steps = rng.normal(drift, 0.3, 60).cumsum()
    return {"n": [1000 * (i + 1) for i in range(60)], "log10_e": steps.tolist(), "threshold": 7.0}


def trial(level: str, defect: str, checker: str, outcome: str, **parts: Any) -> dict[str, Any]:
    """A row of a kill matrix."""
    lossy = outcome not in ("flagged", "not flagged")
    verdict = {"caught": "REFUTED", "flagged": "REFUTED", "missed": "CONSISTENT", "not flagged": "PROVED"}.get(outcome)
    return {
        "defect": defect,
        "level": level,
        "category": "residual" if lossy else "control",
        "lossy": lossy,
        "checker": checker,
        "named": lossy,
        "outcome": outcome,
        "verdict": verdict,
        "reason": f"what {checker} said",
        "tv": 0.25 if checker == "exact" else None,
        "n": None if checker == "exact" or verdict is None else 2048,
        "by": [],
        "seconds": 0.5,
    } | parts


def rate(check: str, what: str, events: int, holds: bool = True, **parts: Any) -> dict[str, Any]:
    """A row of a calibration."""
    return {
        "check": check,
        "what": what,
        "on": "sparse-3x5, perfect",
        "stated": 0.01,
        "delta": 0.05 if what == "misses" else None,
        "tv": 0.05 if what == "misses" else None,
        "n": 5000,
        "trials": 1000,
        "events": events,
        "interval": [max(0.0, events / 1000 - 0.008), events / 1000 + 0.008],
        "p_value": 0.5 if holds else 1e-30,
        "holds": holds,
        "seconds": 3.0,
    } | parts


def judgement(subject: str, kind: str, level: str = "decoder", **parts: Any) -> dict[str, Any]:
    """A judgement, as `Judgement.to_json` has it, with its seed."""
    return {
        "subject": subject,
        "level": level,
        "claim": "lossless",
        "seed": 0,
        "verdict": {"kind": kind, "reason": f"why {subject} is {kind}"},
        "evidence": [],
        "exact": [],
        "location": None,
        "certificate": None,
        "not_covered": [f"what {subject} does elsewhere"],
        "reproduce": f"specverify validate '{subject}' --seed 0",
        "seconds": 1.25,
        "notes": [],
    } | parts
