"""The cache: its limit holds, the least recently used goes, what is in use stays."""

import pytest

from musetalk.live.cache import ByteCache, CacheFullError, InUseError


@pytest.fixture
def cache():
    cache = ByteCache(100, "shelf")
    for key in "abc":
        cache.put(key, key.upper(), 30)
    return cache


def test_the_least_recently_used_leaves(cache):
    assert cache.get("a") == "A"
    cache.put("d", "D", 30)
    assert "b" not in cache and all(key in cache for key in "acd")
    assert cache.size == 90 and cache.evictions == 1


def test_what_is_in_use_stays(cache):
    assert cache.pin("a") == "A" and cache.pin("zzz") is None
    cache.put("d", "D", 60)
    assert "a" in cache and len(cache) == 2
    with pytest.raises(InUseError):
        cache.remove("a")
    with pytest.raises(CacheFullError, match="shelf"):
        cache.put("e", "E", 80)
    assert "d" in cache
    cache.unpin("a")
    cache.put("e", "E", 80)
    assert "e" in cache and len(cache) == 1


def test_releasing_twice_is_a_mistake(cache):
    cache.pin("a")
    cache.unpin("a")
    with pytest.raises(KeyError):
        cache.unpin("a")


def test_looking_is_not_using(cache):
    assert cache.peek("a") == "A" and cache.peek("zzz") is None
    cache.put("d", "D", 30)
    assert "a" not in cache


def test_replacing_frees_the_old_value_first(cache):
    cache.put("a", "new", 40)
    assert cache.get("a") == "new" and cache.size == 100 and cache.evictions == 0
