"""Muon: momentum whose matrices are made orthogonal before every step; the rest of a network gets Adam.

For small networks trained from scratch it needs a fraction of the steps that Adam does (K. Jordan et al., "Muon: an
optimizer for hidden layers in neural networks", 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# The quintic iteration of the paper: after five rounds every singular value lies in about [0.7, 1.2].
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_LEAST_SIDE = 16
_PLAIN = ("conv_in", "conv_out", "embed_positions")


class Muon(torch.optim.Optimizer):
    """Muon for the matrices inside a network, convolutions flattened to matrices; Adam for everything else.

    network: vectors, embeddings, the first and the last convolution and matrices narrower than 16 get Adam.
    lr: of Muon. adam_lr: of Adam. `set_share` scales both, for a schedule.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float = 0.02,
        adam_lr: float = 2e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ) -> None:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if _is_inner_matrix(name, p)]
        others = [p for name, p in named if not _is_inner_matrix(name, p)]
        groups: list[dict[str, Any]] = [
            {"params": parameters, "lr": rate, "full_lr": rate, "muon": muon}
            for parameters, rate, muon in ((matrices, lr, True), (others, adam_lr, False))
            if parameters
        ]
        super().__init__(groups, {"momentum": momentum, "betas": betas, "eps": eps})

    def set_share(self, share: float) -> None:
        """Let both rates be this part of what they were given as."""
        for group in self.param_groups:
            group["lr"] = share * group["full_lr"]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients there are, or from those that ``closure`` leaves; its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            advance = self._muon if group["muon"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    advance(parameter, parameter.grad, group)
        return loss

    def _muon(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = orthogonal(gradient.lerp(momentum, group["momentum"]).flatten(1))
        rows, columns = direction.shape
        parameter.add_(direction.view_as(parameter), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        steps = float(state["step"])
        beta1, beta2 = group["betas"]
        mean = state["mean"].lerp_(gradient, 1 - beta1) / (1 - beta1**steps)
        square = state["square"].lerp_(gradient.square(), 1 - beta2) / (1 - beta2**steps)
        parameter.addcdiv_(mean, square.sqrt_().add_(group["eps"]), value=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix ``[rows, columns]`` with orthonormal rows or columns, whichever are fewer.

    Computed in bfloat16, which is precise enough for a direction.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(_ROUNDS):
        squared = x @ x.T
        x = a * x + (b * squared + c * squared @ squared) @ x
    x = x.to(matrix.dtype)
    return x.T if tall else x


def _is_inner_matrix(name: str, parameter: Tensor) -> bool:
    if parameter.ndim < 2 or any(part in _PLAIN for part in name.split(".")):
        return False
    return min(parameter.shape[0], parameter[0].numel()) >= _LEAST_SIDE
