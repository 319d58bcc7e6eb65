"""Random excerpts: what belongs together stays together, and an epoch can be resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from rlsv_fast.errors import InputError
from rlsv_fast.umss import ExcerptStore, F0Tracks, find_songs
from umss.choir_files import PITCHES, RATE, choir, quartet, stem

close = torch.testing.assert_close
N = 4096


def pitch_of(signal: torch.Tensor) -> float:
    """Hz of the strongest partial, to about 2 Hz."""
    spectrum = torch.fft.rfft(signal * torch.hann_window(len(signal)), 8 * len(signal)).abs()
    return float(spectrum.argmax()) * RATE / (8 * len(signal))


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return choir(tmp_path / "Nino_Dios", seconds=1.5)


@pytest.mark.parametrize("f0", ["singers", "mixture"])
def test_excerpts_are_of_their_f0(song: Path, f0: str, device: str) -> None:
    store = ExcerptStore(find_songs(song), length=N, passes=6, f0=f0, device=device)  # type: ignore[arg-type]
    assert len(store) == 6 and store.batches(4) == 2
    seen = set()
    for batch in store.epoch(4, seed=0, epoch=0):
        mixture, sources, tracks = (part.cpu() for part in batch)
        assert mixture.shape == (4, N) and sources.shape == (4, 4, N) and tracks.shape == (4, 4, 16)
        close(mixture, sources.sum(1), rtol=0, atol=1e-6)
        close(mixture.abs().amax(1), torch.ones(4))
        for voices, pitches in zip(sources, tracks, strict=True):
            assert (pitches == pitches[:, :1]).all()
            seen.add(tuple(pitches[:, 0].tolist()))
            for voice, pitch in zip(voices, pitches[:, 0], strict=True):
                assert abs(pitch_of(voice) - float(pitch)) < 3
    assert len(seen) > 2  # singers are drawn


def test_an_epoch_depends_on_its_numbers_alone(song: Path) -> None:
    store = ExcerptStore(find_songs(song), length=N, passes=10)
    whole = list(store.epoch(4, seed=1, epoch=2))
    assert len(whole) == 3 and all(len(batch.mixture) == 4 for batch in whole)
    resumed = list(store.epoch(4, seed=1, epoch=2, start_batch=1, rows=slice(1, 3)))
    for before, after in zip(whole[1:], resumed, strict=True):
        for one, other in zip(before, after, strict=True):
            assert torch.equal(one[1:3], other)
    again = list(ExcerptStore(find_songs(song), length=N, passes=10).order(4, seed=1, epoch=2))
    assert again == list(store.order(4, seed=1, epoch=2))
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert list(store.order(4, **other)) != again
    places = [place for batch in again for place in batch]
    assert len(set(places)) == 12  # what fills the last batch is new, too
    assert all(place.start % 256 == 0 and place.start + N <= 1.5 * RATE for place in places)


def test_fewer_voices_are_drawn_too(song: Path) -> None:
    store = ExcerptStore(find_songs(song), voices=2, length=N, passes=40, singers=(2,))
    places = [place for batch in store.order(40, seed=0, epoch=0) for place in batch]
    assert {number for place in places for _, number in place.singers} == {2}
    pairs = {"".join(voice for voice, _ in place.singers) for place in places}
    assert pairs == {"sa", "st", "sb", "at", "ab", "tb"}
    batch = store.gather(places[:3])
    assert batch.sources.shape == (3, 2, N)


def test_context_lies_around_the_excerpt(tmp_path: Path) -> None:
    stem(tmp_path / "s.wav", "s", 1.0)
    frames = 63
    np.save(tmp_path / "s.npy", np.arange(1.0, frames + 1))
    plain = ExcerptStore(find_songs(tmp_path), voices=1, length=1000)
    wide = ExcerptStore(find_songs(tmp_path), voices=1, length=1000, context=2)
    places = plain.grid()
    assert [place.start for place in places] == list(range(0, 15001, 1000))[: len(places)]
    on_grid = [places[0]._replace(start=start) for start in (0, 5120, 14848)]
    f0, padded = plain.gather(on_grid).f0[:, 0], wide.gather(on_grid).f0[:, 0]
    assert f0.tolist() == [[1, 2, 3, 4], [21, 22, 23, 24], [59, 60, 61, 62]]
    assert padded[0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    assert padded[2].tolist() == [57, 58, 59, 60, 61, 62, 63, 0]
    close(padded[:, 2:-2], f0)


def test_the_grid_of_a_song(song: Path) -> None:
    store = ExcerptStore(find_songs(song), length=N)
    first = (("s", 1), ("a", 1), ("t", 1), ("b", 1))
    assert store.grid() == [(0, first, start) for start in range(0, 24000 - N + 1, N)]
    assert store.grid(1) == store.grid()[1:]
    assert len(ExcerptStore(find_songs(song), length=N, voices=2).grid()) == 6 * len(store.grid())
    mixed = ExcerptStore(find_songs(song), length=N, f0="mixture", singers=(2,))
    assert {place.singers for place in mixed.grid()} == {(("s", 2), ("a", 2), ("t", 2), ("b", 2))}


def test_silence_is_not_drawn(tmp_path: Path) -> None:
    quartet(tmp_path / "song", seconds=2.0)
    for voice in "satb":
        path = tmp_path / "song" / f"{voice}.wav"
        samples, _ = soundfile.read(path)
        samples[8000:] = 0
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    store = ExcerptStore(find_songs(tmp_path), length=N, passes=50)
    places = [place for batch in store.order(50, seed=0, epoch=0) for place in batch]
    assert max(place.start for place in places) < 8000
    assert [place.start for place in store.grid()] == [0, N]


def test_songs_that_cannot_be_used(tmp_path: Path) -> None:
    quartet(tmp_path / "good", seconds=1.0)
    quartet(tmp_path / "short", seconds=0.1)
    stem(tmp_path / "solo" / "s.wav", "s", 1.0)
    quartet(tmp_path / "silent", seconds=1.0)
    for voice in "satb":
        soundfile.write(tmp_path / "silent" / f"{voice}.wav", np.zeros(RATE), RATE)
    store = ExcerptStore(find_songs(tmp_path), length=N)
    assert [song.name for song in store.songs] == ["good"]
    assert store.skipped == ["short", "silent", "solo"]
    assert len(store) == 1  # one for 2.5 s
    with pytest.raises(InputError, match="none of 4 song.s. has 4 voices of singers .9,."):
        ExcerptStore(find_songs(tmp_path), length=N, singers=(9,))


def test_f0_must_be_there_and_long_enough(tmp_path: Path) -> None:
    quartet(tmp_path / "song", seconds=1.0)
    songs = find_songs(tmp_path)
    with pytest.raises(InputError, match="no f0 of mixtures of 4"):
        ExcerptStore(songs, length=N, f0="mixture")
    np.save(tmp_path / "song" / "b.npy", np.full(40, 100.0))
    with pytest.raises(InputError, match=r"b\.npy: ends after 0\.6 s of 1\.0 s"):
        ExcerptStore(songs, length=N)
    (tmp_path / "song" / "b.npy").unlink()
    with pytest.raises(InputError, match=r"b\.wav: has no f0"):
        ExcerptStore(find_songs(tmp_path), length=N)


def test_without_f0(tmp_path: Path) -> None:
    plain, known = tmp_path / "plain", tmp_path / "known"
    quartet(plain / "song", f0=False)
    quartet(known / "song")
    store, other = (
        ExcerptStore(find_songs(folder), length=N, f0=f0)
        for folder, f0 in ((plain, "none"), (known, "singers"))
    )
    batch = next(store.epoch(3, seed=0, epoch=0))
    assert batch.f0.shape == (3, 4, 0)
    same = next(other.epoch(3, seed=0, epoch=0))
    assert torch.equal(batch.sources, same.sources) and same.f0.shape == (3, 4, -(-N // 256))


def test_given_tracks(tmp_path: Path) -> None:
    quartet(tmp_path / "song", seconds=1.0, f0=False)
    songs = find_songs(tmp_path)
    times = np.arange(101) / 100
    tracks = F0Tracks(times, np.tile(list(PITCHES.values()), (101, 1)), tuple("satb"))
    store = ExcerptStore(songs, length=N, f0={"song": tracks})
    assert store.gather(store.grid()).f0[0, :, 0].tolist() == list(PITCHES.values())
    empty = F0Tracks(times[:0], tracks.frequency[:0], tracks.voices)
    with pytest.raises(InputError, match="song 'song'.*: holds no frames"):
        ExcerptStore(songs, length=N, f0={"song": empty})
    with pytest.raises(InputError, match="tracks of 1 voices, expected 4"):
        ExcerptStore(songs, length=N, f0={"song": F0Tracks(times, tracks.frequency[:, :1], ("s",))})
    with pytest.raises(InputError, match="tracks of the mixture of 4 voices are needed"):
        ExcerptStore(songs, length=N, f0={"another": tracks})


def test_arguments_out_of_range(song: Path) -> None:
    songs = find_songs(song)
    for wrong in ({"voices": 0}, {"hop": 0}, {"length": 100}, {"passes": 0}, {"context": -1}):
        with pytest.raises(ValueError, match=f"ExcerptStore: {next(iter(wrong))} must be"):
            ExcerptStore(songs, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="f0 must be"):
        ExcerptStore(songs, f0="crepe")  # type: ignore[arg-type]
    store = ExcerptStore(songs, length=N)
    with pytest.raises(InputError, match="must be at least 0, got -1, 0, 0"):
        list(store.epoch(1, seed=-1, epoch=0))
