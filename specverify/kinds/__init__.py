"""Kinds of cells, a file each: how one is carried out, what it is tested by, whom it speaks of.

To add a kind is to add its file, with a `KIND`, and which cells there are of it, in `plan`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from specverify.kinds.kind import CellKind
from specverify.plan import KINDS as PLANNED


class _Kinds(Mapping[str, CellKind]):
    """Each is imported when it is asked for: a worker process needs one or two, and some take a second."""

    def __getitem__(self, name: str) -> CellKind:
        if name not in PLANNED:
            raise KeyError(name)
        return importlib.import_module(f"{__name__}.{name}").KIND  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(PLANNED)

    def __len__(self) -> int:
        return len(PLANNED)


KINDS: Mapping[str, CellKind] = _Kinds()
"""By name, as the report lists them."""
