"""Code as it lies about: verification of windows with processors, guidance in a loop, decoders that go row by row."""

from __future__ import annotations

from dataclasses import replace

import torch

from specverify.claims import Lossless
from specverify.decoders import Branch, Info, begin, commit
from specverify.integrations.schedulers import window
from specverify.integrations.transformers import loop_sampler
from specverify.processors import top_k


def _verify(process):
    """The token rule over one window, by laws that `process` makes of logits."""

    def verify(ids, logits, q):
        laws, drafts, tokens = process(logits[0]), ids[0, 1:], []
        for slot, token in enumerate(drafts.tolist()):
            p, draft = laws[slot], q[0, slot + 1]
            if torch.rand(()) < p[token] / draft[token]:
                tokens.append(token)
                continue
            left = (p - draft).clamp(min=0)
            tokens.append(int(torch.multinomial(left if left.sum() > 0 else p, 1)))
            break
        else:
            tokens.append(int(torch.multinomial(laws[-1], 1)))
        return len(tokens), torch.tensor([tokens]), laws[None, : len(tokens)]

    return verify


cut = window(_verify(lambda logits: top_k(logits.softmax(-1), 2)), top_k=2, first="repeat-left")
uncut = window(_verify(lambda logits: logits.softmax(-1)), top_k=2, first="repeat-left")
never_cut = window(_verify(lambda logits: top_k(logits.softmax(-1), 2000)), top_k=2000, first="repeat-left")


def _guided(mix):
    """Image tokens one by one, from a conditional and an unconditional row side by side."""

    def loop(model, ids):
        both = ids.repeat_interleave(2, 0)
        both[1::2, 1:-1] = model.pad
        embeds, cache, image = model.language_model.get_input_embeddings()(both), None, []
        for _ in range(model.size):
            out = model.language_model.model(inputs_embeds=embeds, past_key_values=cache)
            cache, logits = out.past_key_values, model.gen_head(out.last_hidden_state[:, -1])
            image.append(torch.multinomial(mix(logits[::2], logits[1::2], model.guidance), 1))
            embeds = model.prepare_gen_img_embeds(image[-1].repeat_interleave(2, 0))
        return torch.cat(image, 1)

    return loop_sampler(loop, "janus")


guided = _guided(lambda c, u, scale: (u + scale * (c - u)).softmax(-1))
guided_in_probabilities = _guided(lambda c, u, s: ((1 - s) * u.softmax(-1) + s * c.softmax(-1)).clamp(min=0))
guided_once_more = _guided(lambda c, u, scale: (c + scale * (c - u)).softmax(-1))


class RowByRow:
    """The last token again as a draft; every row is judged in a loop of its own, its draws asked for with `where`."""

    name, claim = "row-by-row", Lossless()

    def __init__(self, slip=False):
        self.slip = slip

    def init(self, model, batch, draws):
        return begin(model, batch)

    def step(self, state, model, draws):
        rows = len(state.length)
        drafted = (state.length > 0) & ~state.done
        draft = state.tokens.gather(1, (state.length - 1).clamp(min=0)[:, None]).where(drafted[:, None], 0)
        laws = model.laws(state.context, draft)
        blocks, branches, counts = [], [], []
        for row in range(rows):
            only = torch.arange(rows) == row
            if bool(state.done[row]):
                blocks.append([0, 0])
                branches.append([0, 0])
                counts.append(0)
                continue
            token, block, branch = int(draft[row, 0]), [], []
            law = laws[row, 0].clone()
            kept = bool(drafted[row]) and bool(draws.bernoulli(law[token].expand(rows), only)[row])
            if kept:
                block, branch, law = [token], [Branch.ACCEPTED], laws[row, 1]
            elif bool(drafted[row]) and not self.slip:
                law[token] = 0
            ended = kept and (token == model.eos or int(state.length[row]) + 1 == model.length)
            if not ended:
                block.append(int(draws.categorical(law.expand(rows, -1), only)[row]))
                branch.append(Branch.BONUS if kept else Branch.RECOVERED if bool(drafted[row]) else Branch.SAMPLED)
            counts.append(len(block))
            blocks.append([*block, 0, 0][:2])
            branches.append([*map(int, branch), 0, 0][:2])
        after, count = commit(state, model, torch.tensor(blocks), torch.tensor(counts))
        branch = torch.tensor(branches)
        verified = drafted.long()
        accepted = (branch == Branch.ACCEPTED).sum(1)
        passes = (~state.done).long()
        return replace(after, drafting=state.drafting), Info(passes, verified, accepted, count, branch, 0 * count)


row_by_row, row_by_row_wrong = RowByRow(), RowByRow(slip=True)


def barely(target, draft, n, seed):
    """Plain decoding with a guard against 0 where none is due, so that what is forbidden comes once in 1e9."""
    generator = torch.Generator().manual_seed(seed)
    context, tokens = target.start(n), torch.zeros(n, 0, dtype=torch.int64)
    for _ in range(target.length):
        law = target.laws(context, tokens[:, :0])[:, 0] + 1e-9
        token = torch.multinomial(law, 1, generator=generator)
        context = target.advance(context, token, torch.ones(n, dtype=torch.int64))
        tokens = torch.cat([tokens, token], 1)
    return tokens
