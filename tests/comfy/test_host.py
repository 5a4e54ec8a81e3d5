"""The host layer inside ComfyUI's own Python: sharing, streaming, precision, VAEs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("host_checks.py")


@pytest.fixture(scope="module")
def outcomes(
    comfy_root: Path,
    comfy_python: str,
    core_models_dir: Path,
    mini_models_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str | None]:
    base = tmp_path_factory.mktemp("host")
    (base / "custom_nodes").mkdir()
    result = subprocess.run(
        [comfy_python, str(SCRIPT), str(core_models_dir), str(mini_models_dir), "--base-directory", str(base)],
        env={**os.environ, "PYTHONPATH": str(comfy_root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "check",
    [
        "same_file_is_one_network",
        "streamed_weights_compute_the_same",
        "face_networks_stream_and_compute_the_same",
        "evicted_by_another_pack_and_back_computes_the_same",
        "half_precision_weights_compute_where_the_device_can",
        "foreign_vaes_are_refused",
        "core_vae_encodes_as_the_engines",
        "sizes_that_core_cannot_have_run_in_a_core_vae",
        "the_included_model_is_found_when_nothing_else_is",
        "sockets_of_different_models_are_refused",
    ],
)
def test_host(check: str, outcomes: dict[str, str | None]) -> None:
    assert outcomes[check] is None, outcomes[check]
