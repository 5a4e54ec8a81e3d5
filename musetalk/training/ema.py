"""A moving average of the weights: smoother than the weights themselves, and what is validated and exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import ModelFileError
from .sharded import gather, sharded_like

# Young averages follow the weights closely: after s updates the decay is at most (1 + s) / (10 + s).
_WARM_UP = 10


class MovingAverage:
    """``average += (1 - decay) * (weight - average)`` after every optimiser step.

    network: whose trainable parameters are averaged; they may be sharded, the averages then are sharded likewise.
    decay: of old weights, 0 <= decay < 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of one more optimiser step into the average."""
        self.updates += 1
        weight = 1.0 - min(self.decay, (1 + self.updates) / (_WARM_UP + self.updates))
        for name, parameter in self._parameters.items():
            self._averages[name].lerp_(parameter, weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network has the averaged weights; afterwards its own again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        # By value, one tensor at a time: a sharded tensor cannot be repointed, and a second copy of all is not needed.
        for name, parameter in self._parameters.items():
            own = parameter.detach().clone()
            parameter.copy_(self._averages[name])
            self._averages[name].copy_(own)

    def state_dict(self, *, keep: bool = True) -> dict[str, Tensor]:
        """The averages by parameter name; see `gather`."""
        return gather(self._averages, keep=keep)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Go on from `state_dict` after that many updates. Raises ModelFileError for another network's averages."""
        if {name: tuple(tensor.shape) for name, tensor in state.items()} != {
            name: tuple(tensor.shape) for name, tensor in self._averages.items()
        }:
            raise ModelFileError("the averaged weights belong to another network; start with --resume none")
        self.updates = updates
        for name, average in self._averages.items():
            average.copy_(sharded_like(state[name], average))
