"""Verification kernels in everyone's conventions, restated without anything of ours: all of them correct.

`IN_EVERY_CONVENTION` has them as subjects, by name.
"""

import torch

from specverify.rules.token import at
from specverify.subjects.round import flashinfer, plain, vllm
from specverify.subjects.rounds.conventions import on


def inverse(law, pick):
    edges = law.cumsum(-1, dtype=torch.float64)
    return (edges[..., :-1] <= pick[..., None] * edges[..., -1:]).sum(-1)


def draws_its_own(draft, q, p, lengths, generator):
    """The token rule in the plain convention, row by row of the algorithm, without anything of ours."""
    rows, gamma = draft.shape
    q = torch.nn.functional.one_hot(draft, p.shape[-1]).to(p) if q is None else q
    alive, accepted, law = torch.ones(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.int64), p[:, 0].clone()
    for slot in range(gamma):
        alive &= slot < lengths
        u = torch.rand(rows, generator=generator, dtype=torch.float64)
        passes = u * at(q[:, slot], draft[:, slot]) < at(p[:, slot], draft[:, slot])
        law[alive] = torch.where(passes[:, None], p[:, slot + 1], (p[:, slot] - q[:, slot]).clamp(min=0))[alive]
        alive &= passes
        accepted += alive
    return accepted, torch.multinomial(law.float(), 1, generator=generator)[:, 0]


def rectangle(draft, q, p, generator):
    return draws_its_own(draft, q, p, torch.full((len(draft),), draft.shape[1]), generator)


# Restatements of published conventions: argument names, dtypes, padding and random streams are theirs.


def rejection_sample(ids, numbers, most, ends, draft_probs, target_probs, bonus_token_ids, metadata, shift=0):
    batch, ends = len(numbers), ends.long()
    starts, number = ends - torch.tensor(numbers), torch.tensor(numbers)
    uniform = torch.rand(len(ids), dtype=torch.float64)
    noise = torch.empty(batch, target_probs.shape[-1]).exponential_()
    for row, generator in metadata.generators.items():
        if numbers[row]:
            uniform[starts[row] : ends[row]].uniform_(generator=generator)
            noise[row].exponential_(generator=generator)
    request = torch.arange(batch).repeat_interleave(number)
    greedy = (metadata.temperature == 0)[request]
    ids = ids.long()
    q = torch.nn.functional.one_hot(ids, target_probs.shape[-1]).float() if draft_probs is None else draft_probs
    recovered = ((target_probs - q).clamp(min=0) / noise[request]).argmax(-1)
    passes = at(target_probs, ids) / at(q, ids) >= uniform
    best = target_probs.argmax(-1)
    passes, recovered = torch.where(greedy, ids == best, passes), torch.where(greedy, best, recovered)
    out, alive = torch.full((batch, most + 1), -1, dtype=torch.int32), torch.ones(batch, dtype=torch.bool)
    for slot in range(most):
        here = alive & (slot < number)
        index = starts[here] + slot
        out[here, slot] = torch.where(passes[index], ids[index], recovered[index]).int()
        alive[here] = passes[index]
    out[alive, number[alive]] = bonus_token_ids[alive, 0].roll(shift)
    return out


def chain_speculative_sampling(
    draft_probs, draft_token_ids, target_probs, accepted=None, emitted=None, deterministic=True, generator=None
):
    batch, n = draft_token_ids.shape
    ids, u = draft_token_ids.long(), torch.rand(batch, n + 1, generator=generator)
    passes = u[:, :n] * at(draft_probs, ids) < at(target_probs[:, :n], ids)
    emitted = passes.int().cumprod(1).sum(1)
    padded = torch.cat([draft_probs, torch.zeros(batch, 1, draft_probs.shape[-1])], 1)
    each = torch.arange(batch)
    last = inverse((target_probs[each, emitted] - padded[each, emitted]).clamp(min=0), u[:, n])
    tokens = torch.cat([ids, torch.full((batch, 1), -1)], 1)
    tokens = tokens.where(torch.arange(n + 1) < emitted[:, None], -1).scatter(1, emitted[:, None], last[:, None])
    return tokens.int(), passes.sum(1).int(), emitted.int()


def speculative_sampling(candidate_input_ids, candidate_logits, candidate_length, new_logits, is_done_candidate):
    candidates = candidate_input_ids[:, -candidate_length:]
    q, p = candidate_logits.softmax(-1), new_logits.softmax(-1)
    place = torch.arange(candidate_length)
    ratio = (p[:, place, candidates] / q[:, place, candidates]).squeeze(0, 1)
    accepted = torch.rand_like(ratio) <= ratio
    n_matches = ((~accepted).cumsum(-1) < 1).sum()
    if n_matches < candidate_logits.shape[1]:
        left = (p[:, n_matches] - q[:, n_matches]).clamp(min=0)
        left.div_(left.sum())
    else:
        left = p[:, n_matches]
    token = torch.multinomial(left, 1).squeeze(1)[None, :]
    return torch.cat([candidates[:, :n_matches], token], -1), n_matches


IN_EVERY_CONVENTION = {
    "plain": draws_its_own,
    "rectangular": rectangle,
    "vllm": vllm(rejection_sample),
    "vllm, seeded rows": vllm(rejection_sample, seeded_rows=True),
    "flashinfer": flashinfer(chain_speculative_sampling),
    "on a device": plain(on("cpu", draws_its_own)),
}
