"""A 64-bit integer hash, so that a toy's name fixes its law on every platform, version and device.

The mixer is SplitMix64's (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
Everything is int64 arithmetic modulo 2^64, and laws are ratios of the small integers taken from it, which IEEE division
rounds alike everywhere.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    """The two's complement reading of a 64-bit pattern, as int64 tensors hold it."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def fold(state: Int[Tensor, "*#any"] | int, value: Int[Tensor, "*#any"]) -> Int[Tensor, "*#any"]:
    """The hash of a sequence, from the hash `state` of all but its last `value`.

    It is SplitMix64's output at state + golden * (value + 1), and so a bijection in either argument.
    """
    mixed = state + (value + 1) * _GOLDEN
    mixed = (mixed ^ high_bits(mixed, 34)) * _FIRST
    mixed = (mixed ^ high_bits(mixed, 37)) * _SECOND
    return mixed ^ high_bits(mixed, 33)


def high_bits(state: Int[Tensor, "*any"], bits: int) -> Int[Tensor, "*any"]:
    """The `bits` most significant bits (at most 63) as an integer in 0 .. 2^bits - 1."""
    return (state >> (64 - bits)) & ((1 << bits) - 1)


def branches(state: Int[Tensor, "*any"], size: int) -> Int[Tensor, "*any {size}"]:
    """The hashes of a sequence followed by each of the values 0 .. size - 1."""
    return fold(state[..., None], torch.arange(size, device=state.device))


def seed(name: str) -> int:
    """The hash of a name (its UTF-8 bytes, folded into 0), as the start of every prefix hash of that name's law."""
    state = torch.zeros((), dtype=torch.int64)
    for byte in torch.tensor(list(name.encode())):
        state = fold(state, byte)
    return int(state)
