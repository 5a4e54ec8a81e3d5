"""A folder is replaced as a whole or not at all."""

import shutil
from pathlib import Path

import pytest

from musetalk.errors import OutputError
from musetalk.training.replacement import replaced


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def put(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text(name)


def test_the_new_folder_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    out = tmp_path / "models"
    for name in ("first", "second"):
        with replaced(out) as part:
            (part / name).write_text(name)
            assert name not in contents(out)
        assert contents(tmp_path) == {f"models/{name}": name}


def test_a_folder_above_that_is_missing_is_made(tmp_path: Path) -> None:
    with replaced(tmp_path / "runs" / "models") as part:
        (part / "new").write_text("new")
    assert contents(tmp_path) == {"runs/models/new": "new"}


@pytest.mark.parametrize("place", ["models", ".models.old"])
def test_a_move_that_fails_half_way_leaves_the_older_folder(place: str, tmp_path: Path) -> None:
    """Wherever it was: a process killed between the two moves leaves it where it was moved to."""
    put(tmp_path / place, "older")
    # The older folder is moved away, and then there is nothing to take its place.
    with (
        pytest.raises(OutputError, match=r"cannot be written to .*models\.part"),
        replaced(tmp_path / "models") as part,
    ):
        shutil.rmtree(part)
    assert contents(tmp_path) == {"models/older": "older"}
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_what_cannot_be_written_leaves_the_older_folder_and_nothing_of_the_new_one(tmp_path: Path) -> None:
    put(tmp_path / "models", "older")
    with pytest.raises(OutputError, match="No space left"), replaced(tmp_path / "models") as part:
        (part / "new").write_text("half")
        raise OSError(28, "No space left on device")
    assert contents(tmp_path) == {"models/older": "older"}
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    put(tmp_path / "models", "older")
    put(tmp_path / ".models.old", "oldest")
    put(tmp_path / ".models.part", "half")
    with replaced(tmp_path / "models") as part:
        (part / "new").write_text("new")
    assert contents(tmp_path) == {"models/new": "new"}
