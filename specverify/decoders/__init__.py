"""Decoders. Read `protocol.py`, then `speculative.py` and `jacobi.py`."""

from specverify.decoders.autoregressive import Autoregressive
from specverify.decoders.block import Block
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Draft, TokenRule
from specverify.decoders.multi_draft import ListGumbel, MultiDraft, Recursive
from specverify.decoders.protocol import Branch, Decoder, Info, State, begin, commit
from specverify.decoders.run import Run, run, sample
from specverify.decoders.shared_noise import SharedNoise
from specverify.decoders.speculative import Speculative

__all__ = [
    "Autoregressive",
    "Block",
    "Branch",
    "Decoder",
    "Draft",
    "DraftModel",
    "Info",
    "Jacobi",
    "ListGumbel",
    "MultiDraft",
    "Recursive",
    "Run",
    "SharedNoise",
    "Speculative",
    "State",
    "TokenRule",
    "begin",
    "commit",
    "run",
    "sample",
]
