"""Tables of continuous tokens."""

from __future__ import annotations

from specverify.report.shape import Record
from specverify.report.tables import UNKNOWN, Table, caught, cell_row, interval, number

_MEANING = (
    "A decoder of continuous tokens is lossless if what it emits falls into every set of values as often as under the "
    "target alone, so that the total variation is 0: tokens that look alike, or share means and variances, are not "
    "enough. No finite sample can show that much, so PROVED rests on the whole output density of one token, summed to "
    "1e-6, and CONSISTENT on tests that would have seen a stated distance."
)
_CSPD = (
    "CSpD (arXiv 2411.11925) is held to lossless, which it is not, wherever the transitions of draft and target "
    "differ in their covariances: its factor Sigma is then not 1. Where they are shared its criterion as published, "
    "without a limit of proposals, is exact: a finding about those laws, not a claim of the method, hence VACUOUS. "
    "Where a redraw cannot succeed, on which the paper is silent, it is one draw of the target's last transition. The "
    "slips of the code are each added to the published criterion, whose bias it is where a slip changes nothing "
    "(zeros after 100 proposals, where these hardly ever fail); cspd-released has all but the last step without its "
    "noise."
)


def densities(record: Record) -> Table:
    """One step: how far the token's density is from the target's."""
    rows = []
    for c in record["cells"]:
        if (d := c["figures"].get("density")) is None:
            continue
        wrong = c["expected"] is not None and not caught(c)
        rows.append(
            cell_row(
                c,
                [
                    *(c["decoder"], c["model"], c["settings"]["draft"], c["claim"]),
                    *(number(d["tv"], 3), number(d["error"], 2), number(d["accepted"], 3), number(d["overlap"], 3)),
                    *(number(d["atom"], 2), c["expected"] or UNKNOWN, c["verdict"]["kind"]),
                ],
                bad=(10,) if wrong else (),
            )
        )
    here = (
        "Each row is the first token of a toy in one dimension, its draft altered as named. No lossless rule keeps "
        "more drafts than the overlap 1 - TV(p, q). On diffusion heads, of two steps here, last-step couples "
        "trajectories of one noise at their end, steps at every state, and path judges them whole; trajectories "
        "cannot be kept more often than tokens."
    )
    intro = "\n\n".join((_MEANING, here, _CSPD))
    columns = ("rule", "toy", "draft", "held to", "exact TV#", "error#", "accepted#", "overlap#", "on zero#")
    title = "Continuous tokens: one step, by quadrature"
    return Table("densities", title, intro, (*columns, "expected", "verdict"), tuple(rows))


def decoders(record: Record) -> Table:
    """Sequences of vectors: what the checks saw."""
    rows = []
    for c in record["cells"]:
        if c["kind"] != "continuous" or (r := c["run"]) is None:
            continue
        uniform = next((e for e in c["evidence"] if e["check"] == "Rosenblatt uniformity"), None)
        rejecting = [e["check"] for e in c["evidence"] if e["rejected"]]
        distance = number(uniform and uniform["estimate"], 3) + interval(uniform and uniform["interval"], 2)
        wrong = c["expected"] is not None and not caught(c)
        rows.append(
            cell_row(
                c,
                [
                    *(c["decoder"], c["model"], c["settings"]["draft"] or UNKNOWN, number(r["n"])),
                    *(distance, number(uniform and uniform["delta"], 3), f"{len(rejecting)} of {len(c['evidence'])}"),
                    *(number(r["acceptance_rate"], 3), number(c["figures"].get("overlap"), 3)),
                    *(c["expected"] or UNKNOWN, c["verdict"]["kind"]),
                ],
                "; ".join(rejecting),
                (10,) if wrong else (),
            )
        )
    intro = (
        "Each coordinate's conditional distribution function under the target, at the value drawn, is uniform and "
        "independent of the others if the decoder is lossless (Rosenblatt's transform). The distance is Kolmogorov's, "
        "over all tokens together. The overlap is that of the first token; the acceptance rate is over all drafts. "
        "The decoders cspd and cspd-released claim nothing; they are held to lossless here, and must be refuted. Other "
        "names that begin with cspd are exact decoders with one flaw of the released code each, or none (the control "
        "cspd-variance-as-std)."
    )
    columns = ("decoder", "toy", "draft", "sequences#", "distance#", "delta#", "rejected#", "acceptance#", "overlap#")
    title = "Continuous tokens: decoders, by tests"
    return Table("continuous", title, intro, (*columns, "expected", "verdict"), tuple(rows))
