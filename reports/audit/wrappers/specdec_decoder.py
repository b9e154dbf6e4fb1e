"""specdec: `SpecDecoder.generate_small` and `verify`, as its loop `spec_gen` calls them."""

import torch
from specdec.decoder import SpecDecoder

from specverify.integrations.causal import step_sampler


def step(draft, target, ids):
    decoder = object.__new__(SpecDecoder)  # the constructor loads weights
    decoder.small_model, decoder.big_model, decoder.device = draft, target, "cpu"
    return torch.cat([ids, torch.tensor([decoder.verify(ids, *decoder.generate_small(ids, 2))])], 1)


decoder = step_sampler(step)
