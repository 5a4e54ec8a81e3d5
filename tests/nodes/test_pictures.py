"""ComfyUI's tensors to the engine's arrays and back."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

Part = Callable[[str], ModuleType]


@pytest.fixture
def pictures(part: Part) -> Any:
    return part("nodes.pictures")


@pytest.fixture(scope="session")
def avatar(part: Part, tiny_models: Any, portrait_frames: np.ndarray) -> Any:
    from dataclasses import replace

    return part("musetalk.avatar").prepare_avatar(replace(tiny_models, face_parser=None), portrait_frames[:3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_level_survives_the_way_there_and_back(pictures: Any, dtype: torch.dtype) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    image = torch.empty(levels.shape, dtype=dtype)
    pictures.fill(image, 0, levels)
    assert np.array_equal(pictures.to_uint8(image), levels)


def test_values_outside_the_range_are_clipped_and_alpha_is_dropped(pictures: Any) -> None:
    image = torch.tensor([-0.5, 2.0, 0.5, 0.1]).expand(1, 2, 2, 4)
    assert (pictures.to_uint8(image) == [0, 255, 128]).all()


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 4, 4, 1), (0, 4, 4, 3)])
def test_other_shapes_are_refused(part: Part, pictures: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(part("musetalk.errors").InputError, match="image input"):
        pictures.to_uint8(torch.zeros(shape))


def test_masks_reach_the_engine_at_every_level(part: Part, pictures: Any) -> None:
    levels = torch.arange(256).reshape(1, 16, 16) / 255
    for mask in (levels, levels[0], levels.to(torch.bfloat16).float()):
        mattes = pictures.to_mattes(mask, "mask")
        assert np.array_equal(mattes.read([3]), (mask.reshape(1, 16, 16) * 255).round().numpy())
    assert pictures.to_mattes(None, "mask") is None
    with pytest.raises(part("musetalk.errors").InputError, match="the occluder input"):
        pictures.to_mattes(torch.zeros(1, 4, 4, 3), "occluder")


def test_mask_limits_where_it_is_black(part: Part, pictures: Any, avatar: Any) -> None:
    half = torch.zeros(1, 320, 384)
    x0, _, x1, _ = avatar.masks[0].box
    middle = (x0 + x1) // 2
    half[..., :middle] = 1
    maker = part("musetalk.face.mask_maker").MaskMaker(
        None, avatar.track, avatar.profile, avatar.frames.size, pictures.to_mattes(half, "mask")
    )
    (limited,) = maker.make([0], [avatar.frames[0]])
    full, kept = (pictures.full_mask(mask, avatar.frames.size) for mask in (avatar.masks[0], limited))
    assert np.array_equal(kept[:, :middle], full[:, :middle])
    assert full[:, middle:].any() and not kept[:, middle:].any()


def test_preview_frames_what_is_redrawn(pictures: Any, avatar: Any) -> None:
    preview = pictures.draw_boxes(avatar, 2, 192)
    assert preview.shape == (2, 160, 192, 3)
    full = pictures.draw_boxes(avatar, 8, 1024)
    assert full.shape == (3, 320, 384, 3)
    x0, y0, *_ = avatar.masks[0].box
    assert (full[0, y0, x0 + 5] == pictures._GREEN).all()
