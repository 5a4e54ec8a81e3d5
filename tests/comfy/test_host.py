"""The host layer inside ComfyUI's own Python: sharing, streaming, precision, VAEs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def outcomes(
    outcomes_of: Callable[..., dict[str, str | None]], core_models_dir: Path, mini_models_dir: Path
) -> dict[str, str | None]:
    return outcomes_of("host_checks.py", core_models_dir, mini_models_dir)


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
