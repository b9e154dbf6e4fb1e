"""That the run checks shapes at all in the folders which conftest.py names."""

import jaxtyping
import pytest
import torch

from specverify.rules.token import total_variation


def test_a_shape_that_is_not_as_annotated_is_an_error_here():
    law = torch.full((2, 3), 1 / 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        total_variation(law, law[:, :2])
