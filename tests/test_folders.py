"""A folder takes another one's place, or nothing has changed."""

import pytest

from musetalk.folders import put_in_place


@pytest.mark.parametrize("exists", [False, True])
def test_the_new_folder_is_there_and_nothing_else(tmp_path, exists):
    part, folder = tmp_path / "part", tmp_path / "folder"
    part.mkdir()
    (part / "new").touch()
    if exists:
        folder.mkdir()
        (folder / "older").touch()
    put_in_place(part, folder, tmp_path / "old")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["folder", "folder/new"]


def test_the_older_folder_is_back_when_the_new_one_cannot_come(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "older").touch()
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "missing", folder, tmp_path / "old")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["folder", "folder/older"]
