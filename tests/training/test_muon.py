"""The optimiser of small networks."""

import pytest
import torch

from musetalk.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 32)])
def test_orthogonal_directions_have_no_large_and_no_small_side(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[1]))))
    assert values.max() < 1.3
    assert values.min() > 0.3


def test_muon_learns_a_matrix_and_adam_the_rest() -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(32, 32)
    truth = torch.nn.Linear(32, 32).requires_grad_(False)
    optimizer = Muon(network, lr=0.02, adam_lr=0.02)
    assert [group["muon"] for group in optimizer.param_groups] == [True, False]
    for step in range(150):
        optimizer.set_share(1 - step / 150)
        inputs = torch.randn(64, 32)
        loss = (network(inputs) - truth(inputs)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1e-3
