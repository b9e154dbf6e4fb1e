"""Loops over image models as papers release them: own forward passes, own cache, own window, classifier-free pairs."""

import torch
from schedulers import sjd


def jacobi(model, ids, window=2, rolls_back=True):
    """Speculative Jacobi decoding; guided by a second half of the batch, which does not see the condition."""
    end, cache = ids.shape[1] + model.size, None
    drafts, q = ids[:, :0], torch.zeros(1, 1, model.config.vocab_size, dtype=torch.float64)
    while ids.shape[1] < end:
        fed = torch.cat([ids if cache is None else ids[:, -1:], drafts], 1)
        mask = torch.ones(2, ids.shape[1] + drafts.shape[1], dtype=torch.long)
        mask[1, 0] = 0
        out = model(input_ids=fed.repeat(2, 1), attention_mask=mask, past_key_values=cache, use_cache=True)
        cache, slots = getattr(out, "cache", None) or out.past_key_values, drafts.shape[1] + 1
        shown, hidden = out.logits[:, -slots:].chunk(2)
        matched, tokens, scores = sjd(fed[:, -slots:], hidden + model.guidance * (shown - hidden), q)
        ids = torch.cat([ids, tokens[:, :matched]], 1)
        if rolls_back and matched < slots:
            cache.crop(matched - slots)
        room = min(window, end - ids.shape[1])
        first = ids[:, -1:].expand(-1, max(0, room - slots + matched))  # the last one, over again
        drafts = torch.cat([tokens[:, matched:], first], 1)[:, :room]
        sure = torch.nn.functional.one_hot(torch.cat([ids[:, -1:], first], 1), q.shape[-1]).to(q)
        q = torch.cat([sure[:, :1], scores[:, matched:], sure[:, 1:]], 1)[:, : room + 1]
    return ids


def forgets_to_roll_back(model, ids):
    """What was rejected stays in the cache."""
    return jacobi(model, ids, rolls_back=False)


def janus(model, prompt, scale=None):
    """One token after the other, as in Janus: every second row has no condition, embeddings go in, states come out."""
    rows = prompt.repeat_interleave(2, 0)
    rows[1::2, 1:-1] = model.pad
    embeds, cache, made = model.language_model.get_input_embeddings()(rows), None, []
    for _ in range(model.size):
        out = model.language_model.model(inputs_embeds=embeds, use_cache=True, past_key_values=cache)
        cache, logits = out.past_key_values, model.gen_head(out.last_hidden_state[:, -1])
        shown, hidden = logits[0::2], logits[1::2]
        law = (hidden + (model.guidance if scale is None else scale) * (shown - hidden)).softmax(-1)
        made.append(torch.multinomial(law, 1))
        embeds = model.prepare_gen_img_embeds(made[-1].repeat_interleave(2, 0))
    return torch.cat(made, 1)


def misguided(model, prompt):
    """Twice the guidance that is due."""
    return janus(model, prompt, 2 * model.guidance)
