"""WebDataset tars of clips: written in one step, streamed back clip by clip.

Members are plain files (mp4, wav, json, npz). WebDataset's own encoders and decoders, some of which pickle, are not
used, nor its URL opener: a shard is a local file.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..errors import InputError, OutputError
from ..extras import require
from .clip_file import MEMBERS

Members = dict[str, bytes]
_PART = ".part"


def write_shard(path: Path, clips: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Write samples (key, members) as a tar at ``path``; the same samples give the same bytes.

    It is built beside and renamed when it is whole and on the disk. Raises OutputError when it cannot be written.
    """
    writer = require("webdataset.writer", "train")
    part = path.with_name(path.name + _PART)
    try:
        with part.open("wb") as file:
            with writer.TarWriter(file, user="musetalk", group="musetalk", mode=0o644, mtime=0, encoder=False) as tar:
                for key, members in clips:
                    tar.write({"__key__": key, **members})
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write the shard {path} ({error.strerror or error}); free some room and run again"
        ) from error


def read_shard(path: Path) -> Iterator[tuple[str, Members]]:
    """The samples of a shard in order. Raises InputError for a damaged file."""
    tariterators = require("webdataset.tariterators", "train")
    try:
        with path.open("rb") as stream:
            files = tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
            for sample in tariterators.group_by_keys(files):
                yield sample["__key__"], {name: sample[name] for name in MEMBERS if name in sample}
    # ValueError: two members of one name, which are of two samples with one key.
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise InputError(f"the shard {path} is damaged or missing ({error}); make the data set again") from error
