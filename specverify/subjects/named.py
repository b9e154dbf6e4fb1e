"""Decoders by name, somebody's own among them, for the commands that run decoders on image models."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from specverify.decoders.registry import Entry, Settings, entry
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
