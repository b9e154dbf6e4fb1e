"""flashspec: `SpeculativeEngine.generate` with a draft model alone, and as by default, with drafts looked up beside."""

import logging

import torch
from flashspec.engine import SpeculativeEngine, TargetModel
from flashspec.engine.hf_drafter import HuggingFaceDrafter
from flashspec.utils.config import BanditConfig, FlashSpecConfig, SamplingConfig

from specverify.integrations.causal import step_sampler

logging.getLogger("flashspec").setLevel(logging.ERROR)


def engine(strategy):
    def step(draft, target, ids):
        draws = {"drafter_strategy": strategy, "bandit": BanditConfig(n_arms=1), "sampling": SamplingConfig(gamma=2)}
        both = [HuggingFaceDrafter("draft", "cpu", model=draft)], TargetModel("target", "cpu", model=target)
        engine = SpeculativeEngine(FlashSpecConfig(device="cpu", **draws), *both)
        return torch.cat([ids, engine.generate(ids, target.toys[0].length).output_ids], 1)

    return step_sampler(step, cached=True)


model, auto = engine("bandit"), engine("auto")
