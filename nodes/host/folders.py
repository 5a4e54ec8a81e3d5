"""Where ComfyUI keeps models, results and scratch files."""

from __future__ import annotations

import secrets
from pathlib import Path

import folder_paths

from ...musetalk.avatar_file import AVATAR_JSON
from ...musetalk.errors import InputError
from ...musetalk.models.weight_file import SUFFIXES

KEY = "musetalk"
# Where other packs and the original code's instructions put the same files.
_OTHER_PACKS = ("TMElyralab/MuseTalk",)
_AVATARS = "musetalk/avatars"
_SEPARATOR = " ["


def file_names(key: str) -> list[str]:
    """Names of the files in the model folders of a kind; none where a folder is gone.

    ComfyUI's cache does not expect one to be removed while it runs, and an error in a schema hides the whole node.
    """
    try:
        return folder_paths.get_filename_list(key)
    except OSError:
        return []


def register() -> None:
    """Make ``models/musetalk`` known, beside what extra_model_paths.yaml names under ``musetalk``."""
    paths, suffixes = folder_paths.folder_names_and_paths.get(KEY, ([], set()))
    own = str(download_folder())
    folder_paths.folder_names_and_paths[KEY] = (list(dict.fromkeys([*paths, own])), {*suffixes, *SUFFIXES})


def download_folder() -> Path:
    """Where fetched models go."""
    return Path(folder_paths.models_dir) / KEY


def model_files() -> list[str]:
    """Names of the weight files in the registered folders, as `model_path` takes them."""
    return [name for name in file_names(KEY) if not Path(name).name.startswith(".")]


def model_path(name: str) -> Path:
    return Path(folder_paths.get_full_path_or_raise(KEY, name))


def model_roots() -> list[tuple[Path, bool]]:
    """Folders that may hold models, the registered ones first; whether any file in them may be one of ours."""
    roots = [(Path(path), True) for path in folder_paths.get_folder_paths(KEY)]
    roots += [(Path(path) / name, True) for path in folder_paths.get_folder_paths("diffusers") for name in _OTHER_PACKS]
    # Upstream's folders put straight into ComfyUI's: only their official places, the rest belongs to other models.
    roots.append((Path(folder_paths.models_dir), False))
    return [(path, own) for path, own in roots if path.is_dir()]


def core_files(key: str) -> list[Path]:
    """Files of one of ComfyUI's own model folders; none where this release has no such folder."""
    if key not in folder_paths.folder_names_and_paths:
        return []
    return [Path(folder_paths.get_full_path_or_raise(key, name)) for name in file_names(key)]


def scratch_file(suffix: str) -> Path:
    """A new name in ComfyUI's temp folder, which is emptied when it starts and stops."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"musetalk_{secrets.token_hex(8)}{suffix}"


def check_prefix(prefix: str) -> str | None:
    """What is wrong with the name of a new avatar; None when it can be used."""
    path = Path(prefix.replace("\\", "/"))
    if not path.name or path.is_absolute() or ":" in prefix or ".." in path.parts:
        return f"filename_prefix is {prefix!r}; give a plain name such as 'avatar', or 'folder/avatar'"
    return None


def new_avatar_folder(prefix: str) -> Path:
    """A folder that does not exist yet, named by the prefix and a number, below the output folder."""
    problem = check_prefix(prefix)
    if problem:
        raise InputError(problem)
    parent, name, counter, _, _ = folder_paths.get_save_image_path(f"{_AVATARS}/{prefix}", _output())
    return Path(parent) / f"{name}_{counter:05}_"


def avatar_name(folder: Path) -> str:
    """The name `avatar_folder` finds an avatar of the output folder by."""
    return f"{folder.relative_to(Path(_output()) / _AVATARS).as_posix()} [output]"


def avatar_names() -> list[str]:
    """Names of all avatars below the output and input folders."""
    names = []
    for place, root in _avatar_roots().items():
        found = sorted([*root.glob(f"*/{AVATAR_JSON}"), *root.glob(f"*/*/{AVATAR_JSON}")])
        names += [f"{path.parent.relative_to(root).as_posix()}{_SEPARATOR}{place}]" for path in found]
    return names


def avatar_folder(name: str) -> Path:
    """The folder of an avatar by its name. Raises InputError for one that does not exist."""
    stem, _, place = name.rpartition(_SEPARATOR)
    root = _avatar_roots().get(place.removesuffix("]"))
    if root is not None and stem:
        folder = (root / stem).resolve()
        if folder.is_relative_to(root.resolve()) and (folder / AVATAR_JSON).is_file():
            return folder
    raise InputError(f"the avatar {name!r} does not exist; choose one of the list, or save one with Save Avatar")


def _avatar_roots() -> dict[str, Path]:
    roots = {"output": _output(), "input": folder_paths.get_input_directory()}
    return {place: Path(root) / _AVATARS for place, root in roots.items()}


def _output() -> str:
    return folder_paths.get_output_directory()
