"""What the generator is trained to minimise (spec section 8.5); pictures are RGB in [-1, 1]."""

from .criterion import TrainingLosses
from .weights import PRESETS, LossWeights

__all__ = ["PRESETS", "LossWeights", "TrainingLosses"]
