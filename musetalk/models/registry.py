"""Every published file MuseTalk uses: where it comes from, where it goes, and on what terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError

HUB = "https://huggingface.co"

_UNET_TERMS = "MIT code; upstream's README allows any use of the weights, the model card says CreativeML OpenRAIL-M"
_PARSER_NOTICE = "trained on CelebAMask-HQ, whose terms are for non-commercial research only"
_DWPOSE_NOTICE = "trained on COCO-WholeBody and UBody, whose terms are for research only"


@dataclass(frozen=True)
class RemoteFile:
    """One published file.

    name: a short name to choose it by.
    versions: the model versions it belongs to.
    needed: whether its versions need it as they run by default.
    local_path: its official place below the models folder (spec section 1.1).
    repo, path, revision: where it lies on the Hugging Face hub; ``repo`` is empty for files elsewhere.
    url: where it lies, for a file outside the hub.
    size: bytes; None where not known.
    sha256: in hex; None where not known, and then the file is not verified.
    licence: the terms it is published under.
    notice: what its user should know besides; may be empty.
    """

    name: str
    versions: tuple[str, ...]
    needed: bool
    local_path: str
    licence: str
    repo: str = ""
    path: str = ""
    revision: str = "main"
    url: str = ""
    size: int | None = None
    sha256: str | None = None
    notice: str = ""

    def address(self, endpoint: str = HUB) -> str:
        """Where a browser finds it; ``endpoint`` is the hub or a mirror of it."""
        return f"{endpoint.rstrip('/')}/{self.repo}/resolve/{self.revision}/{self.path}" if self.repo else self.url


_MUSETALK = ("TMElyralab/MuseTalk", "3ef28bc5cff08c90ad8178a25f1b570cd800170f")
_VAE = ("stabilityai/sd-vae-ft-mse", "31f26fdeee1355a5c34592e401dd41e45d25a493")
_WHISPER = ("openai/whisper-tiny", "169d4a4341b33bc18d8881c4b69c2e104e1cc0af")
_PARSER = ("ManyOtherFunctions/face-parse-bisent", "0073b233a5a3c4b1377d4dbf49245017938a72b5")
_DWPOSE = ("yzd-v/DWPose", "1a7144101628d69ee7a3768d1ee3a094070dc388")
_BOTH = ("v15", "v1")

FILES: tuple[RemoteFile, ...] = (
    RemoteFile(
        name="unet-v15-config",
        versions=("v15",),
        needed=True,
        local_path="musetalkV15/musetalk.json",
        licence=_UNET_TERMS,
        repo=_MUSETALK[0],
        revision=_MUSETALK[1],
        path="musetalkV15/musetalk.json",
        size=748,
        sha256="5b6923aee04d71692e0e9846c471e0a4ea07a4f686d39545e472bd4ba17e1b47",
    ),
    RemoteFile(
        name="unet-v15",
        versions=("v15",),
        needed=True,
        local_path="musetalkV15/unet.pth",
        licence=_UNET_TERMS,
        repo=_MUSETALK[0],
        revision=_MUSETALK[1],
        path="musetalkV15/unet.pth",
        size=3_400_074_924,
        sha256="7ebf6c98c181e20838e4c0054e96e944ac60d5d692cc01db42839fe11b787007",
    ),
    RemoteFile(
        name="unet-v1-config",
        versions=("v1",),
        needed=True,
        local_path="musetalk/musetalk.json",
        licence=_UNET_TERMS,
        repo=_MUSETALK[0],
        revision=_MUSETALK[1],
        path="musetalk/musetalk.json",
    ),
    RemoteFile(
        name="unet-v1",
        versions=("v1",),
        needed=True,
        local_path="musetalk/pytorch_model.bin",
        licence=_UNET_TERMS,
        repo=_MUSETALK[0],
        revision=_MUSETALK[1],
        path="musetalk/pytorch_model.bin",
    ),
    RemoteFile(
        name="vae-config",
        versions=_BOTH,
        needed=True,
        local_path="sd-vae/config.json",
        licence="MIT",
        repo=_VAE[0],
        revision=_VAE[1],
        path="config.json",
        size=547,
        sha256="92d3dfb746fca211a2c9e019e285f8597412211728dce3c5bcf4eda0f2d62e7e",
    ),
    RemoteFile(
        name="vae",
        versions=_BOTH,
        needed=True,
        local_path="sd-vae/diffusion_pytorch_model.bin",
        licence="MIT",
        repo=_VAE[0],
        revision=_VAE[1],
        path="diffusion_pytorch_model.bin",
        size=334_707_217,
        sha256="1b4889b6b1d4ce7ae320a02dedaeff1780ad77d415ea0d744b476155c6377ddc",
    ),
    RemoteFile(
        name="whisper-config",
        versions=_BOTH,
        needed=True,
        local_path="whisper/config.json",
        licence="Apache-2.0",
        repo=_WHISPER[0],
        revision=_WHISPER[1],
        path="config.json",
        size=1_983,
        sha256="ffdccec4f3211f4c63310f2b7098f309fe70f3952cedc5e4d11e43f5b2379b98",
    ),
    RemoteFile(
        name="whisper",
        versions=_BOTH,
        needed=True,
        local_path="whisper/pytorch_model.bin",
        licence="Apache-2.0",
        repo=_WHISPER[0],
        revision=_WHISPER[1],
        path="pytorch_model.bin",
        size=151_095_027,
        sha256="9607f98a2b22d9e229ae43c52ecea79dcede9e0c5cfae67e8da6eda86d8aac1d",
    ),
    RemoteFile(
        name="whisper-preprocessor",
        versions=_BOTH,
        needed=False,
        local_path="whisper/preprocessor_config.json",
        licence="Apache-2.0",
        repo=_WHISPER[0],
        revision=_WHISPER[1],
        path="preprocessor_config.json",
        size=184_990,
        sha256="9b5cd03a36fbb8a627c64d98a5b5b126ead95a77720723944487311f0110b666",
        notice="only upstream's own code reads it",
    ),
    RemoteFile(
        name="face-parser",
        versions=_BOTH,
        needed=True,
        local_path="face-parse-bisent/79999_iter.pth",
        licence="not declared by the mirror; the training code is MIT",
        repo=_PARSER[0],
        revision=_PARSER[1],
        path="79999_iter.pth",
        size=53_289_463,
        sha256="468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        notice=_PARSER_NOTICE,
    ),
    RemoteFile(
        name="dwpose",
        versions=_BOTH,
        needed=False,
        local_path="dwpose/dw-ll_ucoco_384.pth",
        licence="Apache-2.0",
        repo=_DWPOSE[0],
        revision=_DWPOSE[1],
        path="dw-ll_ucoco_384.pth",
        size=406_878_486,
        sha256="0d9408b13cd863c4e95a149dd31232f88f2a12aa6cf8964ed74d7d97748c7a07",
        notice=_DWPOSE_NOTICE,
    ),
    RemoteFile(
        name="s3fd",
        versions=_BOTH,
        needed=False,
        local_path="s3fd/s3fd-619a316812.pth",
        licence="BSD-3-Clause",
        url="https://www.adrianbulat.com/downloads/python-fan/s3fd-619a316812.pth",
        size=89_843_225,
        sha256="619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        notice="not on the Hugging Face hub: fetch it with a browser",
    ),
    RemoteFile(
        name="syncnet",
        versions=_BOTH,
        needed=False,
        local_path="syncnet/latentsync_syncnet.pt",
        licence="see the model card of ByteDance/LatentSync",
        repo="ByteDance/LatentSync",
        path="latentsync_syncnet.pt",
        notice="measures and trains sync; lip sync itself does without",
    ),
)


def files_named(names: Sequence[str]) -> tuple[RemoteFile, ...]:
    """The files with these names. Raises InputError for an unknown one."""
    known = {file.name: file for file in FILES}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(f"no file called {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return tuple(known[name] for name in names)


def files_of(version: str, include: tuple[str, ...] = ()) -> tuple[RemoteFile, ...]:
    """What a version (or ``"all"``) needs, and the files named in ``include`` besides.

    Raises InputError for an unknown version or name.
    """
    if version not in (*_BOTH, "all"):
        raise InputError(f"version is {version!r}; use {', '.join(map(repr, _BOTH))} or 'all'")
    candidates = [file for file in FILES if version == "all" or version in file.versions]
    known = {file.name for file in candidates}
    unknown = sorted(set(include) - known)
    if unknown:
        raise InputError(f"no file called {', '.join(unknown)} for {version}; known are {', '.join(sorted(known))}")
    return tuple(file for file in candidates if file.needed or file.name in include)
