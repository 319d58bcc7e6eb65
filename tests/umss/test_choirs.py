"""Songs are found in each layout, with the f0 that lies beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rlsv_fast.errors import InputError
from rlsv_fast.umss import (
    F0Tracks,
    Song,
    find_songs,
    read_f0,
    read_mixture_f0,
    read_singer,
    split_songs,
    write_csv,
)
from umss.choir_files import RATE, choir, quartet, stem


def one(root: Path, **options: str) -> Song:
    (song,) = find_songs(root, **options)  # type: ignore[arg-type]
    return song


def test_choral_singing_dataset(tmp_path: Path) -> None:
    choir(tmp_path / "Nino_Dios")
    song = one(tmp_path)
    assert song.name == "Nino_Dios" and song.voices == "satb" and song.sample_rate == RATE
    assert [[singer.number for singer in found] for found in song.singers.values()] == [[1, 2]] * 4
    assert song.singer("t", 2).name == "nino_tenor2-06-2"
    assert one(tmp_path, layout="csd") == song == one(tmp_path / "Nino_Dios")
    assert one(tmp_path / "Nino_Dios" / "audio_16kHz").name == "Nino_Dios"
    with pytest.raises(InputError, match="no singer 4 of voice 'a', there are 1, 2"):
        song.singer("a", 4)


@pytest.mark.parametrize(
    "words", [("soprano", "alto", "tenor", "bass"), ("Soprano", "ContraAlt", "Tenor", "Bajos")]
)
def test_titles_side_by_side(tmp_path: Path, words: tuple[str, ...]) -> None:
    for title in ("CSD_ER", "CSD_LI"):
        for letter, word in zip("satb", words, strict=True):
            for number in (1, 3):
                stem(tmp_path / f"{title}_{word}_{number}.wav", letter, 0.1, f0=False)
    songs = find_songs(tmp_path)
    assert [song.name for song in songs] == ["csd_er", "csd_li"]
    assert [s.number for s in songs[1].singers["b"]] == [1, 3]


def test_chorales_and_quartets(tmp_path: Path) -> None:
    names = ["1_BC001_part1", "2_BC002_part1", "8_BC008_part1", "10_BC010_part2", "10_BC010_part10"]
    for name in [*names, "17_BC021_part11"]:
        quartet(tmp_path / "BC" / "audio_16kHz", f"{name}_{{}}_1ch.wav", 0.1, f0=False)
    quartet(tmp_path / "BQ" / "audio_16kHz", "9_BQ062_part3_{}_1ch.wav", 0.1, f0=False)
    songs = find_songs(tmp_path)
    assert [song.name for song in songs] == [
        *names[:3], "9_BQ062_part3", *names[3:], "17_BC021_part11"
    ]  # fmt: skip
    assert all(song.voices == "satb" for song in songs)
    training, validation = split_songs(songs)
    assert [song.name for song in training] == [*names[:2], *names[3:]]
    assert [song.name for song in validation] == ["8_BC008_part1", "9_BQ062_part3"]
    training, validation = split_songs(songs, one_song=True)
    assert [s.name for s in training] == names[:1] and [s.name for s in validation] == names[1:2]


def test_cantoria(tmp_path: Path) -> None:
    for name in ("CEA", "EJB1"):
        quartet(tmp_path / name / "audio_16kHz", f"Cantoria_{name}_{{}}.wav", 0.1, f0=False)
    songs = find_songs(tmp_path)
    assert [song.name for song in songs] == ["CEA", "EJB1"]
    assert songs[0].singer("b", 1).audio.name == "Cantoria_CEA_b.wav"


@pytest.mark.parametrize(
    ("names", "voices"),
    [
        (["my bass", "first Alto", "soprano", "the_tenor"], "satb"),
        (["take_b", "take_s"], "sb"),
        (["anna", "bert", "carl"], "sat"),
        (["a song 1", "a song 2"], "sa"),
        (["soprano", "tenor", "unknown"], "sat"),
    ],
)
def test_any_folder_of_stems(tmp_path: Path, names: list[str], voices: str) -> None:
    for name in [*names, "mixture"]:
        stem(tmp_path / "song" / f"{name}.wav", "s", 0.1, f0=False)
    song = one(tmp_path)
    assert song.name == "song" and song.voices == voices
    if voices == "satb":
        assert [found[0].name for found in song.singers.values()] == [
            "soprano", "first Alto", "the_tenor", "my bass"
        ]  # fmt: skip
    elif voices != "sb":
        assert [found[0].name for found in song.singers.values()] == names


def test_what_is_no_set_of_songs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_songs(tmp_path / "none")
    with pytest.raises(InputError, match="no songs found"):
        find_songs(tmp_path)
    with pytest.raises(ValueError, match="layout must be"):
        find_songs(tmp_path, "musdb")  # type: ignore[arg-type]
    for name in "vwxyz":
        stem(tmp_path / "song" / f"{name}{name}.wav", "s", 0.1, f0=False)
    with pytest.raises(InputError, match="5 stems whose names do not tell"):
        find_songs(tmp_path)
    with pytest.raises(InputError, match=r"vv\.wav: not a name of layout 'csd'"):
        find_songs(tmp_path, "csd")
    other = tmp_path / "b"
    stem(other / "x_Soprano_104.wav", "s", 0.1, f0=False)
    stem(other / "x_Soprano_105.wav", "s", 0.1, f0=False)
    with pytest.raises(InputError, match="both singer 1 of voice 's'"):
        find_songs(other)
    quartet(tmp_path / "c" / "one" / "same", seconds=0.1, f0=False)
    quartet(tmp_path / "c" / "two" / "same", seconds=0.1, f0=False)
    with pytest.raises(InputError, match="both hold song 'same'"):
        find_songs(tmp_path / "c")
    quartet(tmp_path / "e", "1_BC001_part1_{}_1ch.wav", 0.1, f0=False)
    stem(tmp_path / "e" / "s.wav", "s", 0.1, f0=False)
    with pytest.raises(InputError, match=r"s\.wav: not a name of layout 'bcbq', as others"):
        find_songs(tmp_path / "e")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "s.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"s\.wav: cannot be read as audio"):
        find_songs(tmp_path / "d")


def crepe(audio: Path) -> None:
    folder = audio.parent.parent / "crepe_f0_center"
    folder.mkdir()
    values = {"time": [0, 0.016, 0.032], "frequency": [400, 401, 402], "confidence": [1, 0.39, 0.4]}
    for kind, column in values.items():
        np.save(folder / f"{audio.stem}_{kind}.npy", np.array(column, float))


def table(ending: str) -> Callable[[Path], None]:
    def write(audio: Path) -> None:
        times = 0.016 * (np.arange(3) + 0.5)
        frequency = np.array([[400.0], [0.0], [402.0]])
        write_csv(F0Tracks(times, frequency, ("voice",)), audio.with_name(audio.stem + ending))

    return write


def crepe_table(audio: Path) -> None:
    text = "time,frequency,confidence\n0.008,400,0.9\n0.024,401,0.1\n0.04,402,0.5\n"
    audio.with_suffix(".csv").write_text(text)


@pytest.mark.parametrize(
    "write",
    [
        crepe,
        table("_f0.csv"),
        table(".f0.csv"),
        table(".csv"),
        crepe_table,
        lambda audio: np.save(audio.with_suffix(".npy"), np.float32([400, 0, 402])),
        lambda audio: np.savez(audio.with_suffix(".npz"), f0=np.float32([[400], [0], [402]])),
    ],
)
def test_f0_of_a_singer(tmp_path: Path, write: Callable[[Path], None]) -> None:
    audio = tmp_path / "song" / "audio_16kHz" / "s.wav"
    stem(audio, "s", 0.1, f0=False)
    write(audio)
    tracks = read_f0(one(tmp_path).singer("s", 1))
    np.testing.assert_allclose(tracks.time, [0.008, 0.024, 0.040], atol=1e-6)
    np.testing.assert_array_equal(tracks.frequency, [[400], [0], [402]])


def test_crepe_on_another_grid_keeps_its_times(tmp_path: Path) -> None:
    audio = tmp_path / "song" / "audio_16kHz" / "s.wav"
    stem(audio, "s", 0.1, f0=False)
    crepe(audio)
    path = tmp_path / "song" / "crepe_f0_center" / "s_time.npy"
    np.save(path, np.array([0, 0.01, 0.02]))
    np.testing.assert_array_equal(read_f0(one(tmp_path).singer("s", 1)).time, [0, 0.01, 0.02])
    np.save(path, np.array([0, 0.02, 0.01]))
    with pytest.raises(InputError, match=r"s_time\.npy: times must ascend"):
        read_f0(one(tmp_path).singer("s", 1))
    np.save(path, np.array([0, 0.01]))
    with pytest.raises(InputError, match="differ in length"):
        read_f0(one(tmp_path).singer("s", 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([100.0, -1.0]), "negative or not finite"),
        (np.array([100.0, np.nan]), "negative or not finite"),
        (np.zeros((3, 2)), r"shape \(3, 2\), expected \(frames, 1\)"),
        (np.zeros(0), r"shape \(0, 1\)"),
        (np.array(100.0), r"shape \(\)"),
        (np.array(["a"]), "expected numbers"),
        (np.array([{"a": 1}], dtype=object), "cannot be read as NumPy's arrays"),
    ],
)
def test_f0_that_is_none(tmp_path: Path, values: np.ndarray, message: str) -> None:
    stem(tmp_path / "s.wav", "s", 0.1, f0=False)
    np.save(tmp_path / "s.npy", values, allow_pickle=True)
    with pytest.raises(InputError, match=r"s\.npy: .*" + message):
        read_f0(one(tmp_path).singer("s", 1))


def test_f0_that_is_missing_or_torn(tmp_path: Path) -> None:
    stem(tmp_path / "s.wav", "s", 0.1, f0=False)
    with pytest.raises(InputError, match=r"s\.wav: has no f0; expected .*s_f0\.csv.*umss f0"):
        read_f0(one(tmp_path).singer("s", 1))
    (tmp_path / "s.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match=r"s\.npz: cannot be read"):
        read_f0(one(tmp_path).singer("s", 1))
    np.savez(tmp_path / "s.npz", a=np.zeros(2), b=np.zeros(2))
    with pytest.raises(InputError, match="holds 2 arrays"):
        read_f0(one(tmp_path).singer("s", 1))


def test_f0_of_mixtures(tmp_path: Path) -> None:
    folder = choir(tmp_path / "Nino_Dios")
    song = one(tmp_path)
    found = read_mixture_f0(song, 4)
    assert len(found) == 16
    tracks = found[("s", 2), ("a", 1), ("t", 1), ("b", 2)]
    np.testing.assert_array_equal(tracks.frequency[0], [420, 310, 210, 140])
    assert tracks.time[:2] == pytest.approx([0.008, 0.024])
    with pytest.raises(InputError, match="no f0 of mixtures of 2 of its singers"):
        read_mixture_f0(song, 2)

    # lowest voice first, as another program may have sorted them; and a singer without audio
    pair = {"x_Bos_104_Sno_105": [1.0, 2.0], "x_Bos_104_Sno_905": [3.0, 4.0]}
    np.savez(folder / "Nino_Dios_2sources.npz", **{k: np.array([v]) for k, v in pair.items()})
    ((singers, tracks),) = read_mixture_f0(one(tmp_path), 2).items()
    assert singers == (("s", 1), ("b", 1))
    np.testing.assert_array_equal(tracks.frequency, [[2, 1]])

    np.savez(folder / "Nino_Dios_2sources.npz", nobody=np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"array 'nobody' does not name 2 singers"):
        read_mixture_f0(one(tmp_path), 2)


def test_f0_of_a_mixture_as_a_table(tmp_path: Path) -> None:
    quartet(tmp_path / "song", seconds=0.1, f0=False)
    names = ("bass", "tenor", "alto", "soprano")
    tracks = F0Tracks(np.array([0.0, 0.01]), np.array([[1.0, 2, 3, 4]] * 2), names)
    write_csv(tracks, tmp_path / "song" / "song_f0.csv")
    ((singers, found),) = read_mixture_f0(one(tmp_path), 4).items()
    assert singers == (("s", 1), ("a", 1), ("t", 1), ("b", 1))
    np.testing.assert_array_equal(found.frequency[0], [4, 3, 2, 1])
    # names that say nothing: as they come
    write_csv(F0Tracks(tracks.time, tracks.frequency, tuple("wxyz")), tmp_path / "song/song_f0.csv")
    (found,) = read_mixture_f0(one(tmp_path), 4).values()
    np.testing.assert_array_equal(found.frequency[0], [1, 2, 3, 4])


def test_audio_comes_at_the_rate_asked_for(tmp_path: Path) -> None:
    time = np.arange(8000) / 32000
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros(8000)], 1)
    soundfile.write(tmp_path / "s.wav", stereo, 32000, subtype="FLOAT")
    samples = read_singer(one(tmp_path).singer("s", 1), RATE)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / RATE)
    assert samples.dtype == np.float32 and samples.shape == (4000,)
    assert np.abs(samples - expected)[500:-500].max() < 1e-3
