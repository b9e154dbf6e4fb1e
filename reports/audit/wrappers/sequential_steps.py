"""sequential-speculative-decoding (seqspecdecod): the steps of standard speculative decoding, and of hierarchical
speculative decoding, naive and capped; all three say that they keep the target's law."""

from functools import partial

from seqspecdecod.capped_hsd import capped_hsd_step
from seqspecdecod.naive_hsd import naive_hsd_step
from seqspecdecod.standard_sd import standard_speculative_step

from specverify.integrations.causal import step_sampler


def judged(step):
    whole = partial(step, gamma=2, draft_temperature=1.0, target_temperature=1.0)
    return step_sampler(lambda draft, target, ids: whole(draft, target, ids)[0])


standard, naive, capped = map(judged, (standard_speculative_step, naive_hsd_step, capped_hsd_step))
