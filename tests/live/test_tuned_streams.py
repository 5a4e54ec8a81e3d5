"""What a machine can do is found out when its networks are there, and not before they are wanted."""

from __future__ import annotations

import logging
import threading
from fractions import Fraction

import numpy as np
import pytest
import torch

from musetalk.errors import Cancelled, InputError
from musetalk.live.streaming import FeatureStream
from musetalk.live.tuned_streams import TunedStreams

CPU = torch.device("cpu")
SECOND = np.zeros(16000, np.float32)


def trial() -> threading.Thread | None:
    return next((thread for thread in threading.enumerate() if thread.name == "musetalk-live-trial"), None)


def end_of_trial() -> None:
    running = trial()
    if running is not None:
        running.join(60)
        assert not running.is_alive()


def hop_of(stream: FeatureStream) -> int:
    """Frames that come together after the first."""
    stream.feed(SECOND)
    hops: list[int] = []
    while (encoder_input := stream.prepare()) is not None:
        steps = 1500 if encoder_input.thinned is None else len(encoder_input.thinned.wanted)
        hops.append(len(stream.accept(encoder_input, torch.zeros(steps, 3, 16))))
    return hops[1]


def is_thinned(stream: FeatureStream) -> bool:
    stream.feed(SECOND)
    encoder_input = stream.prepare()
    assert encoder_input is not None
    return encoder_input.thinned is not None


class Tried:
    """In place of `tune`: sessions want hops of one frame. Counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models: list[object] = []
        monkeypatch.setattr("musetalk.live.tuned_streams.tune", self)

    def __call__(self, models):
        from musetalk.live.tuning import Tuning

        self.models.append(models)
        return Tuning(True, 1, 0.0, 0.0)


def test_networks_that_are_there_are_tried_at_once(tiny_models):
    streams = TunedStreams(tiny_models, Fraction(25), lambda: 1)
    streams.session_begins()
    assert trial() is None
    assert is_thinned(streams.make()) and len(streams.make().push(SECOND)) > 10


def test_networks_that_a_function_brings_are_tried_beside_the_first_session_and_only_once(tiny_models, monkeypatch):
    tried, asked, may_come = Tried(monkeypatch), [], threading.Event()

    def bring():
        asked.append(threading.current_thread().name)
        may_come.wait(60)
        return tiny_models

    streams = TunedStreams(bring, Fraction(25), lambda: 1, CPU)
    assert hop_of(streams.make()) == 2 and is_thinned(streams.make()) and asked == []
    for _ in range(3):
        streams.session_begins()  # the networks have not come: nobody waits for them
    assert hop_of(streams.make()) == 2
    may_come.set()
    end_of_trial()
    streams.session_begins()
    end_of_trial()
    assert hop_of(streams.make()) == 1 and asked == ["musetalk-live-trial"] and tried.models == [tiny_models]


def test_streams_of_a_function_leave_the_encoder_to_the_worker(tiny_models):
    streams = TunedStreams(lambda: tiny_models, Fraction(25), lambda: 1, CPU)
    for _ in range(2):
        with pytest.raises(InputError, match="no models"):
            streams.make().push(SECOND)
        streams.session_begins()
        end_of_trial()


def test_a_gpus_features_are_not_thinned():
    assert not is_thinned(TunedStreams(pytest.fail, Fraction(25), lambda: 1, None).make())
    assert not is_thinned(TunedStreams(pytest.fail, Fraction(25), lambda: 1, torch.device("cuda")).make())


@pytest.mark.parametrize(("error", "told"), [(RuntimeError("no room"), True), (Cancelled("closed"), False)])
def test_a_trial_that_fails_is_told_and_made_again_for_the_next_session(tiny_models, monkeypatch, caplog, error, told):
    tried, errors = Tried(monkeypatch), [error]

    def bring():
        if errors:
            raise errors.pop()
        return tiny_models

    caplog.set_level(logging.WARNING)
    streams = TunedStreams(bring, Fraction(25), lambda: 1, CPU)
    streams.session_begins()
    end_of_trial()
    assert hop_of(streams.make()) == 2 and ("no room" in caplog.text) == told and not tried.models
    streams.session_begins()
    end_of_trial()
    assert hop_of(streams.make()) == 1
