"""Attention by its parts says what the fused kernel says."""

import pytest
import torch
import torch.nn.functional as F

from musetalk.models.attention import attend


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("with_bias", [False, True])
def test_in_every_precision(dtype, heads, with_bias):
    draw = torch.Generator().manual_seed(heads)
    query, key, value = (torch.randn(2, heads, n, 16, generator=draw) for n in (40, 70, 70))
    bias = 2 * torch.randn(2, 1, 1, 70, generator=draw) if with_bias else None
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    given = attend(*(tensor.to(dtype) for tensor in (query, key, value)), None if bias is None else bias.to(dtype))
    assert given.dtype == dtype and given.shape == (2, heads, 40, 16)
    within = 1e-5 if dtype is torch.float32 else 0.08
    torch.testing.assert_close(given.float(), expected, rtol=within, atol=within)
