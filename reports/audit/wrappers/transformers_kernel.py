"""transformers: `generation.utils._speculative_sampling`, which verifies the drafts of assisted generation."""

from transformers.generation.utils import _speculative_sampling

from specverify.subjects.rounds.conventions import transformers

kernel = transformers(_speculative_sampling)
