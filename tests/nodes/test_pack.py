"""What the pack promises before any node runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = ("comfy", "folder_paths", "server", "execution")


def imported(path: Path) -> set[str]:
    """First names of the absolute imports in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_only_the_host_package_speaks_to_comfyuis_machinery() -> None:
    for path in (ROOT / "nodes").rglob("*.py"):
        if path.parent.name != "host":
            assert not imported(path) & set(HOST), path


def test_the_engine_knows_nothing_of_comfyui() -> None:
    for path in (ROOT / "musetalk").rglob("*.py"):
        assert not imported(path) & {*HOST, "comfy_api", "nodes"}, path


def test_importing_the_pack_loads_nothing() -> None:
    """The door itself costs nothing: no torch, no OpenCV, no engine, whatever else is installed."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('p', {str(ROOT / '__init__.py')!r},"
        f" submodule_search_locations=[{str(ROOT)!r}])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert module.WEB_DIRECTORY == './js' and module.comfy_entrypoint\n"
        "assert not hasattr(module, 'NODE_CLASS_MAPPINGS')\n"
        "assert not {'torch', 'cv2', 'av', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
