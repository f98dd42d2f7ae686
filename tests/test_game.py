"Rules, player, levels, film, facts, words and reader of the mini game, and broken ones of each."
import re
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pytest

from sora_nb.probes import witness
from sora_nb.probes.arcade import GameReading, guess_game, read_game
from sora_nb.probes.fidelity import reconstruct
from sora_nb.probes.parsers import read
from sora_nb.probes.referee import Fault, faults
from sora_nb.probes.shapes import spoil
from sora_nb.probes.witness import KNOWN, is_game, verdicts
from sora_nb.vae import VideoVAE
from sora_nb.video import Video
from sora_nb.world.board import COIN, ENEMY, PLAYER
from sora_nb.world.facts import COUNT_NAMES, Fact
from sora_nb.world.film import film
from sora_nb.world.game import (ACTIONS, beside, coins_return, commands, floor, legal_moves, play,
                                policy, policy_moves, random_policy, start, step, timed, walls_open)
from sora_nb.world.game_facts import game_facts
from sora_nb.world.game_words import GAME_WRITERS, write_game
from sora_nb.world.levels import (HELD_OUT_GAMES, ODD_WALLS, WALLS, connected, game, grid_shape,
                                  make_level)
from sora_nb.world.optics import project, tier
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.scenes import LIGHTS, TONES, Action, Level, Scene
from sora_nb.world.words import GAME_WORDS, WORDS, Caption, says

SIZES = ((64, 64), (96, 48), (48, 96), (80, 48), (48, 80), (48, 48), (128, 64))
SPLITS = ("train", "iid", "combo", "ood")
LANE = Level(("#######", "#P.o.E#", "#.....#", "#######"))


def rejects(check, *variants):
    "The check fails on each broken variant."
    for variant in variants:
        with pytest.raises(AssertionError):
            check(variant)


def scene_of(i, split="train", size=None, frames=17):
    rng = np.random.default_rng((i, SPLITS.index(split)))
    return game(rng, size or SIZES[i % len(SIZES)], frames, split)


def random_games(n=60, steps=12):
    "Levels with an enemy mostly, and actions of a player without a plan."
    for i in range(n):
        rng = np.random.default_rng((5, i))
        level = make_level(rng, ((8, 8), (6, 10))[i % 2], 3, i % 4 > 0, WALLS)
        yield level, [random_policy(level, start(level), rng) for _ in range(steps)]


# --- rules ------------------------------------------------------------------------------------


def check_walls(step):
    "The player is never in a wall, goes where it is told when that is free, and stays otherwise."
    for level, names in random_games():
        states = play(level, names, step)
        for a, b, name in zip(states, states[1:], names):
            there = beside(a.player, ACTIONS[name])
            assert b.player == (there if there in floor(level) and not a.caught else a.player)


def check_coins(step):
    "A coin vanishes when it is touched, then only, and for ever."
    for level, names in random_games():
        states = play(level, names, step)
        for a, b in zip(states, states[1:]):
            assert b.coins == (a.coins if b.caught else a.coins - {b.player})


def check_patrol(step):
    "The enemy moves every step, turns only at walls, and depends on nobody."
    for level, names in random_games():
        states, others = play(level, names, step), play(level, ["stay"] * 12, step)
        for a, b, c in zip(states, states[1:], others[1:]):
            if a.enemy is None or a.caught:
                continue
            assert b.enemy in floor(level) and b.enemy == c.enemy or c.caught
            straight = beside(a.enemy, a.heading)
            back = beside(a.enemy, (-a.heading[0], -a.heading[1]))
            assert b.enemy == (straight if straight in floor(level) else back)


def check_end(step):
    "Meeting and swapping end the game, nothing else does, and nothing moves afterwards."
    ends = 0
    for level, names in random_games(200):
        states = play(level, names, step)
        for a, b in zip(states, states[1:]):
            met = b.enemy is not None and (b.player == b.enemy
                                           or (a.player, a.enemy) == (b.enemy, b.player))
            assert b.caught == (met or a.caught) and (b == a or not a.caught)
        ends += states[-1].caught
    assert ends > 5
    swap = replace(start(LANE), player=(1, 4), heading=(0, -1))
    assert step(LANE, swap, "right").caught


def immortal(level, state, action):
    return replace(step(level, state, action), caught=False)


def fickle(level, state, action):
    "Broken: coins vanish by themselves."
    after = step(level, state, action)
    return replace(after, coins=frozenset(sorted(after.coins)[1:]))


def greedy(level, state, action):
    "Broken: the coins of two cells are taken at once."
    after = step(level, state, action)
    return replace(after, coins=after.coins - {beside(after.player, (0, 1))})


def ghost(level, state, action):
    "Broken: the enemy walks through walls."
    after = step(level, state, action)
    if state.enemy is None or after.caught:
        return after
    return replace(after, enemy=beside(state.enemy, state.heading), heading=state.heading)


def sleepy(level, state, action):
    "Broken: the enemy stands still."
    return replace(step(level, state, action), enemy=state.enemy, heading=state.heading)


def passers(level, state, action):
    "Broken: the two may swap cells."
    after = step(level, state, action)
    return after if after.player == after.enemy else replace(after, caught=state.caught)


def restless(level, state, action):
    "Broken: the game goes on when it is over."
    after = step(level, replace(state, caught=False), action)
    return replace(after, caught=after.caught or state.caught)


@pytest.mark.parametrize("check, broken", [
    (check_walls, [walls_open]), (check_coins, [coins_return, fickle, greedy]),
    (check_patrol, [ghost, sleepy]), (check_end, [immortal, passers, restless])])
def test_rules(check, broken):
    check(step)
    rejects(check, *broken)


def test_an_unknown_action_is_refused():
    with pytest.raises(ValueError, match="action 'jump' is not known; choose one of"):
        step(LANE, start(LANE), "jump")


def test_commands_are_timed():
    names = ["left", "up", "up", "stay"]
    assert commands(timed(names)) == names and commands((), 3) == ["stay"] * 3
    assert commands([Action("up", 0.5, 1.5)], 4) == ["stay", "up", "up", "stay"]
    assert play(LANE, names) == play(LANE, timed(names)) and len(play(LANE, [])) == 1


# --- the player -------------------------------------------------------------------------------


def plays(who, n=150, steps=16):
    "(level, states, actions) of games that a policy plays."
    for i in range(n):
        rng, level = np.random.default_rng((6, i)), scene_of(i, size=(64, 64)).level
        states, names = [start(level)], []
        for _ in range(steps):
            names.append(who(level, states[-1], rng))
            states.append(step(level, states[-1], names[-1]))
        yield level, states, names


def check_careful(who):
    "Never into a wall, and never into the enemy's arms when there is another way."
    for level, states, names in plays(who):
        for a, b, name in zip(states, states[1:], names):
            assert name in legal_moves(level, a)
            assert not b.caught or a.caught or all(step(level, a, m).caught
                                                   for m in legal_moves(level, a))


def check_diligent(who):
    "In 16 steps, four coins of five."
    ends = [(len(s[0].coins), len(s[-1].coins)) for _, s, _ in plays(who)]
    assert 1 - sum(b for _, b in ends) / sum(a for a, _ in ends) > 0.8


def check_whims(who):
    "Most moves follow the plan, but not all."
    match = [name in policy_moves(level, s) for level, states, names in plays(who, 60)
             for s, name in zip(states, names) if not s.caught and s.coins]
    assert 0.85 < np.mean(match) < 0.97


def careless(level, state, rng):
    return policy(level, state, rng, careful=False)


def pedant(level, state, rng):
    return sorted(policy_moves(level, state))[0]


def lazy(level, state, rng):
    return "stay"


@pytest.mark.parametrize("check, broken", [
    (check_careful, [careless, random_policy]), (check_diligent, [random_policy, lazy]),
    (check_whims, [random_policy, pedant])])
def test_policy(check, broken):
    check(policy)
    rejects(check, *broken)


# --- levels -----------------------------------------------------------------------------------


def check_fair(scene_of):
    "Connected, walled in, no coin in the enemy's lane, nobody starts beside it, colours apart."
    for split in SPLITS:
        for i in range(100):
            level = scene_of(i, split).level
            begin, cells = start(level), set(floor(level))
            rim = {*level.rows[0], *level.rows[-1], *(r[k] for r in level.rows for k in (0, -1))}
            assert connected(cells) and rim == {"#"} and 2 <= len(begin.coins) <= 4
            assert level.player != level.enemy and "yellow" not in (level.player, level.enemy)
            if begin.enemy:
                beat = {s.enemy for s in play(level, ["stay"] * 20)}
                assert len(beat) >= 3 and not beat & (begin.coins | {begin.player})


def crowded(i, split):
    "Broken: the enemy starts anywhere on the floor."
    scene = scene_of(i, split)
    rows = [row.replace("E", ".").replace("V", ".") for row in scene.level.rows]
    k = next(k for k, row in enumerate(rows) if "o" in row)
    rows[k] = rows[k].replace("o", "E", 1)
    return scene.replace(level=scene.level.replace(rows=tuple(rows)))


def torn(i, split):
    "Broken: a wall through the middle."
    scene = scene_of(i, split)
    rows = list(scene.level.rows)
    rows[len(rows) // 2] = "#" * len(rows[0])
    rows[1] = rows[1][:1] + "P" + rows[1][2:].replace("P", ".")
    rows = [rows[0], rows[1], *(row.replace("P", ".") for row in rows[2:])]
    return scene.replace(level=Level(tuple(rows), scene.level.player, scene.level.enemy))


def test_levels():
    check_fair(scene_of)
    rejects(check_fair, crowded, torn)


def secret(scene):
    coins = sum(row.count("o") for row in scene.level.rows)
    return (scene.level.player, coins, scene.light) in HELD_OUT_GAMES


def check_secret(scene_of, n=10_000):
    "n games without a held-out combination."
    assert not any(secret(scene_of(i)) for i in range(n))


def test_training_never_sees_a_held_out_game():
    check_secret(lambda i: scene_of(i, "train", (48, 48), 1))
    check_secret(lambda i: scene_of(i, "iid"), 500)
    rejects(check_secret, lambda i: scene_of(i, "train" if i % 500 else "combo", (48, 48), 1))
    combos = [scene_of(i, "combo") for i in range(200)]
    assert all(map(secret, combos)) and len({(s.level.player, s.light) for s in combos}) == 6


def test_ood_levels_are_odd_and_no_others():
    for split in SPLITS:
        for i in range(60):
            inside = [row[1:-1] for row in scene_of(i, split, (64, 64)).level.rows[1:-1]]
            share = sum(row.count("#") for row in inside) / 36
            usual = WALLS[0] - 0.02 < share < WALLS[1] + 0.02
            odd = any(a - 0.03 < share < b + 0.03 for a, b in ODD_WALLS.values())
            assert (odd and not usual) if split == "ood" else (usual and not odd), (split, share)


def test_the_family_is_pure_and_varied():
    for i in range(10):
        scene = scene_of(i)
        assert scene == scene_of(i) != scene_of(i + 10)
        assert Scene.from_dict(scene.to_dict()) == scene and scene.family == "game"
    scenes = [scene_of(i) for i in range(150)]
    assert {s.light for s in scenes} == set(LIGHTS)
    assert {s.ground.tone for s in scenes} == set(TONES)
    guarded = np.mean([start(s.level).enemy is not None for s in scenes])
    caught = np.mean([play(s.level, s.actions)[-1].caught for s in scenes])
    assert 0.4 < guarded < 0.6 and 0.03 < caught < 0.15
    assert [len(scene_of(0, frames=n).actions) for n in (1, 9, 17, 33)] == [0, 2, 4, 8]


@pytest.mark.parametrize("size", [*SIZES, (64, 96), (96, 96), (128, 128)])
def test_every_size_has_its_grid(size):
    scene = scene_of(3, size=size)
    rows = scene.level.rows
    assert (len(rows), len(rows[0])) == grid_shape(size, tier(*size))
    assert render(scene).video.frames.shape == (17, *size, 3)


def test_impossible_levels():
    with pytest.raises(ValueError, match="shows 3 x 3 cells .* use a larger one"):
        scene_of(0, size=(16, 16))
    with pytest.raises(ValueError, match="found no room for 9 coins .* fewer walls or coins"):
        make_level(np.random.default_rng(0), (5, 5), 9, False, (0.0, 0.0))


# --- film -------------------------------------------------------------------------------------


def check_positions(film):
    "Frame 4k shows state k; between, nobody jumps; masks lie where the camera projects."
    for i in range(21):
        scene = scene_of(i)
        states = play(scene.level, scene.actions)
        _, truth = film(scene, scene.size, np.arange(17) / 8)
        shape = np.array([len(scene.level.rows), len(scene.level.rows[0])])
        xy = truth["positions"][..., :2]
        cells = np.stack([-xy[..., 1], xy[..., 0]], -1) / 0.25 + shape / 2 - 0.5
        assert np.abs(np.diff(cells, axis=0)).max() <= 0.25 + 1e-9
        seen = project(truth["positions"], truth["eye"], truth["rotation"], scene.size,
                       scene.pixels_per_unit)
        for k, state in enumerate(states):
            assert np.allclose(cells[4 * k, 0], state.player)
            mask = np.argwhere(truth["ids"][4 * k] == PLAYER)
            assert state.caught == (len(mask) == 0) == (truth["visible"][4 * k, 0] == 0)
            if len(mask):
                assert np.abs(mask.mean(0) + 0.5 - seen[4 * k, 0, :2]).max() < 0.5
            if state.enemy:
                assert np.allclose(cells[4 * k, 1], state.enemy)
                assert (truth["ids"][4 * k] == ENEMY).any()
            assert (truth["ids"][4 * k] == COIN).any() == bool(state.coins)


def late(scene, size, times, states=None):
    "Broken: a frame late."
    return film(scene, size, np.maximum(times - 1 / 8, 0), states)


def mirrored(scene, size, times, states=None):
    "Broken: up is down in the truth."
    frames, truth = film(scene, size, times, states)
    return frames, truth | {"positions": truth["positions"] * [1, -1, 1]}


def choppy(scene, size, times, states=None):
    "Broken: everybody jumps from cell to cell."
    return film(scene, size, np.floor(np.asarray(times) * 2 + 1e-9) / 2, states)


def test_film():
    check_positions(film)
    rejects(check_positions, late, mirrored, choppy)


def test_render_films_games():
    scene = scene_of(0)
    clip, again = render(scene), render(scene)
    assert (clip.video.frames == again.video.frames).all() and clip.actions == scene.actions
    assert np.isinf(clip.truth.depth).all() and clip.truth.focal == pytest.approx(77.25, abs=0.01)
    assert clip.truth.positions.shape[:2] == clip.truth.visible.shape
    longer, slow = render(scene, frames=41), render(scene, frames=33, fps=16)
    assert (longer.video.frames[:17] == clip.video.frames).all()
    last = play(scene.level, scene.actions)[-1]
    places = longer.truth.positions[16:, 0]
    assert (places == places[0]).all() and not last.caught
    assert (slow.video.frames[::2] == clip.video.frames).all()
    larger = render(scene, (96, 80)).video.frames[:, 16:80, 8:72].astype(int)
    assert np.abs(larger - clip.video.frames).max() <= 1


def test_the_last_frame_of_a_group_does_not_know_the_next_action():
    level = Level(("#######", "#.....#", "#.P...#", "#..o..#", "#######"))
    clips = [render(Scene(level=level, actions=timed(["right", name]), size=(40, 56)))
             for name in ("up", "down", "stay", "left")]
    for clip in clips[1:]:
        assert (clip.video.frames[:5] == clips[0].video.frames[:5]).all()
        assert (clip.video.frames[5] != clips[0].video.frames[5]).any()


# --- facts and words --------------------------------------------------------------------------


def check_facts(game_facts):
    "Moves, coins and ending are those of the rules, at their times."
    for i in range(150):
        scene = scene_of(i, SPLITS[i % 4], frames=(17, 33, 9)[i % 3])
        states, facts = play(scene.level, scene.actions), game_facts(scene)
        of = {f.kind: f.value for f in facts}
        moves = {f.start: f.value for f in facts if f.kind == "move"}
        for k, (a, b) in enumerate(zip(states, states[1:])):
            name = moves.get(k / 2)
            assert (name is None) == b.caught
            assert name is None or beside(a.player, ACTIONS[name]) == b.player
        assert of["coins"] == COUNT_NAMES[len(states[0].coins)] and of["light"] == scene.light
        assert of["collected"] == COUNT_NAMES[len(states[0].coins) - len(states[-1].coins)]
        assert of["enemy"] == (scene.level.enemy if states[0].enemy else "none")
        assert of.get("fate") == (None if of["enemy"] == "none" else
                                  "caught" if states[-1].caught else "safe")
        ends = [f.stop for f in facts if f.kind == "fate" and f.stop]
        assert ends == [next(k for k, s in enumerate(states) if s.caught) / 2
                        for _ in range(states[-1].caught)]


def commanded(scene):
    "Broken: the facts are the actions, also those of a player who is gone."
    moves = [Fact("move", a.name, start=a.start, stop=a.end) for a in scene.actions]
    return [f for f in game_facts(scene) if f.kind != "move"] + moves


def hasty(scene):
    "Broken: a step early."
    return [f._replace(start=f.start - 0.5) if f.kind == "move" else f for f in game_facts(scene)]


def test_facts():
    check_facts(game_facts)
    rejects(check_facts, commanded, hasty)
    blocked = Scene(level=LANE, actions=timed(["left", "up", "right"]), frames=13)
    assert [f.value for f in game_facts(blocked) if f.kind == "move"] == ["stay", "stay"]
    assert game_facts(Scene()) == []


TABLE = {**WORDS, **GAME_WORDS}
CLAIMED = ("domain", "player", "enemy", "coins", "collected", "fate", "light")


@lru_cache
def records(n=150):
    return [tuple(game_facts(scene_of(i, SPLITS[i % 4], frames=(17, 33, 1)[i % 3])))
            for i in range(n)]


def captions(write):
    for i, facts in enumerate(records()):
        for style in GAME_WRITERS:
            yield facts, style, write(facts, style, np.random.default_rng((i, 1)))


def check_truthful(write):
    "Every stated fact is true, once, and has its words in the text."
    for facts, _, c in captions(write):
        assert set(c.facts) <= set(facts) and len(set(c.facts)) == len(c.facts)
        assert all(any(says(c.text, w) for w in TABLE[f.kind][f.value]) for f in c.facts), c


def check_claimed(write):
    "Every phrase in the text belongs to a stated fact."
    for _, _, c in captions(write):
        said = {(kind, value) for kind in CLAIMED for value, words in TABLE[kind].items()
                if any(says(c.text, w) for w in words)}
        assert said <= {(f.kind, f.value) for f in c.facts}, c


def check_amounts(write):
    "Short: one or two facts; medium: at least four; descriptive: all."
    for facts, style, c in captions(write):
        n = len(c.facts)
        assert {"short": 1 <= n <= 2, "medium": n >= 4, "descriptive": n == len(facts)}[style], c


def check_english(write):
    "Lower case, right articles, no loose ends."
    for _, _, c in captions(write):
        assert c.text == c.text.lower().strip() and "  " not in c.text and c.text[-1].isalpha()
        words = c.text.replace(",", "").replace(";", "").split()
        for a, b in zip(words, words[1:]):
            assert a not in ("a", "an") or (a == "an") == (b[0] in "aeiou"), c


def lying(facts, style, rng):
    "Broken: believes in other colours, counts and moves."
    swap = dict(player="orange", coins="two", move="up", collected="one", light="day")
    return write_game(tuple(f._replace(value=swap.get(f.kind, f.value)) for f in facts), style, rng)


def boastful(facts, style, rng):
    "Broken: claims everything."
    return Caption(write_game(facts, style, rng).text, facts)


def chatty(facts, style, rng):
    "Broken: says what it does not state."
    c = write_game(facts, style, rng)
    return Caption(c.text + " and  an cobalt player gets away,", c.facts)


@pytest.mark.parametrize("check, broken", [
    (check_truthful, [lying, boastful]), (check_claimed, [chatty]),
    (check_amounts, [boastful]), (check_english, [chatty])])
def test_captions(check, broken):
    check(write_game)
    rejects(check, *broken)


def test_game_words():
    for kind, values in GAME_WORDS.items():
        phrases = sum(values.values(), ())
        assert len(set(phrases)) == len(phrases), kind
    rng = np.random.default_rng(0)
    used = " ".join(write_game(facts, style, rng).text for _ in range(4) for facts in records()
                    for style in GAME_WRITERS)
    phrases = (p for values in GAME_WORDS.values() for words in values.values() for p in words)
    assert {w for p in phrases for w in p.split()} <= set(re.findall(r"\w+", used))
    with pytest.raises(ValueError, match="choose one of"):
        write_game(records()[0], "long", np.random.default_rng(0))
    with pytest.raises(ValueError, match="not those of a game"):
        write_game((), "short", np.random.default_rng(0))


# --- the reader -------------------------------------------------------------------------------


@lru_cache
def clips(n):
    "n games of all sizes, lights and splits."
    return [render(scene_of(i, SPLITS[i % 4], frames=(17, 17, 33)[i % 3])) for i in range(n)]


def blurred(video):
    return Video(spoil(video.frames, np.random.default_rng(0), 0.6, 0.02), video.fps)


def check_reader(read, n=42):
    "At least 97 % of every kind of fact, sharp and spoiled; no faults in real games."
    right = {}
    for clip in clips(n):
        for bad in (False, True):
            reading, real = read(blurred(clip.video) if bad else clip.video), game_facts(clip.scene)
            facts = reading.facts() if reading else []
            for kind in {f.kind for f in real}:
                same = [[f for f in fs if f.kind == kind] for fs in (facts, real)]
                right.setdefault((kind, bad), []).append(same[0] == same[1])
            right.setdefault(("legal", bad), []).append(bool(reading) and not faults(reading))
    marks = {key: np.mean(values) for key, values in right.items()}
    assert min(marks.values()) >= 0.97, marks


def impatient(video):
    "Broken: reads the second frame of each step."
    return read_game(Video(video.frames[2:], video.fps))


def swapped(video):
    "Broken: red and blue are mixed up."
    return read_game(Video(video.frames[..., ::-1].copy(), video.fps))


def test_reader():
    check_reader(read_game)
    rejects(partial(check_reader, n=14), impatient, swapped)


def test_other_families_are_no_games():
    world = World(0, families=["attributes", "camera", "image", "periodic"])
    assert not any(read_game(render(world.scene(i)).video) for i in range(40))
    noise = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    for frames in (noise, np.zeros((1, 64, 64, 3), np.uint8), noise[:, :16, :16].copy()):
        assert read_game(Video(frames)) is None


HALL = Level(("########",
              "#o.#...#",
              "#..#.o.#",
              "#P.#...#",
              "#..#...#",
              "#.o....#",
              "#...E..#",
              "########"), "blue", "red")
LEGAL = play(HALL, ["right", "up", "up", "stay"])


def tampered(k, **changes):
    return LEGAL[:k] + [replace(s, **changes) for s in LEGAL[k:]]


BROKEN = {
    "wall": play(HALL, ["right", "right", "right", "up"], walls_open),
    "jump": tampered(2, player=(2, 5)),
    "coin new": play(HALL, ["down", "down", "right", "left"], coins_return),
    "coin lost": tampered(3, coins=frozenset({(5, 2)})),
    "enemy": tampered(3, enemy=(6, 7)),
    "gone": tampered(2, caught=True)}


def check_referee(faults):
    "Silent for a legal game, and the right whistle first for each broken one, in every light."
    for light in LIGHTS:
        scene = Scene(level=HALL, light=light)
        for kind, states in {"": LEGAL, **BROKEN}.items():
            video = Video(film(scene, (64, 64), np.arange(17) / 8, states)[0])
            for seen in (video, blurred(video)):
                assert [f.kind for f in faults(read_game(seen))][:1] == [kind] * bool(kind)


def lenient(reading):
    "Broken: looks at the player only."
    return [f for f in faults(reading) if f.kind in ("wall", "jump", "gone")]


def strict(reading):
    "Broken: never content."
    return faults(reading) or [Fault("jump", 0)]


def test_the_referee():
    check_referee(faults)
    rejects(check_referee, lenient, strict, lambda reading: [])


# --- who is asked -------------------------------------------------------------------------------

@lru_cache
def shown(n=2):
    "Clips of every family as they are, blurred and noisy, and drawn by the autoencoder; all facts."
    vae, rng, found = VideoVAE.from_pretrained("vae"), np.random.default_rng(0), []
    for family in KNOWN:
        for i in range(n):
            clip = World(11, "iid", [family])[i]
            noisy = clip.video.replace(frames=spoil(clip.video.frames, rng, 0.6, 0.02))
            for video in (clip.video, noisy, *reconstruct(vae, [clip.video])):
                found.append((family, video.replace(pixels_per_unit=clip.scene.pixels_per_unit),
                              clip.facts))
    return found


def check_who_decides(testify):
    "Whether a game is seen, frames decide and not facts; where none is asked for or seen, all is false."
    asked = {family: facts for family, _, facts in shown()}
    for family, video, facts in shown():
        others = ("attributes", "bite") if family == "game" else ("game",)
        for facts in (facts, *(asked[other] for other in others)):
            seen = testify(video, facts)
            assert isinstance(seen, GameReading) == (family == "game"), family
            if ("domain" in {f.kind for f in facts}) != (family == "game"):
                assert not any(true for _, true in verdicts(seen, facts)), family


def test_frames_decide_whether_it_is_a_game():
    check_who_decides(witness.testify)

    def told(video, facts):                     # as it was: the facts choose the reader
        return read_game(video) if is_game(facts) else read(video)

    def always(video, facts):                   # every picture is a game
        found = guess_game(video)
        return found and found[0]

    for broken in (told, always):
        with pytest.raises((AssertionError, TypeError)):
            check_who_decides(broken)
