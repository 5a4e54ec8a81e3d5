"""Still images and folders of them as frames."""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import InputError
from .color import ColorInfo, flatten
from .container import require_file
from .frames import FrameSource, check_size, hash_file
from .timing import DEFAULT_RATE

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_SIDEWAYS = {5, 6, 7, 8}
_ORIENTATION_TAG = 0x0112


class ImageFrames(FrameSource):
    """One image, or a folder of images of one size in natural order (2.png before 10.png).

    Files of other kinds are ignored. Pictures are turned by their EXIF orientation, transparency is flattened
    over black, 16 bits are scaled to 8. Colour profiles are not applied.
    """

    path: Path

    def __init__(self, path: Path, fps: Fraction | None) -> None:
        self.path = path
        self.fps = fps or DEFAULT_RATE
        self.color = ColorInfo.rgb()
        self._files = _list_images(path) if path.is_dir() else [path]
        sizes = [_read_size(file) for file in self._files]
        odd = next((place for place, size in enumerate(sizes) if size != sizes[0]), None)
        if odd is not None:
            raise InputError(
                f"{self._files[odd]} is {sizes[odd][0]}x{sizes[odd][1]} but {self._files[0].name} is "
                f"{sizes[0][0]}x{sizes[0][1]}; all images of a folder must have one size"
            )
        self._kept = (0, _read_image(self._files[0]))
        self.height, self.width = self._kept[1].shape[:2]
        self._hash: str | None = None

    def __len__(self) -> int:
        return len(self._files)

    def _frame(self, index: int) -> np.ndarray:
        if self._kept[0] != index:
            picture = _read_image(self._files[index])
            if picture.shape[:2] != (self.height, self.width):
                raise InputError(f"{self._files[index]} is not {self.width}x{self.height}, as its header said")
            self._kept = (index, picture)
        return self._kept[1]

    def content_hash(self) -> str:
        if self._hash is None:
            digest = hashlib.sha256()
            for file in self._files:
                if self.path.is_dir():
                    digest.update(file.name.encode() + b"\0")
                hash_file(file, digest)
            self._hash = digest.hexdigest()
        return self._hash


def _list_images(folder: Path) -> list[Path]:
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    if not files:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(files, key=_natural_key)


def _natural_key(file: Path) -> tuple[list[tuple[int, str]], str]:
    # Digits at odd places; the name itself settles 01 against 1.
    parts = re.split(r"([0-9]+)", file.name.casefold())
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)], file.name


def _open_image(file: Path) -> Image.Image:
    require_file(file)
    try:
        image = Image.open(file)
        moves = getattr(image, "n_frames", 1) > 1 and image.format in {"PNG", "WEBP"}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as an image ({error})") from error
    check_size(*image.size, file)
    if moves:
        image.close()
        raise InputError(f"{file} is an animation; convert it to a video")
    return image


def _read_size(file: Path) -> tuple[int, int]:
    with _open_image(file) as image:
        width, height = image.size
        # The PNG class's own getexif decodes the whole picture first.
        turned = Image.Image.getexif(image).get(_ORIENTATION_TAG) in _SIDEWAYS
        return (height, width) if turned else (width, height)


def _read_image(file: Path) -> np.ndarray:
    """uint8 RGB [H, W, 3]"""
    with _open_image(file) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "F":
                raise InputError(f"{file} holds floating-point pixels; save it with 8 or 16 bits")
            if upright.mode.startswith("I"):
                gray = np.clip(np.asarray(upright).astype(np.int64), 0, 65535)
                return np.repeat(((gray + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
            if upright.has_transparency_data:
                return flatten(np.asarray(upright.convert("RGBA")))
            return np.asarray(upright.convert("RGB"))
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{file} is damaged ({error})") from error
