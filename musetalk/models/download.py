"""Fetching the published files; happens only when the user asks for it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import InputError, ModelFileError, OutputError
from .registry import HUB, RemoteFile, files_named, files_of

STAGING = ".download"
_BLOCK = 1 << 22
_DISK_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC)


def download(
    models_dir: Path | str,
    version: str = "v15",
    endpoint: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    notice: Callable[[str], None] = print,
    include: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> list[Path]:
    """Fetch what a model version still lacks, each file to its official place.

    models_dir: the models folder; made when absent.
    version: ``"v15"``, ``"v1"`` or ``"all"``.
    endpoint: a mirror of the Hugging Face hub; default is the environment's ``HF_ENDPOINT``, else the hub.
    progress: called with ``"download"``, the bytes that arrived and the bytes expected, over all files.
    notice: given a line of text per file: what it is, where from, on what licence; or that it was there.
    include: names of further files (see `registry.FILES`), for instance ``["dwpose"]``.
    only: names of files to fetch in place of a version's.

    A file that is there is kept, whatever is in it; so is one converted to safetensors under the same name.
    A broken transfer is taken up where it stopped for as long as the call runs; a later call begins with the
    first file that is not complete. Nothing appears at its place before size and sha256, where known, are
    right. No access token is sent: every file is public, and a mirror should not see one.
    Returns the paths fetched. Raises InputError for an unknown version, name or endpoint, OutputError for a
    full or read-only disk, and ModelFileError without network or for wrong content; it lists which address
    goes to which path, so that everything can be fetched by hand.
    """
    address = (endpoint or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if not address.startswith(("https://", "http://")):
        raise InputError(f"endpoint is {address!r}; give an address such as {HUB}")
    folder = Path(models_dir)
    missing = []
    for file in files_of(version, tuple(include)) if only is None else files_named(only):
        if _present(folder / file.local_path):
            notice(f"{file.local_path}: already there{_doubt(folder / file.local_path, file)}")
        else:
            missing.append(file)
    if not missing:
        return []
    elsewhere = [file for file in missing if not file.repo]
    if elsewhere:
        raise ModelFileError(_by_hand("not on the Hugging Face hub", elsewhere, folder, address))
    _check_room(folder, missing)
    fetched = []
    meter = _Meter(missing, progress)
    for index, file in enumerate(missing):
        notice(f"[{index + 1}/{len(missing)}] {_describe(file)}")
        fetched.append(_fetch(file, folder, address, missing[index:], meter))
        meter.finish(file, fetched[-1].stat().st_size)
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    return fetched


class _Meter:
    """Adds up the bytes of several transfers, in terms of huggingface_hub's progress bar."""

    def __init__(self, files: Sequence[RemoteFile], progress: Callable[[str, int, int], None] | None) -> None:
        self.total = sum(file.size or 0 for file in files)
        self.finished = 0
        self.arrived = 0
        self.progress = progress

    def add(self, count: float) -> None:
        self.arrived += int(count)
        self._report()

    def finish(self, file: RemoteFile, size: int) -> None:
        """A file is in place; its true size replaces what its transfer reported."""
        self.total += 0 if file.size is not None else size
        self.finished += size
        self.arrived = self.finished
        self._report()

    def _report(self) -> None:
        if self.progress is not None:
            self.progress("download", self.arrived, max(self.total, self.arrived))

    def bar(self) -> type[tqdm]:
        """A class for huggingface_hub to make its progress bar of: it reports here and draws nothing."""
        meter = self

        class Bar(tqdm):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "disable": True})
                meter.add(options.get("initial") or 0)

            def update(self, n: float | None = 1) -> bool | None:
                meter.add(n or 0)
                return None

        return Bar


def _fetch(file: RemoteFile, folder: Path, address: str, remaining: Sequence[RemoteFile], meter: _Meter) -> Path:
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download
    except ImportError as error:
        why = "downloading needs huggingface_hub (pip install huggingface_hub)"
        raise ModelFileError(_by_hand(why, remaining, folder, address)) from error
    staging = folder / STAGING / file.name
    # Older releases cannot be given a bar and draw their own; progress then moves a file at a time.
    options: dict[str, Any] = {}
    if "tqdm_class" in signature(hf_hub_download).parameters:
        options["tqdm_class"] = meter.bar()
    try:
        # Asked first because it fails at once without network; the download would try for half a minute.
        get_hf_file_metadata(file.address(address), token=False)
        arrived = hf_hub_download(
            file.repo,
            file.path,
            revision=file.revision,
            local_dir=staging,
            endpoint=address,
            token=False,
            **options,
        )
    except Exception as error:  # the errors of the hub client and of its HTTP library share no base class
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise OutputError(f"{staging}: cannot be written ({error})") from error
        why = f"cannot fetch {file.address(address)} ({type(error).__name__}: {_first_line(error)})"
        raise ModelFileError(_by_hand(why, remaining, folder, address)) from error
    staged = Path(arrived)
    problem = _verify(staged, file)
    if problem:
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        raise ModelFileError(f"{file.address(address)}: {problem}; nothing was kept. Try again, or another endpoint")
    target = folder / file.local_path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error})") from error
    return target


def _present(target: Path) -> bool:
    return target.is_file() or target.with_suffix(".safetensors").is_file()


def _doubt(target: Path, file: RemoteFile) -> str:
    size = target.stat().st_size if target.is_file() else None
    if size is None or file.size is None or size == file.size:
        return ""
    return f", of {size} bytes instead of the published {file.size}; delete it to fetch it again"


def _verify(path: Path, file: RemoteFile) -> str | None:
    """What is wrong with a fetched file; None when it is as published, as far as that is known."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"got {size} bytes instead of {file.size}"
    if file.sha256 is None:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.sha256:
        return f"got sha256 {digest.hexdigest()} instead of {file.sha256}"
    return None


def _check_room(folder: Path, files: Sequence[RemoteFile]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error})") from error
    needed = sum(file.size or 0 for file in files)
    if needed > free:
        raise OutputError(
            f"{folder}: {needed / 1e9:.1f} GB are to be fetched and {free / 1e9:.1f} GB are free; make room"
        )


def _describe(file: RemoteFile) -> str:
    size = "size not known" if file.size is None else _size_in_words(file.size)
    notice = f" Note: {file.notice}." if file.notice else ""
    return f"{file.local_path} ({size}) from {file.repo}. Licence: {file.licence}.{notice}"


def _size_in_words(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"


def _by_hand(why: str, files: Sequence[RemoteFile], folder: Path, address: str) -> str:
    lines = [f"{why}. To go on without it, put these files in place by hand:"]
    lines += [f"  {file.address(address)} -> {folder / file.local_path}" for file in files]
    return "\n".join(lines)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no details").splitlines()[0]
