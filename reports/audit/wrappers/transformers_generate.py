"""transformers: `model.generate(do_sample=True)` with a draft model or prompt lookup, with guidance and without."""

from specverify.integrations.transformers import generation_sampler

assisted = generation_sampler(assistant="assistant_model", num_assistant_tokens=2, guidance_scale=None)
lookup = generation_sampler(prompt_lookup_num_tokens=2, guidance_scale=None)
assisted_guided = generation_sampler(assistant="assistant_model", num_assistant_tokens=2)
lookup_guided = generation_sampler(prompt_lookup_num_tokens=2)
