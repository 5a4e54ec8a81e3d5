"""The hand-overs between threads: order, back-pressure, errors with their cause, no hanging."""

import threading

import pytest

from musetalk.threads import Prefetch, Sink


def no_extra_threads(before: int) -> bool:
    return threading.active_count() == before


def test_prefetch_keeps_order_and_ends():
    before = threading.active_count()
    with Prefetch(range(100), depth=3) as items:
        assert list(items) == list(range(100))
    assert no_extra_threads(before)


def test_prefetch_runs_only_so_far_ahead():
    made = []

    def numbers():
        for i in range(100):
            made.append(i)
            yield i

    with Prefetch(numbers(), depth=2) as items:
        iterator = iter(items)
        assert next(iterator) == 0
        # The one in hand, two waiting, one held by the blocked producer.
        assert len(made) <= 4


def test_prefetch_raises_what_the_producer_raised_after_its_items():
    def numbers():
        yield 1
        raise OSError("disk is gone")

    received = []
    with pytest.raises(OSError, match="disk is gone"), Prefetch(numbers(), depth=2) as items:
        received.extend(items)
    assert received == [1]


def test_leaving_early_stops_the_producer():
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Prefetch(iter(int, 1), depth=2) as items:
        for _ in items:
            raise KeyboardInterrupt
    assert no_extra_threads(before)


def test_sink_consumes_everything_in_order():
    received = []
    with Sink(received.append, depth=2) as sink:
        for i in range(50):
            sink.put(i)
    assert received == list(range(50))


def test_sink_error_reaches_the_producer_instead_of_blocking_it():
    def consume(item):
        raise OSError(f"no space for {item}")

    with pytest.raises(OSError, match="no space for 0"), Sink(consume, depth=1) as sink:
        for i in range(50):
            sink.put(i)


def test_sink_error_on_the_last_item_is_not_lost():
    def consume(item):
        if item == 4:
            raise OSError("no space at the end")

    with pytest.raises(OSError, match="at the end"), Sink(consume, depth=10) as sink:
        for i in range(5):
            sink.put(i)


def test_sink_drops_the_rest_when_the_producer_fails():
    before = threading.active_count()
    gate = threading.Event()
    received = []

    def consume(item):
        gate.wait(5)
        received.append(item)

    with pytest.raises(KeyboardInterrupt), Sink(consume, depth=10) as sink:
        for i in range(8):
            sink.put(i)
        gate.set()
        raise KeyboardInterrupt
    assert no_extra_threads(before)
