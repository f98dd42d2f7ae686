"""Video values and files: exact in count, size and rate; bad files and bad frames are named."""
import os
import subprocess
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from sora_nb import formats
from sora_nb.files import atomic_write
from sora_nb.formats import durations, even_clock, read_frames, write_frames
from sora_nb.video import Video, display_factor, grid, strip

KINDS = (".png", ".webp", ".gif", ".mp4")


def film(count=9, height=32, width=48, seed=0):
    """Frames with a few flat colours (exact even in a GIF), all different."""
    y, x = np.mgrid[:height, :width]
    frames = np.full((count, height, width, 3), (90, 120, 150), np.uint8)
    for t, frame in enumerate(frames):
        frame[(x - 6 - 2 * t) ** 2 + (y - height // 2) ** 2 < 30] = (230, 23, 23)
    return frames


def psnr(a, b):
    return -10 * np.log10(np.mean((a / 255.0 - b / 255.0) ** 2) + 1e-10)


# files: what goes in comes out

def check_round_trip(write, read, path, frames, fps):
    back, rate, note = read(write(path, frames, fps, dict(prompt="é")))
    assert back.shape == frames.shape and back.dtype == np.uint8
    assert rate == fps and note["prompt"] == "é"
    assert psnr(back, frames) > (24 if path.suffix == ".mp4" else 99)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count, fps", [(1, 8), (2, 7), (16, 24), (17, 8), (9, 12.5), (33, 29.97)])
def test_round_trip(kind, count, fps, tmp_path):
    check_round_trip(write_frames, read_frames, tmp_path / f"x{kind}", film(count), fps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(33, 47), (16, 16), (2, 2), (1, 3)])
def test_any_size(kind, size, tmp_path):
    flat = np.full((5, *size, 3), (200, 30, 60), np.uint8)
    flat[::2] //= 2
    check_round_trip(write_frames, read_frames, tmp_path / f"x{kind}", flat, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_frames_are_not_merged(kind, tmp_path):
    waits = film(9)[[0, 0, 0, 1, 2, 2, 2, 2, 3]]
    for frames in (waits, waits[:1].repeat(17, 0)):
        check_round_trip(write_frames, read_frames, tmp_path / f"x{kind}", frames, 8)


def plain_moviepy(path, frames, fps, note={}):
    """The obvious way, which loses a frame."""
    from moviepy import ImageSequenceClip

    ImageSequenceClip(list(frames), fps=fps).write_videofile(str(path), logger=None, audio=False)
    return path


def plain_pillow(path, frames, fps, note={}):
    """The obvious way, which merges equal frames and cannot say 125 ms in a GIF."""
    from PIL import Image

    first, *rest = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=rest, duration=1000 / fps)
    return path


def wrong_rate(path):
    frames, fps, note = read_frames(path)
    return frames, round(fps), note


@pytest.mark.parametrize("write, read, kind, count, fps", [
    (plain_moviepy, read_frames, ".mp4", 16, 24), (plain_pillow, read_frames, ".gif", 9, 8),
    (plain_pillow, read_frames, ".png", 9, 8), (write_frames, wrong_rate, ".mp4", 9, 12.5),
    (lambda p, f, r, n: write_frames(p, f[:-1], r, n), read_frames, ".png", 9, 8),
    (lambda p, f, r, n: write_frames(p, f[:, :-1], r, n), read_frames, ".mp4", 9, 8),
])
def test_lossy_files_are_rejected(write, read, kind, count, fps, tmp_path):
    with pytest.raises((AssertionError, KeyError)):
        check_round_trip(write, read, tmp_path / f"x{kind}", film(count), fps)


# files from elsewhere

def test_a_foreign_gif_keeps_its_timing(tmp_path):
    path = plain_pillow(tmp_path / "x.gif", film(9)[[0, 1, 1, 1, 2, 3]], 10)
    frames, fps, note = read_frames(path)
    assert (len(frames), fps, note) == (6, 10, {})


def test_a_foreign_film_is_read(tmp_path):
    frames, fps, note = read_frames(plain_moviepy(tmp_path / "x.mp4", film(8), 8))
    assert frames.shape == (8, 32, 48, 3) and (fps, note) == (8, {})


# clocks

def check_clock(lengths):
    for fps in (7, 8, 12.5, 23.976, 30):
        for tick in (1, 10):
            ends = np.cumsum(lengths(500, fps, tick))
            assert np.abs(ends - np.arange(1, 501) * 1000 / fps).max() <= tick / 2 + 1e-6


def test_durations_do_not_drift():
    check_clock(durations)
    with pytest.raises(AssertionError):  # every frame rounded for itself
        check_clock(lambda n, fps, tick: [round(1000 / fps / tick) * tick] * n)


def test_even_clock():
    frames = film(3)
    back, fps = even_clock(frames, [0.1, 0.3, 0.1])
    assert fps == 10 and (back == frames[[0, 1, 1, 1, 2]]).all()
    still, fps = even_clock(frames[:1], [0])
    assert (len(still), fps) == (1, 8.0)


# damage

@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named(kind, tmp_path):
    path = write_frames(tmp_path / f"good{kind}", film(17), 8)
    data, bad = path.read_bytes(), tmp_path / f"bad{kind}"
    for junk in (b"", b"text", bytes(3000), *(data[: len(data) * i // 8] for i in range(1, 7))):
        bad.write_bytes(junk)
        with pytest.raises(ValueError, match=f"bad{kind}"):
            read_frames(bad)


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_never_change_the_count(kind, tmp_path):
    path = write_frames(tmp_path / f"x{kind}", film(9), 8)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(30):
        bad = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            bad[place] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        try:
            frames, _, note = read_frames(path)
        except ValueError as error:
            assert path.name in str(error)
        else:
            assert not note or len(frames) == note["frames"]


def test_missing_files_folders_and_sound(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.mp4"):
        read_frames(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="is a folder, not an ordinary file"):
        read_frames(tmp_path)
    (tmp_path / "sound.wav").write_bytes(
        b"RIFF\x64\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00"
        b"\x80\x3e\x00\x00\x02\x00\x10\x00data\x40\x00\x00\x00" + bytes(64))
    with pytest.raises(ValueError, match="no video stream"):
        read_frames(tmp_path / "sound.wav")


# all or nothing

def check_atomic(write, folder):
    path = folder / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        with write(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert path.read_text() == "old" and os.listdir(folder) == ["x.txt"]


def test_writes_are_atomic(tmp_path):
    from contextlib import nullcontext

    check_atomic(atomic_write, tmp_path)
    with pytest.raises(AssertionError):
        check_atomic(nullcontext, tmp_path)  # writing in place


def test_a_failed_save_leaves_the_old_film(tmp_path, monkeypatch):
    path = write_frames(tmp_path / "x.png", film(3), 8)
    old = path.read_bytes()

    def dies(file, *_):
        file.write_bytes(b"half")
        raise MemoryError

    monkeypatch.setattr(formats, "_write_picture", dies)
    with pytest.raises(MemoryError):
        write_frames(path, film(5), 8)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["x.png"]


def test_saved_files_have_ordinary_rights(tmp_path):
    path, plain = write_frames(tmp_path / "x.png", film(1), 8), tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_where_not_to_write(tmp_path):
    for name, message in (("x.avi", "use .mp4"), ("x", "without ending"), ("no/x.mp4", "no folder")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            write_frames(tmp_path / name, film(1), 8)
    assert os.listdir(tmp_path) == []


# the value

BAD = [film() / 255.0, film()[0], film().transpose(0, 3, 1, 2), film()[:0], film().tolist(),
       film().astype(int), torch.from_numpy(film())]


def check_door(make):
    make(film(), 8.0)
    for frames, fps in [(bad, 8.0) for bad in BAD] + [(film(), f) for f in (0, -1, float("nan"))]:
        with pytest.raises((TypeError, ValueError)) as caught:
            make(frames, fps)
        assert any(word in str(caught.value) for word in ("uint8", "[T,H,W,3]", "numpy", "fps"))


def test_bad_frames_stop_at_the_door():
    check_door(Video)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_door(lambda frames, fps: frames)


def check_tensor(to, back):
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    x = to(Video(frames))
    assert x.shape == (3, 1, 16, 16) and x.dtype == torch.float32
    assert x.min() == -1 and x.max() == 1 and (back(x).frames == frames).all()
    assert (back(x + 0.9 / 255).frames == frames).all()
    assert back(x * 2).frames.max() == 255


def test_tensors_are_exact():
    check_tensor(Video.tensor, Video.from_tensor)
    with pytest.raises(AssertionError):  # 256 levels instead of 255 steps
        check_tensor(lambda v: v.tensor() * 127.5 / 128, Video.from_tensor)
    with pytest.raises(AssertionError):  # cut instead of rounded
        check_tensor(Video.tensor, lambda x: Video.from_tensor(x - 1.2 / 255))


def test_tensors_that_make_no_video():
    with pytest.raises(ValueError, match="diverged"):
        Video.from_tensor(torch.full((3, 1, 4, 4), float("nan")))
    with pytest.raises(ValueError, match="\\[3,T,H,W\\]"):
        Video.from_tensor(torch.zeros(1, 3, 2, 4, 4))


def test_slices():
    video = Video(film(9), 8.0, latents="z", prompt="p", seed=1)
    assert len(video[2:5]) == 3 and video[2:5].latents is None and video[2:5].prompt == "p"
    assert video[:].latents == "z" and video[::2].fps == 4 and video[::-1].fps == 8
    assert (video[-1].frames[0] == video.frames[-1]).all() and len(video[0]) == 1
    assert video.seconds == 9 / 8 and (video.height, video.width) == (32, 48)
    with pytest.raises(IndexError, match="has 9"):
        video[9]
    with pytest.raises(FrozenInstanceError):
        video.fps = 3


@pytest.mark.parametrize("kind", KINDS)
def test_files_remember_the_origin(kind, tmp_path):
    video = Video(film(3), 8.0, prompt='a "red" ball; é', seed=0, checkpoint="dit@3f2a")
    again = Video.read(video.save(tmp_path / f"x{kind}"))
    assert (again.prompt, again.seed, again.checkpoint) == (video.prompt, 0, video.checkpoint)


def test_display():
    video = Video(film(4, 64, 64))
    assert video._repr_png_().count(b"fcTL") == 4 and b"acTL" not in video[0]._repr_png_()
    assert display_factor(video) == 4 and display_factor(Video(film(2, 100, 700))) == 1
    assert video.scale(3).frames.shape == (4, 192, 192, 3)


def test_moviepy_clip_has_exactly_the_frames():
    video = Video(film(7), 7.0)
    clip = video.moviepy()
    assert int(clip.duration * clip.fps) == 7
    assert all((clip.get_frame(k / 7) == video.frames[k]).all() for k in range(7))


def test_grid_and_strip():
    long, short = Video(film(9)), Video(film(4, 16, 16))
    both = grid([long, short, long], columns=2, gap=2)
    assert both.frames.shape == (9, 2 * 32 + 2, 2 * 48 + 2, 3)
    assert (both.frames[:, :32, :48] == long.frames).all()
    assert (both.frames[4:, :16, 50:66] == short.frames[-1]).all()  # holds its last frame
    assert (both.frames[:, 16:32, 50:] == 255).all()
    with pytest.raises(ValueError, match="one fps"):
        grid([long, long.replace(fps=3)])
    row = strip(long, 3)
    assert len(row) == 1 and (row.frames[0, :, -48:] == long.frames[-1]).all()
    assert strip(long[:2], 8).width == 2 * 48 + 2


def test_films_of_phones_and_odd_names(tmp_path, monkeypatch):
    """A note to turn the film is obeyed; a name with a colon is no protocol."""
    import imageio_ffmpeg  # comes with moviepy

    monkeypatch.chdir(tmp_path)
    flat = Video.read(write_frames("x.mp4", film(), 8.0))
    turned = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-display_rotation", "90",
              "-i", "x.mp4", "-c", "copy", "-map_metadata", "-1", "file:a:b.mp4"]
    subprocess.run(turned, check=True)
    video = Video.read("a:b.mp4")
    assert (video.height, video.width) == (48, 32)
    assert (video.frames == np.rot90(flat.frames, 1, (1, 2))).all()
