"""What the command line says of arguments that make no sense: the value, and the name that may have been meant.

Typer words these errors in the way of the library that it parses with, which differs between its releases.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from specverify.catalogue import near

_CHOICE = re.compile(r"'?(?P<value>.*?)'? is not one of (?P<known>'.*')", re.DOTALL)
_MEANT = {"gpu": "cuda", "kernel": "round", "engine": "sampler", "log": "trace"}
"""What other tools call what is chosen here."""
_KIND = re.compile(r"(?P<value>'.*?') is not (?P<wanted>an? .*?)\.?$", re.DOTALL)


def unknown(name: str, value: str, known: Sequence[str]) -> str:
    """One line for a value of an option that there is not."""
    meant = _MEANT.get(value, "")
    return f"unknown {name} {value!r}; {f'did you mean {meant}?' if meant in known else near(value, known)}"


def empty(arguments: Sequence[str]) -> str:
    """One line for the first option whose value is empty, which for a folder would mean the current one; or nothing."""
    for option, value in itertools.zip_longest(arguments, arguments[1:]):
        if option.startswith("--") and (value == "" or option.endswith("=")):
            return f"{option.rstrip('=')} is empty; give it a value, or leave it out"
    return ""


def twice(command: Any, arguments: Sequence[str]) -> str:
    """One line for the first option that takes a list with commas and is given twice, where one would be lost."""
    names = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    for parameter in getattr(command, "params", ()):
        if (parameter.metavar or "").endswith(",...") and sum(map(names.count, parameter.opts)) > 1:
            option = parameter.opts[0]
            return f"{option} is given twice; write it once, with commas: {option} {parameter.metavar}"
    return ""


def said(error: Any) -> str:
    """One line for an error that typer raises over the arguments."""
    message = str(error.format_message()).rstrip(".")
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if getattr(error, "possibilities", None) is not None and option and context is not None:
        options = [name for param in context.command.params for name in (*param.opts, *param.secondary_opts)]
        return f"unknown option {option}; {near(option, options)}"
    parameter, text = getattr(error, "param", None), str(getattr(error, "message", ""))
    more = f"see {getattr(getattr(error, 'ctx', None), 'command_path', 'specverify')} --help"
    if parameter is None or not text:  # one that is missing has no text of its own
        return f"{message}; {more}"
    name = max(parameter.opts, key=len) if parameter.opts[0].startswith("-") else parameter.name.upper()
    if choice := _CHOICE.match(text.removeprefix("Value error, ")):
        known = re.findall("'([^']*)'", choice["known"])
        return unknown(name, choice["value"], known)
    if kind := _KIND.match(text):
        return f"{name} {kind['value']}: {kind['wanted']} is needed; {more}"
    causes = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []
    if causes and "input" in causes[0]:
        wanted = text.removeprefix("Value error, ").removeprefix("Input should be ").split(",")[0].rstrip(".")
        return f"{name} {causes[0]['input']!r}: {wanted} is needed; {more}"
    return f"{message}; {more}"


class Unread:
    """Output that may be closed by its reader, as by `head`: what is not read is written nowhere, and is no error."""

    def __init__(self, stream: Any) -> None:  # None where it was closed from the beginning
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream's."""
        with self._kept():
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As the stream's."""
        with self._kept():
            if self._stream is not None:
                self._stream.flush()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
