"""Known words that say nothing together: what newcomers type, and what they are told.

Checks take the function to check, so that the broken variants meet the same ones."""
import re
from functools import lru_cache

import pytest

from sora_nb import lexicon, sense as senses
from sora_nb.checkpoints import locate_checkpoint, read_card
from sora_nb.company import COMPANY, UNSAID, VOCABULARY, alone, company, ours
from sora_nb.lexicon import Understood, understand
from sora_nb.pieces import Piece, tidy
from sora_nb.plain import clean, words_of
from sora_nb.sense import RULES
from sora_nb.typos import foreign
from sora_nb.world.captions import caption_corpus
from sora_nb.world.mixture import FAMILIES
from sora_nb.world.sampler import World

KNOWN = frozenset(read_card(locate_checkpoint("dit"))["words"])
FOLDER = KNOWN | {"dog", "park"}                        # whose captions may say anything


@lru_cache
def captions():
    "2,000 of the mixture, and some of every family in every style."
    every = [World(9, families=[name]).describe(i)[1].values() for name in FAMILIES
             for i in range(10)]
    return [*caption_corpus(2000, seed=12), *(c.text for some in every for c in some)]


def rejects(check, *variants):
    "The check fails on each broken variant."
    for variant in variants:
        with pytest.raises((AssertionError, KeyError)):
            check(variant)


# --- prompts, what is read, and words that the notices are about ------------------------------------
SENSE = {
    # places that the world does not have, and their nearest
    "a red ball on top of a blue cube": ("a red ball and a blue cube", {"on top of"}),
    "a red ball above a blue cube": ("a red ball and a blue cube", {"above"}),
    "a red ball in the box": ("a red ball and the box", {"in"}),
    "a ball rolls toward a cube": ("a ball rolls and a cube", {"toward"}),
    "a cube with a ball on it": ("a cube with a ball", {"on it"}),
    "a ball bounces off a wall": ("a ball bounces and a wall", {"off"}),
    "a red ball surrounded by three blue cubes": ("a red ball and three blue cube",
                                                  {"by", "cubes", "surrounded"}),
    # relations in other words
    "a red ball hidden by a blue wall": ("a red ball behind a blue wall", {"hidden by"}),
    "a ball is hidden by a cube": ("a ball is behind a cube", {"is hidden by"}),
    "a wall hides a ball": ("a wall is in front of a ball", {"hides a"}),
    "the ball is closer than the cube": ("the ball is in front of the cube", {"closer than"}),
    "a ball on the left, a cube on the right": ("a ball at the left, a cube at the right",
                                                {"on the left", "on the right"}),
    "a ball on the left of a cube": ("a ball on the left of a cube", set()),
    "a ball at the left of the screen": ("a ball at the left", {"of the screen"}),
    "a ball in the top left corner": ("a ball at the left and high up", {"in the top left corner"}),
    # shades, and colours that a thing cannot have
    "a dark blue cube": ("a blue cube", {"dark"}), "a dark-blue cube": ("a blue cube", {"dark"}),
    "a light green cone": ("a green cone", {"light"}), "a pale cone": ("a cone", {"pale"}),
    "a cube in the dark": ("a cube in the dark", set()),
    "a white sphere": ("a sphere", {"white"}), "the cube is white": ("the cube", {"is white"}),
    "a white canvas": ("a white canvas", set()), "a red canvas": ("a canvas", {"red"}),
    "a grey cube on gray ground": ("a cube on gray ground", {"grey"}),
    "a mossy ball": ("a green ball", {"mossy"}), "red ground": ("ground", {"red"}),
    "a checkered ball": ("a ball", {"checkered"}), "a big wall": ("a wall", {"big"}),
    "the ground is gray and red balls roll": ("the ground is gray and red ball rolls",
                                              {"balls", "roll"}),
    # one thing, one colour
    "a red and blue ball": ("a red ball", {"and blue"}),
    "red and blue balls": ("red ball and blue ball", {"and", "balls"}),
    "a red ball and a blue cube": ("a red ball and a blue cube", set()),
    # nothing changes, and only the camera turns
    "a ball turns red": ("a ball", {"turns red"}), "a ball gets bigger": ("a ball", {"gets bigger"}),
    "a ball changes from red to blue": ("a ball", {"changes from red to blue"}),
    "a cone turns into a cube": ("a cone", {"turns into a cube"}),
    "the player gets two golden coins": ("the player gets two golden coins", set()),
    "a ball orbits a cube": ("a ball and a cube", {"orbits"}),
    "a cube rotates": ("a cube", {"rotates"}), "a cone, tilt up": ("a cone", {"tilt up"}),
    "zoom in on a ball and pan left": ("dollies in on a ball and pans left", {"zoom in", "pan"}),
    "a ball spins to the left": ("a ball", {"spins to the left"}),
    # numbers that count nothing
    "2 red balls": ("two red ball", {"2", "balls"}), "a ball at 3 am": ("a ball", {"3", "am"}),
    "1. a red ball 2. a blue cube": ("a red ball. a blue cube", {"1 2"}),
    "(red ball:1.3)": ("red ball", {"1 3"}),
    # denials
    "0 cubes and a ball": ("a ball", {"0 cubes"}), "zero cubes": ("", {"zero cubes"}),
    "a ball rather than a cube": ("a ball", {"rather than a cube"}),
    "a ball, exclude cubes": ("a ball", {"exclude cubes"}),
    "a ball excluding cubes": ("a ball", {"excluding cubes"}),
    "a ball, never mind the cube": ("a ball", {"never mind the cube"}),
    "a ball minus the cube": ("a ball", {"minus the cube"}),
    "anything but a cube, a ball": ("a ball", {"anything but a cube"}),
    "a cube-free scene": ("scene", {"no cube"}), "a cube free scene": ("scene", {"a cube free"}),
    "a ball, cubes excluded": ("a ball", {"cubes excluded"}),
    "nothing but a red cone": ("a red cone", {"nothing but"}),
    "not only a ball but also a cube": ("a ball and a cube", {"but also", "not only"}),
    # one word or two
    "an anti-clockwise circle": ("an anticlockwise circle", set()),
    "redball": ("red ball", set()), "a ball began to roll": ("a ball rolls", {"began to roll"}),
    # the camera, shots, lights
    "an aerial view of a cube": ("a view from above of a cube", {"aerial view"}),
    "a bird's-eye view": ("a view from above", {"bird s eye view"}),
    "static shot of a cube": ("the camera stays fixed of a cube", {"static shot"}),
    "a long red tube": ("a red tube", {"long"}), "a very big ball": ("a big ball", {"very"}),
    "a ball in the evening": ("a ball at sunset", {"in the evening"}),
    "can you show a ball": ("a ball", {"can you show"})}


def check_sense(understand):
    for prompt, (text, told) in SENSE.items():
        read = understand(prompt, KNOWN)
        assert read.text == text, (prompt, read)
        words = {n.word for n in read.notices if "read like an empty" not in n.message}
        assert words == told, (prompt, words)


def before(prompt, known):
    "As it was: words are looked up one by one, and none looks around."
    return understand(prompt, FOLDER)


def in_silence(prompt, known):
    return Understood(understand(prompt, known).text)


def without(rule):
    "The reader without one of its rules."
    def understood(prompt, known):
        reader = lexicon.Reader(known)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(senses, "RULES", tuple(r for r in RULES if r is not rule))
            return reader.read(prompt)
    return understood


def test_sense():
    check_sense(understand)
    rejects(check_sense, before, in_silence)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_is_needed(rule):
    rejects(check_sense, without(rule))


# --- captions, and somebody else's captions, never lose anything ------------------------------------
def pieces_of(text):
    return [Piece(word, word, "known", "count" if word.isdigit() else "noun")
            for word in re.findall(r"[^\s.,;:]+|[.,;:]", text)]


def check_rule(rule):
    for text in captions():
        assert list(rule(pieces_of(text), VOCABULARY)) == pieces_of(text), text


def hasty_looks(pieces, known):
    "Broken: the next noun is always meant, as far away as it may be."
    nouns = ["ball", "cube", "box"]
    return [p for i, p in enumerate(pieces)
            if not (p.read in ("gray", "tan") and any(q.read in nouns for q in pieces[i:]))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_touches_a_caption(rule):
    check_rule(rule)


def test_a_hasty_rule_is_noticed():
    rejects(check_rule, hasty_looks, lambda pieces, known: [p for p in pieces if p.read != "light"])


def check_company(company):
    "Words that need company have it in every caption, and nobody says what is not said."
    friends = company(VOCABULARY)
    assert friends.keys() == COMPANY.keys()
    for text in captions():
        assert not alone(re.findall(r"[^\s.,;:]+|[.,;:]", text), friends), text
        for phrase in UNSAID:
            assert not re.search(rf"\b{phrase}\b(?! of)", text) or phrase.endswith(" of"), text


def without_a_phrase(known):
    "Broken: forgets that things are seen from above."
    return {**company(known), "above": (("high", "above"),)}


def test_company():
    assert ours(VOCABULARY) and ours(KNOWN) and not ours(FOLDER) and not ours(frozenset())
    used = {word for text in captions() for word in words_of(text)}
    assert used <= VOCABULARY, f"add them to AROUND of lesson 06aa: {sorted(used - VOCABULARY)}"
    check_company(company)
    rejects(check_company, without_a_phrase, lambda known: {})


def check_foreign_captions(understand):
    "Who has read other captions has read of other worlds: known words stay."
    for prompt in ("a white dog on a dark box", "a red and blue ball over a cube",
                   "a ball turns red", "a ball on the left", "a cube spins to the left"):
        words = FOLDER | lexicon.lexicon([prompt])
        assert understand(prompt, words) == Understood(prompt)


def test_foreign_captions():
    check_foreign_captions(understand)
    rejects(check_foreign_captions, lambda prompt, known: understand(prompt, KNOWN))


# --- characters that nobody sees ---------------------------------------------------------------------
UNSEEN = {"red\u200bball": "red ball", "b\u200ball": "ball", "red\ufeffball": "red ball",
          "a\u2060red ball": "a red ball", "cyl\u00adin\u00adder": "cylinder", "re\u200dd": "red",
          "bl\u200cue": "blue", "with\u200bout a cube, a ball": "a ball", "red\u3164ball": "red ball",
          "\ufeffa ball": "a ball", "a ball \u200b at night": "a ball at night",
          "anti\u2010clockwise": "anticlockwise", "a\u00a0ball": "a ball", "no\u200bcube": ""}


def check_unseen(understand):
    assert {prompt: understand(prompt, KNOWN).text for prompt in UNSEEN} == UNSEEN


def test_unseen_characters():
    check_unseen(understand)
    rejects(check_unseen,
            lambda p, known: understand(re.sub("[\u00ad\u200b-\u200d\u2060\ufeff]", "", p), known),
            lambda p, known: understand(re.sub("[\u00ad\u200b-\u200d\u2060\ufeff]", " ", p), known))
    assert clean("red\u200bball")[0] == "red-ball" and clean("\u200bred\u200b ball")[0] == "red ball"


# --- slips, and true words that are none --------------------------------------------------------------
TRUE = """feel wanted done wants gave world lost mother other eyes till felt calling write late though
cold lots taught bother list possibly fair plane writing caused nose concerned tape riding joined loss
firm series farm roof gate serial laws capture link lake bath strip root eager flame toys hike wait
enter greek fame beard gaze overheard palace plate""".split()


def check_true_words(mend):
    changed = {word: mend([word], 0) for word in TRUE if mend([word], 0) not in (word, word[:-1])}
    assert not changed, changed


def test_true_words_are_no_slips():
    reader = lexicon.reader(KNOWN)
    check_true_words(reader.mend)
    rejects(check_true_words, lambda words, i: (reader.speller.near(words[i]) + [words[i]])[0])


def check_languages(foreign):
    for text in ("eine rote kugel rollt nach links", "une balle rouge et un cube", "слон", "赤い",
                 "una pelota roja y un cubo en la noche"):
        assert foreign(text.split()), text
    for text in ("a rde bal rols to teh left", "", "a cône", *captions()[:300]):
        assert not foreign(text.split()), text


def test_other_languages():
    check_languages(foreign)
    rejects(check_languages, lambda words: False, lambda words: "un" in words or not words[:1])
    read = understand("Eine rote Kugel rollt nach links", KNOWN)
    assert read.text == "" and any("not look like English" in n.message for n in read.notices)
    assert not any("look like English" in n.message for n in understand("a bal", KNOWN).notices)


# --- newcomers ---------------------------------------------------------------------------------------
NEWCOMERS = """pls make a big red ball go boing boing boing!!!
my dog eats a blue box
i want a purpel cone and a grean cube they r friends
A RED BALL JUMPS OVER A BLUE BOX
a really really really big orange ball and a teeny weeny cube
can you make the ball disapear behind the wall??
pacman eats dots and i wanna see a red monster eating a cube
my mother holds a cold red ball
Slow dolly in on a large golden sphere at golden hour, shallow depth of field, 35mm
Establishing shot: two cylinders at dusk. Cut to: close-up of the red cylinder.
The camera pans left, revealing a small blue cone.
Camera pans right slowly past a red cube, then dollies out
crane up over a green cube
aerial view of a red cube and a blue ball
bird's-eye view of three objects
tracking shot following a rolling ball
handheld camera, low angle shot of a cone
EXT. DESERT - NIGHT. A lone red cube rests on tan ground.
360 orbit around a cyan cylinder
Close on a small red cone. Slow push in. Night.
Rack focus from the ball to the cube
POV shot rolling towards a blue ball
zoom in very close on a ball
It was a quiet evening, and a ball, which had been resting, slowly began to roll towards the left
On a chequered floor, beneath the light of the moon, there stands a violet box, and nothing else.
The scene opens at dusk: far behind it, a tiny blue sphere rolls slowly to the right
In the distance, three cubes - one red, one green, one blue - rest on the ground.
red ball, blue cube, night, checkered floor, orbit
1. a red ball 2. a blue cube 3. the camera orbits left
colour: red; shape: cube; motion: bounces; light: sunset
objects: 2; camera: static
(red ball:1.3), [blue cube], masterpiece, best quality
🔴 ball ➡️ 🟦 cube 🌙
a grey-coloured cube on a chequered floor
a moss coloured floor with a turquoise cilinder in the centre
an anti-clockwise circle is painted on the canvas in blue colour
redball bluecube
Red.Ball.Rolls.Left
eine rote Kugel rollt nach links
une balle rouge et un cube bleu la nuit
красный шар, 赤いボール
a couple of cubes and a pair of cones at dawn
a dozen red balls, 5 objects, half a ball
2 red balls and 3 blue cubes at 3 am for 3 seconds at 24 fps
both cubes are red and only one ball
a red ball at noon, sunrise over a red cube
early morning light on a red cube
a moonlit night with a red ball
a red ball between a blue cube and a green cone, far from the wall
a red ball faces a blue cube and leans on it
a ball chases a cube and the cube pushes the ball
a ball passes through a wall
a cube rotates around itself, a cube rises up
a ball slowly speeds up
a ball near the camera, a cube in the background
the last frame is dark
a high angle shot, a medium shot, an extreme close up
a shiny metallic sphere, a wooden cube, a red striped ball, black and white
a yellowish green cone in the top right corner
the left ball is red and the right ball is blue""".splitlines()


def check_newcomers(understand):
    "What was typed is read, or stands in a notice; and reading twice is reading once."
    for prompt in NEWCOMERS:
        read = understand(prompt, KNOWN)
        told = " ".join(n.message for n in read.notices)
        for word in words_of(clean(prompt)[0]):
            parts = [word, *re.split("['-]", word), word.replace("-", "")]
            kept = any(part in words_of(read.text) for part in parts)
            small = word in ("a", "an", "the", "and", "of", "on", "in", "at", "to", "from", "with",
                             "for", "which", "that", "it's") or word in ("redball", "bluecube")
            quoted = any(re.search(rf"(?<!\w){re.escape(part)}(?!\w)", told) for part in parts)
            assert kept or small or quoted, (prompt, word, read)
        assert understand(read.text, KNOWN) == Understood(read.text), prompt


def test_newcomers():
    assert len(NEWCOMERS) == 60
    check_newcomers(understand)
    rejects(check_newcomers, in_silence)


def test_what_is_left_is_a_sentence():
    def pieces(text):
        return [Piece(w.strip("-"), "" if w[0] == "-" else w, "unknown" if w[0] == "-" else "known")
                for w in text.split()]

    for text, left in {"a ball -chases a cube": "a ball and a cube",
                       "the camera dollies in -very and a ball": "the camera dollies in and a ball",
                       "a ball that -barks": "a ball", "a ball , -zebra , a cube": "a ball, a cube"
                       }.items():
        assert tidy(pieces(text)) == left
