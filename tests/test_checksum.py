"""A value that was changed since it was written is noticed; how the file is set is not its business."""

import json

import pytest

from specverify import checksum
from specverify.errors import InputError

CONTENT = {"id": "a", "p": 0.1 + 0.2, "rows": [{"n": 3, "ok": True, "none": None}], "name": "é\n"}


def test_what_was_written_is_read_back():
    written = json.loads(json.dumps(checksum.sealed(CONTENT), indent=3))
    assert checksum.opened(written, "it", "") == CONTENT
    assert checksum.sealed(written) == checksum.sealed(CONTENT)


def test_what_has_no_checksum_is_older_and_read_as_it_is():
    assert checksum.opened(CONTENT, "it", "") == CONTENT
    assert checksum.opened([1], "it", "") == [1]


def test_any_bit_that_leaves_valid_json_is_noticed():
    text = json.dumps(checksum.sealed(CONTENT)).encode()
    noticed = 0
    for place in range(len(text)):
        for bit in range(7):
            changed = text[:place] + bytes([text[place] ^ (1 << bit)]) + text[place + 1 :]
            try:
                found = json.loads(changed)
            except ValueError:
                continue
            if found == checksum.sealed(CONTENT) or checksum.KEY not in found:
                continue  # white space, or an unknown field instead: whoever reads the file knows its fields
            with pytest.raises(InputError, match=r"the file is not what was written: .*; do this"):
                checksum.opened(found, "the file", "do this")
            noticed += 1
    assert noticed > 100
