"""Known-wrong decoders, rebuilt from the defects of public code, and controls that only look wrong.

They test the testers: a checker must refute every one that is `lossy`, and none that is not. Each is put together from
the real parts (another judging, another drafting, another view of the model), and so differs from the proved decoder in
its flaw alone. Decoders only: what goes wrong between the calls of a sampler (seeds, streams) is not seen here.
"""

from specverify.declared import Smallest
from specverify.defects.defect import Defect
from specverify.defects.registry import get, names

__all__ = ["Defect", "Smallest", "get", "names"]
