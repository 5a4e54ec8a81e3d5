"""Running out of GPU memory halves the batch instead of ending the job."""

import pytest
import torch

from musetalk.halving import run_in_halves
from musetalk.inpainting import predict_latents


def fits(limit: int, seen: list[int]):
    def check(module, inputs):
        seen.append(len(inputs[0]))
        if len(inputs[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return check


@pytest.mark.parametrize(("limit", "passes"), [(8, [7]), (4, [7, 3, 4]), (2, [7, 3, 1, 2, 4, 2, 2])])
def test_a_batch_too_large_is_run_in_halves(tiny_models, limit, passes):
    generator = torch.Generator().manual_seed(0)
    latents, windows = torch.randn(7, 8, 32, 32, generator=generator), torch.randn(7, 50, 384, generator=generator)
    whole = predict_latents(tiny_models, latents, windows)
    seen: list[int] = []
    hook = tiny_models.unet.register_forward_pre_hook(fits(limit, seen))
    try:
        parts = predict_latents(tiny_models, latents, windows)
    finally:
        hook.remove()
    assert seen == passes
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


def test_one_item_that_does_not_fit_is_an_error():
    def run(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        run_in_halves(run, torch.zeros(4, 1))
