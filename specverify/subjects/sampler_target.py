"""What black boxes are judged on by name: a suite, a toy, a target of one's own; and whether it can be used."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import toymodels
from specverify.errors import InputError
from specverify.model import Model
from specverify.processors import Guided, Processed, parse_processors
from specverify.subjects import target_file
from specverify.subjects.sampler_suite import Case, named, suite_names
from toymodels import continuous


def check(asked: Mapping[str, Any], level: str = "sampler") -> None:
    """Whether the suite, toy or target that is asked for can be used, before anything is judged.

    Raises:
        InputError: an unknown name, a file that holds no target, or more than one of the three.
    """
    if len(asked) > 1:
        raise InputError(f"give a {' or a '.join(asked)}, not both: each says on what a subject is judged")
    if isinstance(suite := asked.get("suite"), str):
        named(suite)
    if (toy := asked.get("toy")) is not None and (level == "sampler" or not continuous.known(toy)):
        if continuous.known(toy):
            raise InputError(f"toy {toy!r} is one of vectors; a sampler has ids: what draws vectors has init and step")
        one_target(toy) if level == "sampler" else toymodels.toy(toy)
    if (target := asked.get("target")) is None:
        return
    if level == "decoder" and not target.endswith(target_file.SUFFIX):
        raise InputError(f"target {target!r}: a decoder's is a file of laws, TABLE.npz; a toy is chosen with --toy")
    one_target(target)


def one_target(text: str) -> Case:
    """A target of one's own: a file (`target_file`), or a toy's name, what guides it and processors, as far as wanted.

    "mine.npz", "guided-3x4", "dense-3x6|temperature=0.8,top_k=2",
    "dense-3x6|guidance=2.5,from=recurrent-3x6|top_p=0.9". Or one of a suite, as a verdict says: "skew-3x5[:4]|T=1.5".

    Raises:
        InputError: no such file, an unknown toy or processor, or toys that do not go together.
    """
    if text.endswith(target_file.SUFFIX):
        own = target_file.load(text)
        return Case(own, toymodels.draft("perturbed", own))
    try:
        return _in_words(text)
    except InputError:
        every = itertools.chain.from_iterable(map(named, suite_names()))
        found = next((case for case in every if text in (case.name, case.target.name)), None)
        if found is None:
            raise
        return found


def _in_words(text: str) -> Case:
    name, *parts = text.split("|")
    model: Model = toymodels.toy(name.strip())
    for part in parts:
        settings = dict(piece.partition("=")[::2] for piece in part.replace(" ", "").split(","))
        if not {"guidance", "from"} & set(settings):
            model = Processed(model, parse_processors(part))
            continue
        if set(settings) != {"guidance", "from"}:
            raise InputError(f"target {text!r}: write |guidance=SCALE,from=TOY| with the toy that it leads away from")
        try:
            scale = float(settings["guidance"])
        except ValueError:
            raise InputError(f"target {text!r}: guidance={settings['guidance']} is no number") from None
        model = Guided(model, toymodels.toy(settings["from"]), scale)
    return Case(model, toymodels.draft("perturbed", model))
