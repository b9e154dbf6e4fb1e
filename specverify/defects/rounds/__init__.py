"""Known-wrong verification kernels, rebuilt from the defects of public code, and controls that only look wrong.

They test the checks of `specverify.subjects.round`, each of which names the defects that it is for: `standard` (the
contract, independence, laws by sampling), `forced-coins` (coins at the edges, and laws by integrating over coins) and
`nan-rows`. Each is the kernel of `subjects/rounds/reference.py` with one part replaced. Where a flaw lies between the
kernel and its drafts, the kernel is given what it would then see: another q than the drafts' own.

One file for each part that is wrong; `registry` holds them all.
"""

from specverify.defects.rounds.defect import Category, Check, RoundDefect
from specverify.defects.rounds.registry import get, names

__all__ = ["Category", "Check", "RoundDefect", "get", "names"]
