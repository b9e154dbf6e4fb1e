"""transformers: `model.generate(do_sample=True)` with a draft model, and with prompt lookup."""

from specverify.integrations.transformers import generation_sampler

assisted = generation_sampler(assistant="assistant_model", num_assistant_tokens=2)
lookup = generation_sampler(prompt_lookup_num_tokens=2)
