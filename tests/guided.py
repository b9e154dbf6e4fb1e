"""A toy that has conditions and guidance, of which one thing is changed."""

import copy

import torch
from changed import Changed


class Guided(Changed):
    """See `realmodels.images.ImageModel`; what is not named is changed by the settings that are given."""

    def __init__(self, changed=lambda laws, place: laws, **settings):
        super().__init__(changed)
        self.conditions, self.guidance, self.processors = (0, 1, 2, 3), 1.0, ()
        vars(self).update(settings)

    def like(self, **settings):
        other = copy.copy(self)
        vars(other).update(settings)
        return other

    def number(self, condition):
        return condition

    def given(self, batch):
        return [self.conditions[row % len(self.conditions)] for row in range(batch)]

    def start(self, batch):
        numbers = torch.tensor([self.number(each) for each in self.given(batch)])
        return *super().start(batch), numbers

    def guide(self, c, u, scale):
        return u + scale * (c - u)

    def laws(self, context, draft):
        sums, place = self.sums(context, draft)[..., None], context[1][:, None] + torch.arange(draft.shape[1] + 1)
        waves = torch.arange(1.0, 17.0, dtype=torch.float64)
        c, u = (torch.sin((sums + shift + 1.0) * waves) for shift in (0.1 + 0.2 * context[2][:, None, None], 0.0))
        return self.changed(self.guide(c, u, self.guidance).softmax(-1), place)

    def advance(self, context, tokens, count):
        return *super().advance(context[:2], tokens, count), *context[2:]
