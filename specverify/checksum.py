"""Checksums of what is written as JSON, so that a bit that flipped on a disk does not change a verdict unnoticed.

The checksum is of the values, not of the bytes: a file may be indented anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from specverify.errors import InputError

KEY = "checksum"


def sealed(content: Mapping[str, Any]) -> dict[str, object]:
    """The content with its checksum."""
    plain = {key: value for key, value in content.items() if key != KEY}
    return {**plain, KEY: _of(plain)}


def opened(content: Any, source: str, remedy: str) -> Any:
    """The content without its checksum, which must be right; what has none (older files) is handed back as it is.

    Args:
        content: what was read.
        source: how the message names the file.
        remedy: what to do where it was changed.

    Raises:
        InputError: the content is not what was written.
    """
    if not isinstance(content, dict) or KEY not in content:
        return content
    plain = {key: value for key, value in content.items() if key != KEY}
    if content[KEY] != _of(plain):
        raise InputError(
            f"{source} is not what was written: its checksum does not fit, so a value was changed; {remedy}"
        )
    return plain


def _of(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
