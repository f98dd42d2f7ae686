"Patches: round trip, coordinates, tiers, segments and packing; each check rejects broken variants."
import math
from itertools import groupby

import pytest
import torch
from einops import rearrange

from sora_nb import patches
from sora_nb.patches import (Grid, Segments, coordinates, pack, pack_budget, patchify,
                             unpack, unpatchify)


# patchify: bit for bit, and each token really is one block of the video

def check_patches(patchify, unpatchify):
    generator = torch.Generator().manual_seed(0)
    for size in [(1, 2, 2), (1, 1, 1), (2, 4, 2), (1, 1, 3)]:
        for t, h, w in [(1, 1, 1), (5, 4, 4), (2, 3, 5), (3, 6, 2)]:
            for dtype in (torch.float32, torch.float16, torch.uint8):
                shape = (2, 3, t * size[0], h * size[1], w * size[2])
                x = torch.randint(0, 255, shape, generator=generator).to(dtype)
                tokens = patchify(x, size)
                assert tokens.shape == (2, t * h * w, 3 * math.prod(size))
                assert torch.equal(unpatchify(tokens, Grid(t, h, w), size), x)
                block = x[1, :, -size[0]:, -size[1]:, :size[2]]  # last frame and row, column 0
                assert torch.equal(tokens[1, t * h * w - w], block.flatten())


def swapped(x, size):  # right shape on square grids, and it even inverts itself: x before y
    pt, ph, pw = size
    return rearrange(x, "... c (t pt) (h ph) (w pw) -> ... (t w h) (c pt ph pw)",
                     pt=pt, ph=ph, pw=pw)


def unswapped(tokens, grid, size):
    pt, ph, pw = size
    return rearrange(tokens, "... (t w h) (c pt ph pw) -> ... c (t pt) (h ph) (w pw)",
                     t=grid.t, h=grid.h, w=grid.w, pt=pt, ph=ph, pw=pw)


def reshaped(x, size):  # the classic: reshape without moving the axes
    grid = Grid.of(x.shape, size)
    return x.reshape(*x.shape[:-4], grid.tokens, -1)


def unreshaped(tokens, grid, size):
    pt, ph, pw = size
    return tokens.reshape(*tokens.shape[:-2], -1, grid.t * pt, grid.h * ph, grid.w * pw)


def test_patches():
    check_patches(patchify, unpatchify)
    for broken in [(swapped, unswapped), (reshaped, unreshaped), (patchify, unswapped)]:
        with pytest.raises(AssertionError):
            check_patches(*broken)


def test_gradient_and_unbatched():
    x = torch.randn(4, 2, 4, 6, requires_grad=True)
    patchify(x).square().sum().backward()
    assert torch.allclose(x.grad, 2 * x)


def test_patch_errors():
    with pytest.raises(ValueError, match="multiple of its patch"):
        patchify(torch.zeros(3, 1, 5, 4))
    with pytest.raises(ValueError, match="at least|cannot be cut"):
        Grid.of((4, 4))
    with pytest.raises(ValueError, match="do not fill"):
        unpatchify(torch.zeros(7, 12), Grid(2, 2, 2))


# coordinates: against frames and pixels counted one by one

def frames_of_row(row, frames, still):
    if still:
        return [0] if row == 0 else list(range(frames * row - frames + 1, frames * row + 1))
    return list(range(frames * row + 1, frames * row + frames + 1))


def check_coordinates(coordinates):
    for grid in (Grid(1, 1, 1), Grid(3, 4, 2), Grid(5, 3, 4)):
        for still in (True, False):
            for fps, ppu, cell in ((8.0, 32.0, (4, 16, 16)), (24.0, 48.0, (2, 8, 16))):
                got = coordinates(grid, fps=fps, pixels_per_unit=ppu, cell=cell, still=still)
                assert got.shape == (grid.tokens, 6) and got.dtype == torch.float32
                rows = iter(got)
                for k in range(grid.t):
                    frames = frames_of_row(k, cell[0], still)
                    time = [sum(frames) / len(frames) / fps, len(frames) / fps]
                    for i in range(grid.h):
                        y = ((i + 0.5) * cell[1] - grid.h * cell[1] / 2) / ppu
                        for j in range(grid.w):
                            x = ((j + 0.5) * cell[2] - grid.w * cell[2] / 2) / ppu
                            want = torch.tensor([time[0], y, x, time[1], cell[1] / ppu,
                                                 cell[2] / ppu])
                            assert torch.allclose(next(rows), want, atol=1e-6)


def check_same_view(coordinates):
    "Parts of a video, finer tiers, later starts and larger canvases share one coordinate system."
    whole = coordinates(Grid(5, 4, 4)).view(5, 4, 4, 6)
    prefix = coordinates(Grid(3, 4, 4)).view(3, 4, 4, 6)
    assert torch.equal(prefix, whole[:3])
    groups = coordinates(Grid(3, 4, 4), still=False, start=4 / 8).view(3, 4, 4, 6)
    assert torch.allclose(groups, whole[2:], atol=1e-6)
    corner = coordinates(Grid(5, 2, 2), origin=(-0.5, 0.5)).view(5, 2, 2, 6)
    assert torch.allclose(corner, whole[:, :2, 2:], atol=1e-6)
    wide = coordinates(Grid(5, 4, 6)).view(5, 4, 6, 6)  # outpainting: one more column each side
    assert torch.allclose(wide[:, :, 1:5], whole, atol=1e-6)
    fine = coordinates(Grid(1, 8, 8), pixels_per_unit=64).view(4, 2, 4, 2, 6)
    assert torch.allclose(fine.mean((1, 3))[..., 1:3], whole[0, ..., 1:3], atol=1e-6)
    assert torch.allclose(fine[..., 4:] * 2, whole[0, :, None, :, None, 4:], atol=1e-6)
    late = coordinates(Grid(1, 1, 1), start=1.5)  # a still at any time
    assert late[0, 0] == 1.5 and late[0, 3] == 0.125


def off_by_one_row(grid, **options):
    c = coordinates(grid, **options)
    c[:, 0] += options.get("cell", (4,))[0] / options.get("fps", 8.0)
    return c


def off_by_one_frame(grid, **options):
    c = coordinates(grid, **options)
    c[:, 0] += 1 / options.get("fps", 8.0)
    return c


def corners_not_centres(grid, **options):
    c = coordinates(grid, **options)
    c[:, :3] -= c[:, 3:] / 2
    return c


def y_and_x_swapped(grid, **options):
    return coordinates(grid, **options)[:, [0, 2, 1, 3, 5, 4]]


def still_is_a_group(grid, **options):  # spans of the still row like those of all other rows
    c = coordinates(grid, **options)
    c[:, 3] = c[:, 3].max()
    return c


def indices(grid, *, pixels_per_unit=32.0, **options):  # forgets the tier
    return coordinates(grid, **options)


def per_aspect(grid, **options):  # the longer side always spans [-1, 1]
    c = coordinates(grid, **options)
    c[:, [1, 2, 4, 5]] *= 4 / max(grid.h, grid.w)
    return c


def test_coordinates():
    check_coordinates(coordinates)
    check_same_view(coordinates)
    for broken in (off_by_one_row, off_by_one_frame, corners_not_centres, y_and_x_swapped,
                   still_is_a_group, indices, per_aspect):
        with pytest.raises(AssertionError):
            check_coordinates(broken)
    for broken in (indices, per_aspect):
        with pytest.raises(AssertionError):
            check_same_view(broken)


def test_base_tier_spans_minus_one_to_one():
    c = coordinates(Grid(5, 4, 4))
    assert (c[:, 1:3] - c[:, 4:] / 2).min() == -1 and (c[:, 1:3] + c[:, 4:] / 2).max() == 1
    assert c[0, 0] == 0 and c[-1, 0] == 14.5 / 8  # frame 0; frames 13..16
    with pytest.raises(ValueError, match="positive"):
        coordinates(Grid(1, 1, 1), fps=0)


# segments

def check_segments(make):
    for lengths in ([4], [3, 3, 3], [4, 4, 2, 2, 3], [4, 2, 4, 2, 3], [1, 5, 1, 1], [2, 3, 2]):
        segments, starts = make(lengths), [sum(lengths[:i]) for i in range(len(lengths))]
        x = torch.arange(sum(lengths) * 2.0).view(-1, 2)
        assert segments.total == len(x) and segments.lengths == tuple(lengths)
        assert segments.index.tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]
        assert sorted(g.length for g in segments.groups) == sorted(set(lengths))
        for group, part in zip(segments.groups, segments.take(x), strict=True):
            assert group.samples.tolist() == [i for i, n in enumerate(lengths) if n == group.length]
            rows = torch.stack([x[starts[i]:starts[i] + group.length] for i in group.samples])
            assert torch.equal(part, rows) and torch.equal(x[group.tokens], rows)
        assert torch.equal(segments.map(lambda group, part: part * 2, x), x * 2)
        assert [len(part) for part in segments.split(x)] == lengths
        shifted = segments.map(lambda group, part: part + group.samples[:, None, None], x)
        assert torch.equal(shifted, x + segments.index[:, None])


class GroupsInTheWrongOrder(Segments):
    def merge(self, parts):
        return torch.cat([part.flatten(0, 1) for part in parts])


class NeighboursOnly(Segments):  # assumes that the pack is one group
    @property
    def groups(self):
        samples = torch.arange(len(self))
        return [patches.Group(self.lengths[0], samples, torch.arange(self.total).view(
            len(self), -1))] if self.total % len(self) == 0 else super().groups[:1]


def test_segments():
    check_segments(Segments)
    check_segments(lambda lengths: Segments(lengths).to("cpu"))
    for broken in (GroupsInTheWrongOrder, NeighboursOnly):
        with pytest.raises((AssertionError, RuntimeError)):
            check_segments(broken)
    with pytest.raises(ValueError, match="at least one token"):
        Segments([3, 0])


def test_a_run_is_a_view():
    x = torch.randn(11, 3)
    for part in Segments([2, 2, 3, 4]).take(x):
        assert part.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    part = Segments([2, 3, 2]).take(x[:7])[0]
    assert part.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    assert Segments([2, 2]).map(lambda g, p: p, x[:4]).data_ptr() == x.data_ptr()


def test_pack_round_trip():
    samples = [torch.randn(n, 4) for n in (3, 1, 3, 7)]
    tokens, segments = pack(samples)
    assert tokens.shape == (14, 4) and segments == Segments([3, 1, 3, 7])
    assert all(map(torch.equal, unpack(tokens, segments), samples))
    with pytest.raises(ValueError, match="nothing to pack"):
        pack([])
    with pytest.raises(ValueError, match="do not divide"):
        unpack(tokens[1:], segments)


def test_segments_keep_gradients():
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    segments = Segments([2, 3, 2])
    y = segments.map(lambda group, part: part.cumsum(1), x)
    want = torch.cat([part.cumsum(0) for part in segments.split(x)])
    assert torch.equal(y, want)
    assert torch.autograd.gradcheck(lambda x: segments.map(lambda g, p: p.cumsum(1), x), x)


# packing

def check_packing(pack_budget):
    generator = torch.Generator().manual_seed(0)
    choices = torch.tensor([16, 48, 60, 80, 90, 144, 180, 400])
    for n in (1, 7, 200):
        lengths = choices[torch.randint(8, (n,), generator=generator)].tolist()
        packs = pack_budget(lengths, 480)
        assert sorted(i for p in packs for i in p) == list(range(n))  # each sample once
        used = [sum(lengths[i] for i in p) for p in packs]
        assert max(used) <= 480
        assert len(packs) <= 11 / 9 * math.ceil(sum(lengths) / 480) + 1
        assert packs == pack_budget(lengths, 480)
        for p in packs:  # equal lengths are neighbours
            runs = [length for length, _ in groupby(lengths[i] for i in p)]
            assert len(runs) == len(set(runs))


def one_each(lengths, budget):
    return [[i] for i in range(len(lengths))]


def forgets_the_rest(lengths, budget):
    return pack_budget(lengths, budget)[:-1]


def overflows(lengths, budget):
    return pack_budget(lengths, 2 * budget)


def in_order(lengths, budget):
    packs, room = [[]], budget
    for i, n in enumerate(lengths):
        if n > room:
            packs.append([])
            room = budget
        packs[-1].append(i)
        room -= n
    return packs


def test_packing():
    check_packing(pack_budget)
    for broken in (one_each, forgets_the_rest, overflows, in_order):
        with pytest.raises(AssertionError):
            check_packing(broken)
    assert pack_budget([], 10) == []
    with pytest.raises(ValueError, match="sample 1 has 12 tokens"):
        pack_budget([3, 12], 10)
