"""Writes the JSON schemas beside this file, as the classes of records say them: `python reports/schema/write.py`."""

import json
from pathlib import Path

from specverify.bench_shape import Bench
from specverify.report import shape
from specverify.tradeoff.shape import Sweep

SCHEMAS = {"record-1.json": shape.Record, "tradeoff-1.json": Sweep, "bench-1.json": Bench}


def text(name: str) -> str:
    """What a file should hold."""
    return json.dumps(shape.schema(SCHEMAS[name]), indent=1) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        (Path(__file__).parent / name).write_text(text(name))
