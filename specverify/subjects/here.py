"""Judging whatever was handed over, at the level that it has, in this process."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from specverify.claims import Claim, Lossless
from specverify.errors import InputError
from specverify.subjects import resolve
from specverify.subjects.judgement import Judgement
from specverify.subjects.level import level_of

_JUDGES = {level: (f"specverify.subjects.{level}", f"judge_{level}") for level in resolve.LEVELS}


def judge_here(
    subject: Any,
    level: str | None = None,
    claim: Claim | str | None = None,
    *,
    seed: int = 0,
    seconds: float = 60.0,
    options: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Judgement:
    """Judge an object in this process: no time limit, and a crash of it is a crash of the caller.

    Args:
        subject: the object.
        level, claim, seed, seconds, options: as for `judge_isolated`.
        name: what to call it.

    Raises:
        InputError: the subject, level or claim cannot be used.
    """
    called = name or getattr(subject, "__qualname__", None) or repr(subject)
    level, given = resolve.by_todays_name(level, options)
    level, claim = prepared(called, subject, level, claim, given)
    return judged(called, subject, level, claim, seed, seconds, given)


def prepared(
    name: str, subject: Any, level: str | None, claim: Claim | str | None, options: Mapping[str, Any]
) -> tuple[str, Claim | None]:
    """A subject's level, and the claim if one was given.

    Raises:
        InputError: they do not go together, or an option is given that the level does not have.
    """
    level = level_of(name, subject, level)
    claim = resolve.parse_claim(claim) if isinstance(claim, str) else claim
    if level in ("round", "trace") and claim not in (None, Lossless()):
        raise InputError(f"a {level} is judged for losslessness, not for the claim {claim}")
    if unknown := sorted(set(options) - set(inspect.signature(_judge(level)).parameters)):
        raise InputError(f"a {level} is judged without {', '.join(unknown)}; leave it out")
    if level in ("decoder", "sampler"):
        from specverify.subjects import sampler_target

        asked = {name: options[name] for name in ("suite", "toy", "target") if options.get(name) is not None}
        sampler_target.check(asked, level)
    return level, claim


def judged(
    name: str, subject: Any, level: str, claim: Claim | None, seed: int, seconds: float, options: Mapping[str, Any]
) -> Judgement:
    """What the level's own function makes of a subject that was prepared."""
    judge = functools.partial(_judge(level), subject, **({"name": name, "seed": seed} | dict(options)))
    if level == "trace":  # where there is nothing to call, and nothing that could take long
        return judge()
    return judge(seconds=seconds) if claim is None else judge(seconds=seconds, claim=claim)


def _judge(level: str) -> Callable[..., Judgement]:
    module, function = _JUDGES[level]
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
