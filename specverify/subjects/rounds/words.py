"""The round that shows what is wrong with a kernel, for a terminal of 80 columns: small enough to be pasted.

The certificate has its numbers in full; here they are rounded, and tokens that nothing depends on are left out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from specverify.errors import number_of
from specverify.subjects.rounds.kernel import NONE, KernelPlace, ShownRow

WIDTH = 80
COLUMNS = 8
"""Most tokens of a law that are shown."""
_LEFT = 11


def describe(certificate: ShownRow, location: KernelPlace | None) -> str:
    """The setting, the row's drafts with p and q, what came out and what is due.

    Args:
        certificate: of `kernel.certificate`, for one row.
        location: where it goes wrong, if that is known.
    """
    lines = _setting(certificate, location or {})
    length, tokens = int(certificate["length"]), [token for token in certificate["tokens"] if token != NONE]
    drafts = list(certificate["draft"])
    lines += _entry(
        "drafts", f"{_listed(drafts[:length])} ({number_of(length, 'draft')} in {number_of(len(drafts), 'slot')})"
    )
    slots = range(min(length + 1, len(certificate["p"])))  # over large vocabularies those behind are not kept
    ids = _shown([certificate["p"][slot] for slot in slots], [*drafts[:length], *tokens])
    table = [["", *(f"token {token}" for token in ids)]]
    for slot in slots:
        table.append([f"p, slot {slot}", *_cells(certificate["p"][slot], ids)])
        if slot < length and certificate["q"] is not None:
            table.append([f"q, slot {slot}", *_cells(certificate["q"][slot], ids)])
    lines += _aligned(table)
    if certificate["q"] is None:
        lines += _entry("", "q = None: drafts count as certain")
    if "coins" in certificate:
        lines += _entry("coins", f"{_coins(certificate['coins'][:length])}; pick {_coins([certificate['pick']])}")
    accepted = int(certificate["accepted"])
    lines += _entry("came", f"{_listed(tokens)}, with {number_of(accepted, 'draft')} of {length} accepted")
    if location is not None and "token" in location:
        lines += _entry("due", _due(certificate, location))
    return "\n".join(lines)


def _setting(certificate: ShownRow, location: KernelPlace) -> list[str]:
    parts = [f"context '{location['context']}'"] if "context" in location else []
    parts += [str(certificate["where"])] if certificate.get("where") else []
    parts += [f"{len(certificate['p'][0]):,} tokens"]
    if (warm := float(certificate.get("temperature", 1.0))) != 1:
        parts.append("greedy" if warm == 0 else f"temperature {warm:g}")
    return _entry("setting", "; ".join(parts))


def _due(certificate: ShownRow, location: KernelPlace) -> str:
    slot, token = int(location["position"]), int(location["token"])
    law = certificate["p"][slot]
    possible = [number for number, chance in enumerate(law) if chance > 0]
    names = _listed(possible[:COLUMNS]) + (f" and {len(possible) - COLUMNS:,} more" if len(possible) > COLUMNS else "")
    return f"in slot {slot} one of {names}: p of token {token} is {law[token]:.4g} there"


def describe_many(location: KernelPlace) -> str:
    """The laws at one prefix, and what came there of all rows that got there; `location` is of `locate`."""
    prefix = location["prefix"]
    lines = _entry("setting", f"context '{location['context']}', {location.get('where', location['check'])}")
    if "drafts" in location:
        rows = f"all, with {number_of(int(location['drafts']), 'draft')} each, over all coins"
    else:
        rows = f"{location['arrived']:,.0f} that get there in the last look, with any number of drafts"
    lines += _entry("rows", rows)
    lines += _entry("after", f"{_listed(prefix)}: the token in slot {len(prefix)}" if prefix else "nothing: slot 0")
    at = _shown([location["p"], location["came"]], [location["ids"].index(location["token"])])
    table = [["", *(f"token {location['ids'][number]}" for number in at)]]
    table += [["q", *_cells(location["q"], at)]] if location["q"] is not None else []
    table += [["p, due", *_cells(location["p"], at)], ["came", *_cells(location["came"], at)]]
    for parts in location["shares"]:
        branch = parts["branch"]
        table += [[f"{branch}, came", *_cells(parts["came"], at)], [f"{branch}, due", *_cells(parts["due"], at)]]
    lines += _aligned(table)
    return "\n".join(
        lines + _entry("", "branches as shares of all that arrives; due is what the token rule puts there")
    )


def _shown(laws: Sequence[Sequence[float]], needed: Sequence[int]) -> list[int]:
    """The ids that are shown: those that are needed, then the most probable, in order."""
    size = len(laws[0])
    weight = [max(law[token] for law in laws) for token in range(size)]
    order = sorted(range(size), key=lambda token: (token not in needed, -weight[token]))
    return sorted(order[: max(COLUMNS, len(set(needed)))]) if size > COLUMNS else list(range(size))


def _cells(law: Sequence[float], ids: Sequence[int]) -> list[str]:
    return [f"{law[token]:.3g}" for token in ids]


def _coins(coins: Sequence[float]) -> str:
    return ", ".join("1 - 2^-24" if coin == 1 - 2**-24 else f"{coin:.9g}" for coin in coins) or "none"


def _listed(tokens: Sequence[int]) -> str:
    return ", ".join(map(str, tokens)) or "none"


def _aligned(table: list[list[str]]) -> list[str]:
    """Columns under the entries, as many beside each other as there is room for."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines, first = [], 1
    while first < len(widths):
        last = first + 1
        while last < len(widths) and _LEFT + widths[0] + sum(2 + width for width in widths[first : last + 1]) <= WIDTH:
            last += 1
        for row in table:
            cells = "".join(f"  {row[number]:>{widths[number]}}" for number in range(first, last))
            lines.append(f"{'':{_LEFT}}{row[0]:<{widths[0]}}{cells}".rstrip())
        first = last
    return lines


def _entry(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:<{_LEFT}}", subsequent_indent=" " * _LEFT)


def rounded(dtype: str) -> str:
    """What to do about a kernel that is wrong in a dtype."""
    coarse = (
        f"sums over many tokens, and coins, are coarse in {dtype}: take float32 for them; " if "16" in dtype else ""
    )
    return f"{coarse}a kernel that is not made for {dtype} should raise"
