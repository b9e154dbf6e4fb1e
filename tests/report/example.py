"""A record with every kind of cell and verdict in it. Its numbers are made up; its shape is that of a real one."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.report.pieces import NASTY, cell, evidence, exact, images, judgement, path, rate, run, sensitivity, trial

TOYS = ("dense-2x8", "dense-3x6", "dense-4x6", "sparse-3x5", "ties-3x5", "raster-4x6", "eos-3x6", "switch-3x6")


def parts() -> dict[str, Any]:
    """What other commands add to a record: a tester that fails in each way, and judgements at three levels."""
    names = [f"defect {number}" for number in range(30)]
    rows = [trial("round", name, "standard", "caught") for name in names]
    rows += [
        trial("round", name, "forced-coins", "caught" if i % 2 else "missed", named=False)
        for i, name in enumerate(names)
    ]
    rows += [trial("decoder", name, "exact", "caught") for name in names[:3]]
    rows += [
        trial("decoder", NASTY, "exact", "missed"),
        trial("decoder", "sound, but odd", "exact", "not flagged", tv=0.0),
        trial("round", "sound", "standard", "flagged"),
        trial("round", "sound", "forced-coins", "not applicable", lossy=False, named=False, category="control"),
    ]
    rates = [rate(check, what, 9) for check in ("joint", "PIT") for what in ("false alarms", "misses")]
    rates += [rate("joint", "optional stopping", 0, interval=[0.0, 0.005]), rate(NASTY, "misses", 300, holds=False)]
    share = {"branch": "recovered", "draft": "initial", "came": [0.25, 0.25], "due": [0.0, 0.5], "drafts": [1.0, 0.0]}
    return {
        "kill_matrix": {"seed": 0, "delta": 0.02, "rows": rows},
        "calibration": {"seed": 0, "rows": rates},
        "judgements": [
            judgement(
                f"mine.py:{NASTY}",
                "REFUTED",
                exact=[{"model": "drawn, 2 tokens", "window": 2, "tv": 1 / 3, "passes": 1.5, "worlds": 4}],
                location={"position": 1, "prefix": [0], "due": [1 / 3, 2 / 3], "came": [0.5, 0.5], "shares": [share]},
                notes=[f"not lossless: total variation 1/3\n  due   1/3   2/3\n  {NASTY}", "a remark"],
            ),
            judgement(
                "kernel.py:kernel",
                "REFUTED",
                "round",
                evidence=[evidence("one round", 1e-40, True)],
                location={"token": 3, "observed": 0.134765625, "split": {"accepted": 0.002, "recovered": 0.18945}},
            ),
            judgement("box.py:box", "CONSISTENT", "sampler", seed=None, evidence=[evidence("e-process", 0.5)]),
        ],
    }


def record() -> dict[str, Any]:
    """The record, made anew at each call."""
    rng = np.random.default_rng(7)
    cells = []
    for toy in TOYS:
        length = int(toy[-1])
        cells.append(cell("exact", "ar", toy, "PROVED", "exact TV 0", exact=exact(0.0, length, drafts=False)))
        for place, name in enumerate(("sd", "sjd", "scd-mc")):
            for window in (1, 3, length + 1):
                speed = length / (1 + 0.7 * (1 - 0.6**window) * (1 + 0.3 * place))
                settings = {
                    "window": window,
                    "draft" if name == "sd" else "initial": "perturbed" if name == "sd" else "zero",
                }
                tv = float(rng.choice([0.0, 1e-16, 3e-16, 2e-15]))
                cells.append(
                    cell("exact", name, toy, "PROVED", f"exact TV {tv:.2g}", settings=settings, exact=exact(tv, speed))
                )
    cells.append(
        cell(
            "exact",
            NASTY,
            "dense-3x6",
            "REFUTED",
            f"exact TV 0.2 of {NASTY}",
            settings={"window": 3},
            exact=exact(0.2, 3),
        )
    )
    cells.append(cell("exact", "sjd", "zero-3x5", "VACUOUS", "no draft token was rejected", settings={"window": 2}))
    cells.append(
        cell(
            "exact", "sjd", "skew-3x5", "ERROR", "ValueError: broken | pipe\nand a second line", settings={"window": 9}
        )
    )
    for number, (name, tv) in enumerate(
        [
            ("bonus from q", 0.31),
            ("residual forgotten", 0.05),
            ("coin reused across rows", 2.3e-3),
            ("off by one", 4e-5),
        ]
    ):
        missed = number == 3
        cells.append(
            cell(
                "defect",
                name,
                "dense-3x6",
                "PROVED" if missed else "REFUTED",
                f"exact TV {tv}",
                settings={"window": 3},
                exact=exact(tv, 3.0),
            )
        )
    for place, name in enumerate(("ar", "ar-race", "sd", "sjd", "scd-mc", "scd-gs", "sjd-race")):
        bad = name == "sjd-race"
        found = [
            evidence("joint", 1e-12 if bad else 0.41, bad),
            evidence("conditionals", 0.7, blind="dependence between sequences"),
            evidence("e-process", None, statistic={"number": "inf"} if bad else 0.2, estimate=None, interval=None),
        ]
        cells.append(
            cell(
                "sampled",
                name,
                "recurrent-3x6",
                "REFUTED" if bad else "CONSISTENT",
                "joint: off" if bad else "delta = 0.0123",
                settings={"window": None if name.startswith("ar") else 3},
                evidence=found,
                figures={"e_process": path(rng, 1.2 if bad else -0.05 - 0.01 * place)},
            )
        )
    cells.append(
        cell(
            "defect",
            "tempered",
            "markov-8x32",
            "REFUTED",
            "e-process",
            figures={"e_process": path(rng, 4.0)},
            evidence=[],
        )
    )
    for guidance in (1.0, 1.5):
        for place, name in enumerate(("ar", "sjd", "scd-mc", "scd-gs")):
            passes, rate = (64.0, None) if name == "ar" else (40.0 - 6 * place - 2 * guidance, 0.2 + 0.1 * place)
            uniform = rng.multinomial(102_400, np.full(20, 0.05))
            if name == "scd-gs":
                uniform[3] += 900
            spread = rng.poisson(passes, 1600) if rate else np.full(1600, 64)
            values, counts = np.unique(spread, return_counts=True)
            cells.append(
                cell(
                    "real",
                    name,
                    "digits-s",
                    "INCONCLUSIVE" if place == 2 else "CONSISTENT",
                    "delta = 0.02",
                    settings={"window": 8 if rate else None, "guidance": guidance, "batch": 400}
                    | ({"initial": "repeat-left"} if rate else {}),
                    evidence=[
                        evidence("pit", 0.3, metric="Kolmogorov distance"),
                        evidence("surprisal", 0.8, metric="nats per token"),
                    ],
                    run=run(passes, rate),
                    figures={
                        "pit": {"counts": uniform.tolist()},
                        "passes": {"values": values.tolist(), "counts": counts.tolist()},
                        "images": images(rng),
                    }
                    | ({"accepted": {"height": 8, "width": 8, "share": [rate] * 60 + [0.9] * 4}} if rate else {}),
                )
            )
    cells.append(
        cell(
            "paired",
            "sjd-race",
            "hash-16x24",
            "CONSISTENT",
            "4,000 sequences equal token for token",
            settings={"window": 4, "batch": 1000},
            run=run(9.5, 0.61),
        )
    )
    kinds = {"ar": "PROVED", "sjd": "ERROR", "scd-gs": "CONSISTENT", NASTY: "REFUTED", "sjd-race": "REFUTED"}
    names = dict.fromkeys(c["decoder"] for c in cells if c["kind"] != "defect")
    return {
        "schema": "specverify-record",
        "version": 1,
        "status": "complete",
        "created": "2025-03-01T10:00:00+00:00",
        "finished": "2025-03-01T10:04:05.5+00:00",
        "command": "specverify verify --tier quick --seed 0",
        "tier": "quick",
        "seed": 0,
        "software": {"specverify": "0.1.0", "python": "3.11.7", "torch": "2.6.0", "numpy": "2.0.0", "scipy": "1.14.0"},
        "hardware": {"cpus": 4, "threads": 1, "device": "cpu", "accelerator": None},
        "errors": {
            "delta": {"joint law (g)": 0.02, "PIT uniformity": 0.015},
            "beta": 1e-6,
            "alpha": {"total": 1e-6, "parts": [{"check": f"sampled/sjd: check {i}", "alpha": 1e-7} for i in range(10)]},
        },
        "cells": cells,
        "sensitivity": sensitivity(),
        "not_covered": [
            "scd-gs on models with more than two tokens: its races cannot be enumerated",
            f"the decoder {NASTY}",
        ],
        "verdicts": [
            {
                "decoder": name,
                "claim": "lossless",
                "kind": kinds.get(name, "INCONCLUSIVE"),
                "reason": f"the worst of {name}'s cells decides; all others neither proved nor refuted the claim",
                "cells": [c["id"] for c in cells if c["decoder"] == name and c["kind"] != "defect"],
            }
            for name in names
        ],
        "verdict": {"kind": "REFUTED", "reason": f"2 decoders are refuted: {NASTY}, sjd-race", "exit_code": 1},
        **parts(),
    }


def partial() -> dict[str, Any]:
    """The record of a campaign that was interrupted early: exact cells alone."""
    cut = {name: value for name, value in _only(slice(3)).items() if name not in parts()}
    return cut | {
        "status": "partial",
        "finished": None,
        "verdicts": [v | {"kind": "PROVED"} for v in cut["verdicts"]],
        "verdict": {"kind": "INCONCLUSIVE", "reason": "the campaign was interrupted", "exit_code": 2},
    }


def small() -> dict[str, Any]:
    """A record of few cells, for what needs no more: some exact ones, a defect, and SJD on the real model."""
    return _only(slice(0, None, 12))


def one() -> dict[str, Any]:
    """A record of one cell, which judges no known-wrong decoder."""
    return _only(slice(1))


def _only(some: slice) -> dict[str, Any]:
    whole = record()
    kept = whole["cells"][some]
    ids = {c["id"] for c in kept}
    verdicts = [v | {"cells": [name for name in v["cells"] if name in ids]} for v in whole["verdicts"]]
    return whole | {"cells": kept, "verdicts": [v for v in verdicts if v["cells"]]}
