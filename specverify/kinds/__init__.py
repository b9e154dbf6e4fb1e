"""Kinds of cells, a file each: which cells there are, how one is carried out, what it is tested by, whom it speaks of.

To add a kind is to add its file, with a `KIND`, and its name in `report.shape_cells.KINDS`.
"""

from __future__ import annotations

import importlib

from specverify.kinds.kind import CellKind
from specverify.report import shape_cells

KINDS: dict[str, CellKind] = {name: importlib.import_module(f"{__name__}.{name}").KIND for name in shape_cells.KINDS}
"""By name, as the report lists them."""
