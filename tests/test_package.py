"""The package as a whole: what it exports, what importing it does, what it must never do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import musetalk

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "musetalk").rglob("*.py"))


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", musetalk.__all__)
def test_every_public_name_is_there_and_described(name):
    assert getattr(musetalk, name).__doc__
    assert f"`{name}" in (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_submodules_do_not_hide_functions():
    # `musetalk.inpaint` must stay the function, whatever was imported before it.
    code = "import musetalk.pipeline, musetalk; print(all(callable(getattr(musetalk, n)) for n in musetalk.__all__))"
    assert run_python(code) == "True"


def test_importing_loads_nothing_heavy():
    code = "import sys, musetalk; print([m for m in ('torch', 'cv2', 'av', 'numpy') if m in sys.modules])"
    assert run_python(code) == "[]"


def test_unknown_names_fail_as_usual():
    with pytest.raises(AttributeError, match="no attribute 'lip_sink'"):
        musetalk.lip_sink  # noqa: B018


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_engine_imports(path):
    """No host, no absolute self-import (the folder may have any name inside ComfyUI), no pickle."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 0 and n.module}
    roots = {name.split(".")[0] for name in imported}
    assert not roots & {"comfy", "folder_paths", "server", "nodes", "musetalk", "pickle", "torchvision"}


def test_requirements_agree_with_pyproject():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = project.split("dependencies = [")[1].split("]")[0]
    assert [line.strip().strip('",') for line in listed.split("\n") if line.strip()] == required
    assert not any(line.startswith("torch") for line in required)
