"""Decoders by name, somebody's own among them, for the commands that run decoders on image models."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from specverify.decoders.registry import Entry, Settings, entry
from specverify.errors import ContractError, SpecverifyError
from specverify.subjects.factory import as_factory


@functools.cache
def named(name: str) -> Entry:
    """A decoder of the registry, or the one that a reference such as `file.py:OBJECT` stands for; see `resolve.py`.

    Raises:
        InputError: there is none, or it needs what nobody can supply.
    """
    if ":" not in name:
        return entry(name)
    factory = as_factory(name)

    def build(settings: Settings) -> Any:
        return factory.build(replace(settings, initial=settings.initial or "repeat-left"))

    return Entry(
        factory.name, build, drafts="window" in factory.takes, needs_draft_model="draft_model" in factory.takes
    )


@contextlib.contextmanager
def running(name: str) -> Iterator[None]:
    """While a decoder runs: what somebody's own raises is said with its name and place; no room for it is its caller's.

    Raises:
        ContractError: it raised.
    """
    try:
        yield
    except (SpecverifyError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if ":" not in name:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}, in {place.name}"
        raise ContractError(f"{name} raised {type(error).__name__}: {error} ({where})") from error
