"""Files with nothing but a secret in them: the server's token, the key to an agent."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError


def read_secret(path: Path, what: str) -> str:
    """The text of a file, without the white space around it. what: the file in words, such as ``key file``.

    Raises InputError for a file that cannot be read as text, and for one that other users of the machine can reach
    (not told on Windows). No error shows what is in it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if os.name == "posix" and mode & 0o077:
                raise InputError(f"the {what} {path} is open to others (mode {mode:03o}); run: chmod 600 {path}")
            return file.read().strip()
    except UnicodeDecodeError:
        raise InputError(f"cannot read the {what} {path}: it is no UTF-8 text; write it anew") from None
    except OSError as error:
        raise InputError(
            f"cannot read the {what} {path}: {error.strerror}; give one that this user can read"
        ) from error
