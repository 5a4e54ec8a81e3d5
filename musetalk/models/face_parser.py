"""BiSeNet, the face parser: a class for every pixel of a face crop (CelebAMask-HQ's 19 classes)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 19


class BiSeNet(nn.Module):
    """Bilateral segmentation network on a ResNet-18 (spec section 6.1), less its two heads for training."""

    def __init__(self) -> None:
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion(256, 256)
        self.conv_out = Head(256, 256)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores of ``images``.

        images: float [B, 3, H, W], RGB in 0..1 less ImageNet's mean, over its standard deviation; 512 x 512
            as trained.
        Returns [B, 19, H, W] unnormalised scores; the class of a pixel is their argmax.
        """
        spatial, context = self.cp(images)
        scores = self.conv_out(self.ffm(spatial, context))
        return F.interpolate(scores, images.shape[2:], mode="bilinear", align_corners=True)


class ConvBNReLU(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class BasicBlock(nn.Module):
    """ResNet's two-convolution block."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet18(nn.Module):
    """ResNet-18 without its classifier; returns the features at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        stride8 = self.layer2(self.layer1(x))
        stride16 = self.layer3(stride8)
        return stride8, stride16, self.layer4(stride16)


class AttentionRefinement(nn.Module):
    """Weigh channels by what the whole picture shows."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = ConvBNReLU(channels_in, channels_out)
        self.conv_atten = nn.Conv2d(channels_out, channels_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(_global_mean(x))))


class ContextPath(nn.Module):
    """The backbone and its two refinements; returns spatial features and context, both at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = ResNet18()
        self.arm16 = AttentionRefinement(256, 128)
        self.arm32 = AttentionRefinement(512, 128)
        self.conv_head32 = ConvBNReLU(128, 128)
        self.conv_head16 = ConvBNReLU(128, 128)
        self.conv_avg = ConvBNReLU(512, 128, kernel=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        stride8, stride16, stride32 = self.resnet(x)
        context = self.arm32(stride32) + self.conv_avg(_global_mean(stride32))
        context = self.conv_head32(F.interpolate(context, stride16.shape[2:], mode="nearest"))
        context = self.arm16(stride16) + context
        return stride8, self.conv_head16(F.interpolate(context, stride8.shape[2:], mode="nearest"))


class FeatureFusion(nn.Module):
    """Join spatial features and context, then weigh the channels of the result."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.convblk = ConvBNReLU(channels_in, channels_out, kernel=1)
        self.conv1 = nn.Conv2d(channels_out, channels_out // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(channels_out // 4, channels_out, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat((spatial, context), dim=1))
        return x + x * torch.sigmoid(self.conv2(F.relu(self.conv1(_global_mean(x)))))


class Head(nn.Module):
    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.conv = ConvBNReLU(channels_in, channels)
        self.conv_out = nn.Conv2d(channels, CLASSES, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


def _global_mean(x: Tensor) -> Tensor:
    # Pooling, as the original: another way of summing rounds differently and flips pixels on a class border.
    return F.avg_pool2d(x, x.shape[2:])
