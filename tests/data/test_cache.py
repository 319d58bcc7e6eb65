from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rlsv_fast.data import cache as cache_module
from rlsv_fast.data import default_cache, find_tracks, load_track, prepare_tracks
from rlsv_fast.errors import InputError

RATE = 8000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        folder = tmp_path / "data" / "train" / name
        folder.mkdir(parents=True)
        for stem in ("vocals", "mixture", "drums"):
            soundfile.write(str(folder / f"{stem}.wav"), rng.uniform(-0.5, 0.5, 3000), RATE)
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tracks that were decoded."""
    names: list[str] = []

    def counting(track, *args, **options):  # type: ignore[no-untyped-def]
        names.append(track.name)
        return load_track(track, *args, **options)

    monkeypatch.setattr(cache_module, "load_track", counting)
    return names


def test_second_call_decodes_nothing(root: Path, tmp_path: Path, decoded: list[str]) -> None:
    tracks = find_tracks(root, "train")
    calls: list[tuple[int, int, str]] = []
    first = prepare_tracks(tracks, RATE, tmp_path / "cache", progress=lambda *c: calls.append(c))
    assert sorted(decoded) == ["a", "b", "c"]
    assert calls == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    decoded.clear()
    second = prepare_tracks(tracks, RATE, tmp_path / "cache")
    assert decoded == []
    for track, one, two in zip(tracks, first, second, strict=True):
        audio = load_track(track, RATE)
        assert one.name == two.name == track.name
        assert len(one) == 3000
        for name in ("mixture", "voice", "accompaniment"):
            rows = getattr(two, name)
            assert isinstance(rows, np.memmap)
            assert not rows.flags.writeable
            np.testing.assert_array_equal(rows, getattr(audio, name))
    assert len(list((tmp_path / "cache").iterdir())) == 3  # and no temporary file


def test_what_matters_makes_another_entry(root: Path, tmp_path: Path, decoded: list[str]) -> None:
    cache = tmp_path / "cache"
    tracks = find_tracks(root, "train")[:1]
    stems = prepare_tracks(tracks, RATE, cache)[0]
    difference = prepare_tracks(tracks, RATE, cache, accompaniment="difference")[0]
    assert len(decoded) == 2
    assert not np.array_equal(stems.accompaniment, difference.accompaniment)
    vocals = tracks[0].path / "vocals.wav"
    soundfile.write(str(vocals), np.full(3000, 0.25), RATE)
    os.utime(vocals, ns=(0, 12345))
    changed = prepare_tracks(tracks, RATE, cache)[0]
    assert len(decoded) == 3
    np.testing.assert_allclose(changed.voice, 0.25, atol=1e-4)


@pytest.mark.parametrize("damage", ["short", "empty", "foreign"])
def test_torn_entry_is_rebuilt(root: Path, tmp_path: Path, decoded: list[str], damage: str) -> None:
    cache = tmp_path / "cache"
    tracks = find_tracks(root, "train")[:1]
    expected = np.array(prepare_tracks(tracks, RATE, cache)[0].voice)
    (entry,) = cache.glob("*.npy")
    content = entry.read_bytes()
    entry.write_bytes({"short": content[:-100], "empty": b"", "foreign": b"x" * 999}[damage])
    decoded.clear()
    (track,) = prepare_tracks(tracks, RATE, cache)
    assert decoded == ["a"]
    np.testing.assert_array_equal(track.voice, expected)


def test_others_can_read_a_shared_cache(root: Path, tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        prepare_tracks(find_tracks(root, "train"), RATE, tmp_path / "cache")
    finally:
        os.umask(former)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "cache").iterdir()}
    assert modes == {0o640}


def test_failed_write_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(InputError, match="No space left.*RLSV_FAST_CACHE"):
        prepare_tracks(find_tracks(root, "train"), RATE, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_old_leftovers_are_removed(root: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "cache/old.tmp", tmp_path / "cache/new.tmp"
    old.parent.mkdir()
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    prepare_tracks(find_tracks(root, "train"), RATE, tmp_path / "cache")
    assert not old.exists()
    assert new.exists()


def test_concurrent_preparation(root: Path, tmp_path: Path) -> None:
    tracks = find_tracks(root, "train")
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda _: prepare_tracks(tracks, RATE, tmp_path / "cache"), range(8))
        )
    for prepared in results:
        for one, other in zip(prepared, results[0], strict=True):
            np.testing.assert_array_equal(one.mixture, other.mixture)


def test_bad_track_and_bad_cache(root: Path, tmp_path: Path) -> None:
    (root / "train/b/vocals.wav").write_bytes(b"")
    tracks = find_tracks(root, "train")
    with pytest.raises(InputError, match="vocals.wav: empty file"):
        prepare_tracks(tracks, RATE, tmp_path / "cache")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match="file: cannot write the cache"):
        prepare_tracks(tracks[:1], RATE, file)


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLSV_FAST_CACHE", "/one")
    assert default_cache() == Path("/one")
    monkeypatch.delenv("RLSV_FAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert default_cache() == Path("/two/rlsv_fast")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "rlsv_fast"
