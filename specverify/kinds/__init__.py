"""Kinds of cells, a file each: how one is carried out, what it is tested by, whom it speaks of.

To add a kind is to add its file, with a `KIND`, and which cells there are of it, in `plan`.
"""

from __future__ import annotations

import importlib

from specverify.kinds.kind import CellKind
from specverify.plan import KINDS as PLANNED

KINDS: dict[str, CellKind] = {name: importlib.import_module(f"{__name__}.{name}").KIND for name in PLANNED}
"""By name, as the report lists them."""
