"""A certificate: its class, and the JSON schema that a file of one is held to."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from specverify.evidence.arrange import ARRANGEMENTS, Arrangement
from specverify.evidence.localise import LocationRow
from specverify.evidence.rounding import PRECISIONS

FORMAT, VERSION = "specverify-certificate", 1


class ClaimRow(TypedDict):
    """A claim: lossless, relaxed with its `tv`, or cluster-lossless with its `partition`."""

    kind: str
    tv: NotRequired[float]
    partition: NotRequired[list[list[int]]]


class WeightsAfter(TypedDict):
    """The weights of the next token after a context."""

    after: list[int]
    weights: list[int]


class WeightsRow(TypedDict):
    """A model in integer weights; see `evidence.cases.Weights`."""

    vocab: int
    length: int
    eos: int | None
    span: int | None
    processors: str
    guide: NotRequired[list[list[int]]]
    laws: list[WeightsAfter]


class SettingRow(TypedDict):
    """A setting; see `evidence.cases.Case`."""

    model: WeightsRow | str
    draft: WeightsRow | str | None
    window: int | None
    initial: str | None
    arrangement: Arrangement
    precision: NotRequired[str]


class LawsRow(TypedDict):
    """The law that was due and the one that came, as fractions where they are some."""

    due: list[str | float]
    came: list[str | float]


class FoundIn(TypedDict):
    """The folder in which the subject was found, how it lay from the certificate, and the digest of its file."""

    folder: str
    from_here: str
    sha256: str | None


class Certificate(TypedDict):
    """A counterexample, complete enough to be checked again."""

    format: str
    version: int
    subject: str | None
    name: str
    claim: ClaimRow
    setting: SettingRow
    problem: str
    tv: float | None
    bound: float | None
    laws: LawsRow | None
    location: LocationRow | None
    error: str
    found_in: NotRequired[FoundIn]


_NATURAL = {"type": "integer", "minimum": 0}
_PROBABILITIES = {"type": ["array", "null"], "items": {"type": ["string", "number"]}}
_WEIGHTS = {
    "type": "object",
    "required": ["vocab", "length", "eos", "span", "processors", "laws"],
    "additionalProperties": False,
    "properties": {
        "vocab": {"type": "integer", "minimum": 1},
        "length": {"type": "integer", "minimum": 1},
        "eos": {"type": ["integer", "null"], "minimum": 0},
        "span": {"type": ["integer", "null"], "minimum": 1},
        "processors": {"type": "string"},
        "guide": {"type": "array", "items": {"type": "array", "items": _NATURAL}},
        "laws": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["after", "weights"],
                "additionalProperties": False,
                "properties": {
                    "after": {"type": "array", "items": _NATURAL},
                    "weights": {"type": "array", "items": _NATURAL},
                },
            },
        },
    },
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A counterexample to the claim of a speculative decoder",
    "type": "object",
    "required": [
        "format",
        "version",
        "subject",
        "name",
        "claim",
        "setting",
        "problem",
        "tv",
        "bound",
        "laws",
        "location",
        "error",
    ],
    "additionalProperties": False,
    "properties": {
        "format": {"const": FORMAT},
        "version": {"const": VERSION},
        "subject": {"type": ["string", "null"]},
        "name": {"type": "string"},
        "claim": {
            "oneOf": [
                {
                    "type": "object",
                    "required": ["kind"],
                    "additionalProperties": False,
                    "properties": {"kind": {"const": "lossless"}},
                },
                {
                    "type": "object",
                    "required": ["kind", "tv"],
                    "additionalProperties": False,
                    "properties": {"kind": {"const": "relaxed"}, "tv": {"type": "number", "minimum": 0, "maximum": 1}},
                },
                {
                    "type": "object",
                    "required": ["kind", "partition"],
                    "additionalProperties": False,
                    "properties": {
                        "kind": {"const": "cluster-lossless"},
                        "partition": {"type": "array", "items": {"type": "array", "items": _NATURAL}},
                    },
                },
            ]
        },
        "setting": {
            "type": "object",
            "required": ["model", "draft", "window", "initial", "arrangement"],
            "additionalProperties": False,
            "properties": {
                "model": {"oneOf": [{"type": "string"}, _WEIGHTS]},
                "draft": {"oneOf": [{"type": "string"}, {"type": "null"}, _WEIGHTS]},
                "window": {"type": ["integer", "null"], "minimum": 1},
                "initial": {"type": ["string", "null"]},
                "arrangement": {"enum": list(ARRANGEMENTS)},
                "precision": {"enum": list(PRECISIONS)},
            },
        },
        "problem": {"enum": ["law", "error"]},
        "tv": {"type": ["number", "null"]},
        "bound": {"type": ["number", "null"]},
        "laws": {
            "type": ["object", "null"],
            "required": ["due", "came"],
            "additionalProperties": False,
            "properties": {"due": _PROBABILITIES, "came": _PROBABILITIES},
        },
        "location": {"type": ["object", "null"]},
        "error": {"type": "string"},
        "found_in": {  # absent from older ones, and where the subject cannot be named
            "type": "object",
            "required": ["folder", "from_here", "sha256"],
            "additionalProperties": False,
            "properties": {
                "folder": {"type": "string"},
                "from_here": {"type": "string"},
                "sha256": {"type": ["string", "null"]},
            },
        },
    },
}
