"""VGG19 up to relu5_1, whose features judge how alike two pictures look."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError, ModelFileError
from ...models.weight_file import WeightFile

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
# Where the file belongs in a folder of models.
LOCAL_PATH = "vgg19/vgg19-dcbb9e9d.pth"
# Place in torchvision's list of layers -> (channels in, out), up to the first convolution of the fifth block.
_CONVOLUTIONS = {
    0: (3, 64),
    2: (64, 64),
    5: (64, 128),
    7: (128, 128),
    10: (128, 256),
    12: (256, 256),
    14: (256, 256),
    16: (256, 256),
    19: (256, 512),
    21: (512, 512),
    23: (512, 512),
    25: (512, 512),
    28: (512, 512),
}
# The first convolution of every block: its activation is a feature, and from the second on the picture is halved
# before it.
_FIRST_OF_BLOCK = (0, 5, 10, 19, 28)
_SHOWN_PROBLEMS = 4


class VGG19(nn.Module):
    """The convolutions of VGG19 that relu5_1 needs; parameter names are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {str(place): nn.Conv2d(*channels, 3, padding=1) for place, channels in _CONVOLUTIONS.items()}
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """ImageNet-normalised RGB, float [N, 3, H, W], at least 16 pixels a side, to the five features.

        Returns relu1_1 [N, 64, H, W], relu2_1 [N, 128, H/2, W/2], relu3_1 [N, 256, H/4, W/4],
        relu4_1 [N, 512, H/8, W/8] and relu5_1 [N, 512, H/16, W/16].
        """
        taken: list[Tensor] = []
        x = images
        for place in _CONVOLUTIONS:
            if place in _FIRST_OF_BLOCK and taken:
                x = F.max_pool2d(x, 2)
            # Not in place: the features are compared, and the next layer's gradient needs its input.
            x = F.relu(self.features[str(place)](x))
            if place in _FIRST_OF_BLOCK:
                taken.append(x)
        return taken


def load_vgg19(path: Path | str, device: torch.device | str = "cpu") -> VGG19:
    """VGG19 trained on ImageNet, float32, frozen.

    path: torchvision's vgg19-dcbb9e9d.pth, or the same tensors as safetensors; what relu5_1 does not need may be
        absent. Nothing in it is run.
    Raises InputError when the file is absent and ModelFileError when it is damaged or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; the perceptual loss needs VGG19: download {URL} (548 MB) and put it there, "
            "or set the weight of the perceptual loss to 0"
        )
    with torch.device("meta"):
        network = VGG19().requires_grad_(False)
    with WeightFile(path) as file:
        problems = [
            f"{name} is {list(file.shapes[name]) if name in file.shapes else 'missing'} instead of {list(wanted.shape)}"
            for name, wanted in network.state_dict().items()
            if file.shapes.get(name) != tuple(wanted.shape)
        ]
        if problems:
            shown = "; ".join(problems[:_SHOWN_PROBLEMS])
            raise ModelFileError(f"{path}: not torchvision's VGG19 ({len(problems)} problems: {shown}); download {URL}")
        weights = {name: file.tensor(name).to(device, torch.float32, copy=True) for name in network.state_dict()}
    network.load_state_dict(weights, assign=True)
    return network.eval()
