"""The public doors of the package: each a function, and good arguments for it."""
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch

import tiny
from sora_nb import (canvas, checkpoints, diffusion as D, editing, enlarging, extending, lexicon,
                     looping, losses, masks, measures, pixels, sampling, scaling, text)
from sora_nb.clips import clip_lengths, even_picks, fit_size, native_fps, survey
from sora_nb.cuts import cut_scores, find_cuts, looks
from sora_nb.dit import DiT, DiTConfig, dit_flops
from sora_nb.files import append, read_json
from sora_nb.folder import FolderClips, FolderRecipe, plan
from sora_nb.items import BlockMeans, VideoItems
from sora_nb.latents import LatentDataset, encode_items, encode_world
from sora_nb.listing import list_folder
from sora_nb.loop import Recipe
from sora_nb.mix import Mix
from sora_nb.muon import orthogonal
from sora_nb.orders import Shape
from sora_nb.painting import paint, watch
from sora_nb.patches import (Grid, Segments, coordinates, pack, pack_budget, patchify, unpack,
                             unpatchify)
from sora_nb.plain import clean
from sora_nb.probes import breaking, cases, diversity, exact, inliers, results, shapes
from sora_nb.probes import consistency as solid
from sora_nb.probes.parsers import judge, read
from sora_nb.probes.reconstruction import evaluate_reconstruction
from sora_nb.runs import Run
from sora_nb.sora import Sora
from sora_nb.tokenizer import Tokenizer, fit_tokenizer
from sora_nb.training import train_dit
from sora_nb.growing import grow
from sora_nb.vae import VAEConfig, VideoVAE
from sora_nb.vae_training import train_vae
from sora_nb.video import Video, display_factor, grid, strip
from sora_nb.world import (biting, families, film, game, hiding, levels, mixture, optics, painting,
                           physics, shots)
from sora_nb.world.captions import caption, caption_corpus, write
from sora_nb.world.motion import Motion
from sora_nb.world.optics import Camera
from sora_nb.world.record import facts_of
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.scenes import Action, Event, Ground, Level, Object, Scene, Shot


@dataclass(frozen=True)
class Door:
    "answers: whether NaN in an answer is an error (arithmetic may pass it on)."
    call: Callable
    good: dict
    answers: bool = True


@cache
def folder() -> Path:
    "A complete tiny checkpoint, and a cache of latents."
    place = tiny.build(Path(mkdtemp()))
    encode_world(BlockMeans(), World(families=["attributes"], sizes=[(64, 64)]), place / "latents",
                 2, quiet=True)
    return place


@cache
def sora() -> Sora:
    made = Sora.from_pretrained(folder() / "dit.safetensors")
    made.max_tokens = 64
    return made


def hugging(**settings):
    "A text encoder of Hugging Face; the good one is made when it is first asked for."
    place = folder() / "t5"
    if not place.exists():
        tiny.text_encoder(place, sora().tokenizer)
    return text.HFTextEncoder(**settings)


@cache
def records() -> Path:
    "A folder with a record `r`."
    (place := folder() / "records").mkdir()
    results.write_result("r", dict(RECORD, commit="c", world_version=1, checkpoint=None), place)
    return place


def scene() -> Scene:
    return Scene((Object("cube", "red"),), frames=3, size=(32, 32), pixels_per_unit=16.0)


def steps(**settings) -> list:
    return list(sora().trajectory(**settings))


def video(frames: int = 3) -> Video:
    return Video(np.zeros((frames, 16, 16, 3), np.uint8), 8.0, prompt="a <b>")


def rendered(size, frames, fps):
    return render(scene(), size, frames, fps).video


def drawn(**settings) -> str:
    return str(World(**{k: v for k, v in settings.items() if k != "i"}).scene(settings["i"]))


def short_orbit(scene: Scene) -> bool:
    return scene.frames == 9 and scene.camera.motion.startswith("orbit")


SOLID = solid.Consistency(0.1, 0.1, 0.01, 0.0, 0.99, 0.99, 1.0, 2.0, 2)


def worded(style, i):
    return caption(World(0).scene(i), style, np.random.default_rng(0))


def film_of(**changes):
    "A scene with changes, rendered."
    return render(scene().replace(**changes)).video


def object_of(**changes):
    return render(scene().replace(objects=(Object(**changes),))).video


def motion_of(**changes):
    return object_of(motion=Motion(**changes))


def camera_of(**changes):
    return film_of(camera=Camera(**changes))


def rng():
    return np.random.default_rng(0)


@cache
def drawn_of(family: str, fits=lambda scene: True) -> Scene:
    "The first scene of a family that fits."
    world = World(3, "iid", [family])
    return next(s for s in map(world.scene, range(100)) if fits(s))


def collision():
    return drawn_of("physics", _collides)


def falling():
    return drawn_of("physics", _falls)


def _collides(scene):
    return bool(scene.events)


def _falls(scene):
    return scene.objects[0].motion.kind == "drop"


def facts():
    return facts_of(World(0, families="attributes").scene(1))


def flow(tokens, level, coords, lengths, words, mask, period):
    return dit()(tokens, level, coords, Segments(lengths), text.Context(words, mask), period=period)


@cache
def dit() -> DiT:
    torch.manual_seed(0)
    return DiT(DiTConfig.size("nano", in_dim=12, context_dim=24))


def sampled(noise, coords, lengths, **settings):
    context = text.Context(torch.zeros(1, 3, 24), torch.ones(1, 3).bool())
    return sampling.sample(dit(), noise, coords, Segments(lengths), context, null_context=context,
                           **settings)


def data() -> LatentDataset:
    return LatentDataset(folder() / "latents")


def encoded(n, start, workers, folder):
    return encode_world(BlockMeans(), World(families=["attributes"], sizes=[(64, 64)]), folder, n,
                        start=start, workers=workers, quiet=True)


def of_pairs(pairs, folder):
    return encode_items(BlockMeans(), VideoItems(pairs), folder, {}, quiet=True)


def trained(**settings):
    tokenizer = sora().tokenizer
    words = text.TextEncoder(text.TextConfig(tokenizer.vocab_size, 24, 1, 1, 24))
    return train_dit(DiT(dit().config), words, tokenizer, data(), quiet=True, restart=True, steps=1,
                     **settings)


def trained_vae(**settings):
    world = World(families=["attributes"], sizes=[(64, 64)])
    return train_vae(VideoVAE(VAEConfig.size("nano")), world, world, quiet=True, restart=True,
                     steps=1, evaluate=0, calibrate=1, **settings)


def told(call):
    "A call whose answer is not looked at."
    return lambda **k: call(**k) and None


def film_file() -> Path:
    path = folder() / "films" / "a.gif"
    if not path.exists():
        path.parent.mkdir()
        Video(np.zeros((9, 32, 32, 3), np.uint8), 8.0).save(path)
    return path


@cache
def many_clips() -> FolderClips:
    "Seventeen clips of a frame each, of which two are held out."
    path = folder() / "many" / "a.gif"
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    Video(rng.integers(0, 256, (17, 16, 16, 3), np.uint8), 8.0).save(path)
    return FolderClips(path.parent, FolderRecipe(frames=1, cuts=False))


def picture() -> Video:
    "A still of 16x16 pixels that the model can go on from."
    return Video(np.zeros((1, 16, 16, 3), np.uint8), 8.0, prompt="a ball")


def blank(**settings) -> canvas.Canvas:
    return canvas.Canvas.blank(**(dict(shape=Shape(5, 16, 16), channels=16) | settings))


def edited(name: str):
    "A method of the facade, with one step."
    return lambda **k: getattr(sora(), name)(steps=1, **k)


Z, X = torch.zeros(1, 16, 2, 2, 2), torch.zeros(1, 3, 5, 16, 16)
BLINK = X + (torch.arange(5) % 2).view(5, 1, 1)
TOKENS, COORDS = torch.zeros(4, 12), coordinates(Grid(1, 2, 2))
RECORD = dict(claim="c", columns=dict(a=0.5), interval=dict(a=[0.4, 0.6]), n=3, seeds=[0],
              command="x", wall_s=1.0)
PROMPT = "a red ball"

DOORS = {
    # the facade
    "Sora.generate": Door(lambda **k: sora().generate(**k), dict(
        prompt=PROMPT, seconds=None, frames=1, height=16, width=16, steps=1, guidance_scale=2.0,
        seed=0, pixels_per_unit=None, fps=8.0)),
    "Sora.generate[list]": Door(lambda **k: sora().generate(**k), dict(
        prompt=[PROMPT, ""], frames=1, height=[16, 32], width=16, steps=1, seed=[0, 1])),
    "Sora.image": Door(lambda **k: sora().image(**k), dict(prompt=PROMPT, height=16, width=16,
                                                          steps=1, seed=0)),
    "Sora.trajectory": Door(steps, dict(prompt=PROMPT, frames=1, height=16, width=16, steps=1, shown=1,
                                        guidance_scale=1.0, seed=0)),
    "Sora.animate": Door(edited("animate"), dict(still=picture(), prompt=PROMPT, seconds=None,
                                                 frames=5, at=0.5, seed=0)),
    "Sora.edit": Door(edited("edit"), dict(video=picture(), prompt=PROMPT, strength=0.5, seed=0)),
    "Sora.rewrite": Door(edited("rewrite"), dict(video=picture(), prompt=PROMPT, source_prompt="",
                                                 strength=0.5, seed=0)),
    "Sora.inpaint": Door(edited("inpaint"), dict(video=picture(), box=(0, 0, 16, 16), prompt=PROMPT,
                                                 seed=0)),
    "Sora.outpaint": Door(edited("outpaint"), dict(video=picture(), height=48, width=16,
                                                   prompt=PROMPT, seed=0)),
    "Sora.extend": Door(edited("extend"), dict(video=picture(), seconds=0.5, direction="backward",
                                               prompt=PROMPT, seed=0)),
    "Sora.connect": Door(edited("connect"), dict(first=picture(), second=picture(), seconds=0.5,
                                                 prompt=PROMPT, seed=0)),
    "Sora.loop": Door(edited("loop"), dict(video=video(5), way="meet", strength=0.5, seconds=0.5,
                                           prompt=PROMPT, seed=0)),
    "Sora.enlarge": Door(edited("enlarge"), dict(video=picture(), height=32, width=32, strength=0.5,
                                                 prompt=PROMPT, seed=0)),
    # canvases
    "Canvas": Door(canvas.Canvas, dict(noise=Z[0], known=Z[0], strength=torch.ones(2, 1, 1),
                                       coords=torch.zeros(2, 6), period=0.0)),
    "Canvas.blank": Door(blank, dict(shape=Shape(5, 16, 16), channels=16, seed=0)),
    "Frames": Door(lambda **k: blank().put(canvas.Frames(**k)), dict(
        latents=Z[0, :, :1], row=1, strength=0.5, corner=(0, 0))),
    "Still": Door(lambda **k: blank().put(canvas.Still(**k)), dict(
        latent=Z[0, :, :1], time=0.5, strength=0.5, seconds=0.125)),
    "Box": Door(lambda **k: blank().put(canvas.Box(**k)), dict(edges=(0, 0, 1, 1), strength=0.5)),
    "paint": Door(lambda **k: paint(sora(), **k), dict(
        canvases=[blank()], prompts=[PROMPT], steps=1, guidance_scale=1.0, solver="euler")),
    "watch": Door(lambda **k: list(watch(sora(), **k)), dict(
        canvas=blank(), prompt=PROMPT, steps=1, guidance_scale=1.0, solver="euler")),
    "latents_of": Door(lambda **k: editing.latents_of(sora(), **k), dict(video=picture())),
    "resized_noise": Door(enlarging.resized_noise, dict(small=torch.zeros(2, 2, 2), height=4,
                                                        width=3, seed=0), False),
    "Sora.from_pretrained": Door(Sora.from_pretrained, dict(name=folder() / "dit.safetensors", device="cpu")),
    "Sora.understand": Door(lambda **k: sora().understand(**k), dict(prompt=PROMPT)),
    "Sora.encode_text": Door(lambda **k: sora().encode_text(**k).tokens, dict(prompts=[PROMPT])),
    "Sora.decode": Door(lambda **k: sora().decode(**k), dict(
        tokens=torch.zeros(1, 64), shape=Shape(1, 16, 16))),
    "Sora.to": Door(lambda **k: sora().to(**k), dict(device="cpu")),
    # videos
    "Video": Door(Video, dict(frames=video().frames, fps=8.0, prompt="p", seed=0, checkpoint="c",
                              pixels_per_unit=32.0)),
    "Video.repr": Door(lambda **k: repr(video().replace(**k)), dict(prompt="p", seed=0, fps=8.0)),
    "Video.png": Door(lambda **k: video().replace(**k)._repr_png_(), dict(prompt="p", fps=8.0)),
    "Video[]": Door(lambda key: video()[key], dict(key=0)),
    "Video.scale": Door(lambda **k: video().scale(**k), dict(factor=2)),
    "Video.replace": Door(lambda **k: video().replace(**k), dict(frames=video().frames, fps=2.0)),
    "Video.from_tensor": Door(Video.from_tensor, dict(x=X[0], fps=8.0)),
    "Video.save": Door(lambda path, **k: video().replace(**k).save(path), dict(
        path="x.gif", prompt="p", seed=0, fps=8.0)),
    "Video.read": Door(Video.read, dict(path=film_file())),
    "grid": Door(grid, dict(videos=[video(), video()], columns=2, gap=2)),
    "strip": Door(strip, dict(video=video(), n=2)),
    # the world
    "World": Door(drawn, dict(seed=0, split="train", families="attributes", sizes=[(64, 64)], i=1)),
    "World[]": Door(lambda i: World(0, families=["image"])[i], dict(i=1)),
    "World.describe": Door(lambda i: World(0).describe(i), dict(i=1)),
    "render": Door(rendered, dict(size=(32, 32), frames=2, fps=8.0)),
    "render[scene]": Door(render, dict(scene=scene(), size=(16, 16))),
    "Scene": Door(film_of, dict(
        objects=(Object(),), camera=Camera(), light="day", ground=Ground(), events=(), actions=(),
        shots=(), level=None, family="attributes", seed=0, period=0.0, size=(32, 32), frames=2,
        pixels_per_unit=16.0)),
    "Scene.from_dict": Door(lambda **k: Scene.from_dict(**k), dict(data=scene().to_dict())),
    "Scene.from_dict[]": Door(lambda **k: Scene.from_dict(k), scene().to_dict()),
    "Scene.replace": Door(lambda **k: scene().replace(**k), dict(light="night", size=(16, 16))),
    "Object": Door(object_of, dict(shape="cube", color="red", size="small", position=(0.0, 0.0),
                                   yaw=0.0, motion=Motion(), extent=None)),
    "Motion": Door(motion_of, dict(kind="sway", velocity=(0.0, 0.0, 0.0), amplitude=1.0, period=2.0,
                                   phase=0.0, heading=0.0, keys=(), restitution=0.5)),
    "Camera": Door(camera_of, dict(motion="static", speed="slow", azimuth=0.0, radius=5.0,
                                   height=2.0, target=(0.0, 0.0, 0.3))),
    "Ground": Door(lambda **k: film_of(ground=Ground(**k)), dict(pattern="checkered", tone="gray",
                                                                 seed=0)),
    "Event": Door(Event, dict(kind="hit", time=0.0, subject=0, other=None, data=())),
    "Level": Door(Level, dict(rows=("###", "#P#", "###"), player="blue", enemy="red")),
    "Action": Door(Action, dict(name="up", start=0.0, end=1.0)),
    "Shot": Door(lambda **k: film_of(shots=(Shot(**k),)), dict(start=0.1, camera=Camera())),
    "caption": Door(worded, dict(style="short", i=0)),
    "write": Door(write, dict(facts=facts(), style="medium", rng=np.random.default_rng(0))),
    "facts_of": Door(facts_of, dict(scene=scene())),
    "caption_corpus": Door(caption_corpus, dict(n=2, seed=0)),
    # autoencoder
    "VAEConfig": Door(lambda **k: VideoVAE(VAEConfig(**k)), dict(
        latent=4, encoder=(48, 64), decoder=(64, 64), encoder_blocks=(0, 1), decoder_blocks=(1, 1),
        taps=(3, 2))),
    "VAEConfig.size": Door(VAEConfig.size, dict(name="nano", latent=4)),
    "VideoVAE.encode": Door(lambda **k: sora().vae.encode(**k), dict(x=X)),
    "VideoVAE.decode": Door(lambda **k: sora().vae.decode(**k), dict(z=Z, frames=5, size=(16, 16))),
    "VideoVAE.encode_stream": Door(lambda **k: sora().vae.encode_stream(**k), dict(x=X, cache=None)),
    "VideoVAE.decode_stream": Door(lambda **k: sora().vae.decode_stream(**k), dict(z=Z, cache=None)),
    "VideoVAE.encode_ring": Door(lambda **k: sora().vae.encode_ring(**k), dict(x=X[:, :, :4])),
    "VideoVAE.decode_ring": Door(lambda **k: sora().vae.decode_ring(**k), dict(z=Z)),
    "VideoVAE.widened": Door(lambda latent: sora().vae.widened(latent), dict(latent=20)),
    "VideoVAE.from_pretrained": Door(lambda source, expect: VideoVAE.from_pretrained(source, expect), dict(
        source=folder() / "vae.safetensors", expect={})),
    "vae_loss": Door(lambda **k: losses.vae_loss(sora().vae, **k)[0].item(), dict(
        x=X, weight=torch.ones(1, 1, 5, 16, 16), generator=torch.Generator())),
    # tokens
    "Grid.of": Door(Grid.of, dict(shape=(3, 4, 4, 4), size=(1, 2, 2))),
    "patchify": Door(patchify, dict(x=torch.zeros(3, 4, 4, 4), size=(1, 2, 2)), False),
    "unpatchify": Door(unpatchify, dict(tokens=TOKENS, grid=Grid(1, 2, 2), size=(1, 2, 2)), False),
    "coordinates": Door(coordinates, dict(
        grid=Grid(1, 2, 2), fps=8.0, pixels_per_unit=32.0, cell=(4, 16, 16), still=True, start=0.0,
        origin=(0.0, 0.0))),
    "Segments": Door(lambda **k: Segments(**k).groups, dict(lengths=[2, 2])),
    "pack": Door(pack, dict(samples=[TOKENS, TOKENS]), False),
    "unpack": Door(unpack, dict(tokens=TOKENS, segments=Segments([2, 2])), False),
    "pack_budget": Door(pack_budget, dict(lengths=[3, 2], budget=5)),
    "Shape": Door(lambda **k: Shape(**k).grid, dict(frames=5, height=16, width=16, fps=8.0,
                                                    pixels_per_unit=None)),
    # noise: arithmetic passes NaN on
    "add_noise": Door(D.add_noise, dict(x0=TOKENS, eps=TOKENS, t=0.5), False),
    "snr": Door(D.snr, dict(t=torch.tensor(0.5)), False),
    "target": Door(D.target, dict(kind="flow", x0=TOKENS, eps=TOKENS, t=0.5), False),
    "convert": Door(D.convert, dict(pred=TOKENS, kind="flow", x_t=TOKENS, t=0.5), False),
    "uniform": Door(D.uniform, dict(n=3, generator=torch.Generator())),
    "logit_normal": Door(D.logit_normal, dict(n=3, generator=torch.Generator(), mean=0.0, std=1.0)),
    "shift": Door(D.shift, dict(t=torch.tensor(0.5), s=2.0), False),
    "size_shift": Door(D.size_shift, dict(tokens=80, base=8)),
    "haar_split": Door(D.haar_split, dict(x=torch.zeros(2, 4, 4)), False),
    "haar_join": Door(D.haar_join, dict(low=torch.zeros(2, 2), details=torch.zeros(3, 2, 2)), False),
    "hierarchical_noise": Door(D.hierarchical_noise, dict(
        small=torch.zeros(2, 2), shape=(4, 4), generator=torch.Generator())),
    "orthogonal": Door(orthogonal, dict(g=torch.ones(1, 2, 3), rounds=5), False),
    "noise": Door(D.noise, dict(shape=(2, 4, 4), seed=0, doublings=1)),
    # words
    "Tokenizer": Door(Tokenizer, dict(source=sora().tokenizer.to_json())),
    "Tokenizer.encode": Door(lambda **k: sora().tokenizer.encode(**k), dict(prompts=[PROMPT])),
    "Tokenizer.decode": Door(lambda **k: sora().tokenizer.decode(**k), dict(
        ids=torch.tensor([[1, 70, 2]]))),
    "fit_tokenizer": Door(fit_tokenizer, dict(corpus=[PROMPT], vocab_size=400)),
    "TextConfig.size": Door(text.TextConfig.size, dict(name="nano", vocab_size=400)),
    "TextEncoder": Door(lambda **k: sora().text_encoder(**k).tokens, dict(
        ids=torch.ones(1, 3).long(), mask=torch.ones(1, 3).bool())),
    "HFTextEncoder": Door(hugging, dict(name_or_path=folder() / "t5", frozen=True)),
    "join_contexts": Door(lambda **k: text.join_contexts(**k).tokens, dict(
        parts=[text.Context(torch.zeros(1, 2, 4), torch.ones(1, 2).bool())] * 2)),
    "understand": Door(lexicon.understand, dict(prompt=PROMPT, known=["red", "ball"])),
    "lexicon": Door(lexicon.lexicon, dict(captions=[PROMPT])),
    "clean": Door(clean, dict(prompt=PROMPT)),
    # transformer and sampler
    "DiTConfig": Door(lambda **k: DiT(DiTConfig(**k)), dict(
        width=32, depth=1, head_dim=16, in_dim=8, context_dim=8)),
    "DiTConfig.size": Door(DiTConfig.size, dict(name="nano", in_dim=8)),
    "grow": Door(lambda config: grow(dit(), config), dict(
        config=DiTConfig.size("nano", in_dim=16, context_dim=24, depth=4))),
    "DiT": Door(flow, dict(tokens=TOKENS, level=0.5, coords=COORDS, lengths=[4],
                           words=torch.zeros(1, 3, 24), mask=torch.ones(1, 3).bool(), period=None)),
    "dit_flops": Door(dit_flops, dict(config=DiTConfig(), lengths=[4], context_lengths=[3])),
    "schedule": Door(sampling.schedule, dict(steps=2, shift=1.0)),
    "sampling.sample": Door(sampled, dict(
        noise=TOKENS, coords=COORDS, lengths=[4], known=TOKENS, strength=torch.ones(4), period=None,
        steps=1, solver="euler", guidance_scale=2.0, guidance_interval=(0.0, 1.0), shift=1.0)),
    # data and training
    "LatentDataset": Door(LatentDataset, dict(folder=folder() / "latents")),
    "LatentDataset[]": Door(lambda i: data()[i], dict(i=0)),
    "encode_world": Door(encoded, dict(n=1, start=0, workers=0, folder="out")),
    "VideoItems": Door(of_pairs, dict(pairs=[(video(1), "a")], folder="pairs")),
    "FolderRecipe": Door(FolderRecipe, dict(fps=8.0, pixels=4608, frames=17, cuts=True)),
    "list_folder": Door(list_folder, dict(folder=film_file().parent)),
    "fit_size": Door(fit_size, dict(height=64, width=64, pixels=4608)),
    "even_picks": Door(even_picks, dict(begins=np.arange(3) / 8, end=0.5, fps=8.0)),
    "clip_lengths": Door(clip_lengths, dict(count=20, most=17)),
    "find_cuts": Door(find_cuts, dict(thumbs=np.zeros((5, 12, 16, 3), np.uint8), lasts=None)),
    "Mix": Door(Mix, dict(image=0.5, short=0.2, window=0.3, masked=0.35, styles=(0.1, 0.2, 0.15, 0.55),
                          opening=0)),
    "Recipe": Door(Recipe, dict(steps=1, minutes=None, lr=1e-3, warmup=1, decay=0.2, clip=1.0,
                                weight_decay=0.0, ema=6.94, seed=0)),
    "Run": Door(Run, dict(name="./run", config={}, restart=True)),
    "train_dit": Door(trained, dict(name="./dit", out="w", budget=100, lr=1e-3, seed=0,
                                    workers=0, words=("a",), command="c", save_every=60.0)),
    "train_vae": Door(trained_vae, dict(name="./vae", out="v", lr=1e-3, seed=0, workers=0,
                                        pool=2, fresh=1)),
    # files and records
    "save_checkpoint": Door(checkpoints.save_checkpoint, dict(
        path="w", tensors=dict(a=torch.zeros(2)), card=dict(kind="x"))),
    "load_checkpoint": Door(checkpoints.load_checkpoint, dict(name_or_path="dit", expect={})),
    "find_checkpoint": Door(checkpoints.find_checkpoint, dict(name="dit")),
    "load_weights": Door(checkpoints.load_weights, dict(
        module=torch.nn.Linear(1, 1), tensors=dict(weight=torch.ones(1, 1), bias=torch.ones(1)),
        source="w")),
    "make_result": Door(lambda **k: results.write_result("r", results.make_result(**k), Path(".")),
                        RECORD),
    "write_result": Door(results.write_result, dict(
        name="r", result=dict(RECORD, commit="c", world_version=1, checkpoint=None),
        folder=Path("."))),
    "read_result": Door(results.read_result, dict(name="r", folder=records())),
    "mean_interval": Door(results.mean_interval, dict(values=[1.0, 2.0], rounds=10, level=0.9,
                                                      seed=0)),
    "read": Door(read, dict(video=video(2))),
    "judge": Door(judge, dict(reading=read(video(2)), facts=facts())),
    # families, impossible twins, games
    **{f"mixture.FAMILIES[{name}]": Door(make, dict(
        rng=rng(), size=(48, 96) if name == "framing" else (64, 64), frames=17, split="train"))
       for name, make in mixture.FAMILIES.items()},
    "draw": Door(mixture.draw, dict(rng=rng(), family="bite", split="train",
                                    sizes={(64, 64): 1.0, (48, 96): 0.5})),
    "too_early": Door(physics.too_early, dict(scene=collision(), lead=0.25)),
    "passed_through": Door(physics.passed_through, dict(scene=collision())),
    "hanging": Door(physics.hanging, dict(scene=falling(), time=0.5)),
    "springy": Door(physics.springy, dict(scene=falling())),
    "erased": Door(painting.erased, dict(scene=drawn_of("painter"))),
    "displaced": Door(painting.displaced, dict(scene=drawn_of("painter"))),
    "healed": Door(biting.healed, dict(scene=drawn_of("bite"), after=0.3)),
    "misplaced": Door(biting.misplaced, dict(scene=drawn_of("bite"))),
    "hidden_time": Door(hiding.hidden_time, dict(scene=drawn_of("look"))),
    "vanished": Door(hiding.vanished, dict(scene=drawn_of("look"))),
    "recolored": Door(hiding.recolored, dict(scene=drawn_of("look"))),
    "recast": Door(shots.recast, dict(scene=drawn_of("shots"), color="red")),
    "shot_of": Door(shots.shot_of, dict(kind="close", hero=Object())),
    "name_shot": Door(shots.name_shot, dict(camera=Camera())),
    "horizon": Door(shots.horizon, dict(camera=Camera(), height=64, pixels_per_unit=32.0)),
    "held_out": Door(families.held_out, dict(color="red", shape="cube", motion="still")),
    "held_out_stroke": Door(painting.held_out_stroke, dict(color="red", form="line")),
    "held_out_bite": Door(biting.held_out_bite, dict(eater="red", food="blue", shape="cube")),
    "held_out_game": Door(levels.held_out_game, dict(player="red", coins=2, light="day")),
    "make_level": Door(levels.make_level, dict(rng=rng(), shape=(7, 7), coins=2, guarded=True,
                                               walls=(0.1, 0.3))),
    "start": Door(game.start, dict(level=drawn_of("game").level)),
    "commands": Door(game.commands, dict(actions=(Action("up", 0.0, 1.0),), count=4)),
    "timed": Door(game.timed, dict(names=["up", "left"])),
    "play": Door(lambda **k: game.play(**k), dict(level=drawn_of("game").level,
                                                  actions=("left", "right"))),
    "policy": Door(game.policy, dict(level=drawn_of("game").level, rng=rng(), careful=True,
                                     state=game.start(drawn_of("game").level))),
    "film": Door(told(film.film), dict(scene=drawn_of("game"), size=(64, 64), times=[0.0, 0.5])),
    "tier": Door(optics.tier, dict(height=64, width=64)),
    "focal": Door(optics.focal, dict(pixels_per_unit=32.0)),
    # rulers: those of losses pass NaN on
    "squared_error": Door(measures.squared_error, dict(a=X, b=X), False),
    "decibel": Door(measures.decibel, dict(error=0.01)),
    "psnr": Door(measures.psnr, dict(a=X, b=X + 0.5, mask=torch.ones(1, 1, 5, 16, 16).bool())),
    "object_psnr": Door(measures.object_psnr, dict(triples=[(X, X + 0.5, X[:, 0] + 1)])),
    "motion_kept": Door(measures.motion_kept, dict(triples=[(BLINK, BLINK, X[:, 0] + 1)],
                                                  group=4), False),
    "ssim": Door(measures.ssim, dict(a=X, b=X, window=7), False),
    "fold": Door(measures.fold, dict(x=X[:, :, :4], size=(2, 2, 2)), False),
    "unfold": Door(measures.unfold, dict(x=Z, size=(2, 2, 2)), False),
    "haar": Door(measures.haar, dict(x=X[:, :, :4]), False),
    "unhaar": Door(measures.unhaar, dict(x=Z), False),
    "haar_loss": Door(measures.haar_loss, dict(error=X[:, :, :4], levels=2), False),
    "motion": Door(pixels.motion, dict(pixels=X, ids=X[:, 0].long())),
    "pixel_weight": Door(pixels.pixel_weight, dict(pixels=X, ids=X[:, 0].long(), objects=4.0,
                                                   changing=2.0, moving=15.0), False),
    "LossWeights": Door(losses.LossWeights, dict(square=10.0, haar=0.1, ssim=0.1, kl=5e-5,
                                                 scale=0.25, scale_share=0.25, rough=0.15)),
    "known_frames": Door(masks.known_frames, dict(rng=rng(), kind="start", rows=5)),
    "known_box": Door(masks.known_box, dict(rng=rng(), grid=Grid(5, 4, 4))),
    "known_tokens": Door(masks.known_tokens, dict(rng=rng(), grid=Grid(5, 4, 4), extra=False)),
    # cases, and what is spoiled
    "cases": Door(told(cases.cases), dict(n=1, split="iid", seed=0, size=(64, 64), frames=17,
                                          families=("attributes",), style="medium")),
    "rearranged": Door(cases.rearranged, dict(scene=drawn_of("attributes"))),
    "headcount": Door(exact.headcount, dict(video=video())),
    "crowded": Door(exact.crowded, dict(scene=drawn_of("attributes"), fault="added")),
    "cases.recolored": Door(cases.recolored, dict(scene=drawn_of("attributes"))),
    "broken_game": Door(cases.broken_game, dict(scene=drawn_of("game"))),
    "broken_story": Door(cases.broken_story, dict(scene=drawn_of("bite"))),
    "broken": Door(cases.broken, dict(scene=drawn_of("camera"))),
    "other_motion": Door(cases.other_motion, dict(motion=Motion())),
    "sibling_prompts": Door(told(diversity.sibling_prompts), dict(
        prompts=1, seeds=2, split="iid", seed=0, families=("attributes",))),
    "spoil": Door(shapes.spoil, dict(frames=video().frames, rng=rng(), sigma=0.6, noise=0.02)),
    "fit_law": Door(scaling.fit_law, dict(flops=[1e12, 2e12, 3e12], losses=[3.0, 2.0, 1.5], unit=3e12)),
    "law_interval": Door(scaling.law_interval, dict(
        flops=[1e12, 2e12, 3e12], losses=np.array([[3.0, 4], [2, 2.5], [1.5, 2]]), rounds=2, unit=3e12)),
    # one solid world
    "break_clip": Door(breaking.break_clip, dict(scene=drawn_of("camera", short_orbit), kind="drift",
                                                 seed=0, strength=1.0)),
    "can_break": Door(breaking.can_break, dict(scene=drawn_of("camera"), kind="flat")),
    "spoil_clip": Door(breaking.spoil_clip, dict(video=video(), kind="noise", seed=0)),
    "count_inliers": Door(inliers.count_inliers, dict(video=video(5), gap=4, seed=0)),
    "consistency": Door(told(solid.consistency), dict(video=video(5), camera=Camera())),
    "draw_consistency": Door(told(solid.draw_consistency), dict(video=video(5), camera=Camera())),
    "choose_limits": Door(solid.choose_limits, dict(harmless=dict(real=[SOLID]), alarms=0.1)),
    # films and files
    "looks": Door(looks, dict(thumbs=np.zeros((5, 12, 16, 3), np.uint8))),
    "cut_scores": Door(cut_scores, dict(thumbs=np.zeros((5, 12, 16, 3), np.uint8))),
    "native_fps": Door(native_fps, dict(begins=np.arange(9) / 8)),
    "survey": Door(told(survey), dict(path=film_file())),
    "plan": Door(told(plan), dict(path=film_file(), recipe=FolderRecipe())),
    "FolderClips": Door(lambda **k: len(FolderClips(film_file().parent, **k)), dict(
        recipe=FolderRecipe(), plans=None)),
    "FolderClips[]": Door(lambda k: FolderClips(film_file().parent)[k] and None, dict(k=0)),
    "evaluate_reconstruction": Door(told(evaluate_reconstruction), dict(
        clips=many_clips(), vae=sora().vae, tuned=None, n=2, command="", checkpoint=None)),
    "result_path": Door(results.result_path, dict(name="mine", folder=Path("."))),
    "display_factor": Door(display_factor, dict(video=video())),
    "read_json": Door(read_json, dict(path=folder() / "dit.json")),
    "append": Door(append, dict(path="log", data=b"x", at=0)),
    "read_card": Door(checkpoints.read_card, dict(weights=folder() / "dit.safetensors")),
    "totals": Door(checkpoints.totals, dict(card=dict(steps=1))),
    "history_of": Door(checkpoints.history_of, dict(card=dict(steps=1))),
}


# --- what needs no door ---------------------------------------------------------------------------
# Names of `__all__` that are no door and carry none. `test_every_public_name` (test_edges.py) compares
# these lists with the package: a new function must get a door or be put here, with a reason.
def _named(**modules: str) -> set[str]:
    return {f"{module.replace('__', '.')}.{name}" for module, names in modules.items()
            for name in names.split()}

INNER = _named(
    # layers and single steps of the networks, called at every step by what has a door
    attention=(
        "attend group_order per_sample frequencies snap rotary rotate spin plainly Turned turned "
        "SelfAttention visible CrossAttention"),
    causal=(
        "front_pad edge_pad crop CausalConv ChannelNorm FrameConv ResBlock run_blocks match_channels "
        "Shortcut"),
    linear="maker prefers_onednn Product multiply product_flops Linear",
    norm="rms inverse_rms scaled pull Normed quick normed RMSNorm",
    blocks=("Bend bend SwiGLU modulate add_gated distinct run_length fourier Conditioning Pack "
            "Block"),
    dit="place clock",
    scaling="PowerLaw",
    vae="Encoder Decoder CausalVAE lookback check_stream StreamingVAE",
    sampling="advance ahead stack_contexts Flow start Step",
    canvas="Item draw",
    painting="heard check_tokens",
    editing="shape_of finish outpaint",
    extending="forward backward bridge",
    looping="circle_steps seam close ring gap",
    enlarging="cosines larger_shape",
    rewriting="difference walk",
    verbs="edges run_verb add_verbs",
    diffusion="Path LinearPath CosinePath DDPMPath same_shape check_count",
    tokenizer="warn_cut check_ids",
    text="with_vocabulary HFTokenizer",
    patches="time_axis Group",
    losses="kl_divergence scale_loss",
    denoiser="Parts Denoiser vaes_for",
    measures="haar_matrix",
    # the command line: `test_commands` throws junk at `main`, which calls all of these
    arguments=(
        "positive natural amount amounts counts weight share place output rate names shares one_line "
        "Parser attempt understood add_folder folder_recipe"),
    cli="generate add_generate card_line describe info add_info parser main",
    options="mix_of styles_of reading_of to_train another_size distilling_of options",
    commands="train_vae train_dit refuse_world_options add_train",
    encoding="encode encode_clips add_encode",
    measurements=(
        "chosen judged generator measure_fidelity measure_vae pixel_scores measure_parsers "
        "measure_diversity measure_memory measure_consistency measure_editing film_clips measure_films "
        "step_ways model_ways measure_steps"),
    tables="exact_lines value_lines measure_lines row_lines gap_lines caught_lines result_table",
    evaluations=(
        "check_folder check_larger usual_name evaluate evaluate_editing add_evaluate add_films add_sampling"),
    sources="folder_clips latents encode_videos latent_data tokenizer_for",
    # the doorman himself, and errors, which are raised and not called
    door=(
        "brief fits is_finite shape between positive among alike numbers floating finite door "
        "check_fields nameable content"),
    files="DiskFullError OddFileError BusyError only_writer",
    checkpoints="CheckpointError shipped_folders checkpoint_folders config_of check_card cache_dir",
    # records that functions with doors make and return, and what they are made by
    clips="Fit Survey ClipReader",
    cuts="changes",
    folder="Encoded",
    formats="durations png moviepy_clip even_clock",
    films="BadFile Picture",
    items="BlockConfig Item check_item check_vae leaves_out things_of",
    latents="Sample",
    lexicon="Understood Reader meant",
    listing="Note read_captions Entry Listing",
    orders="whole finite frame_rate frame_count Order orders batches sampler_settings "
           "sampling_shift",
    plain="Notice words_of",
    pixels="ClipPool PixelBatch vae_batch held_out_clips",
    # what a training is made of: built and called by train_vae, train_dit, encode_world
    mix="Piece piece_of draw_piece noise_levels",
    data="StepDataset step_generator divide TokenBatch assemble token_batch",
    labels="codes_of cell_codes shares",
    disk="check_out plain_config",
    loop="PowerEMA DivergedError Training forward_flops",
    muon="Muon",
    ranks="launch Ranks placement",
    asking="shown_hue Asker",
    reading="word_tokens hue_tokens of_ground questions_of graded Reader pages reader_for",
    runs="Keeper progress_line fit",
    vae_training="VAETraining",
    training="DiTTraining held_out_batches",
    tuning="FolderPool",
    distilling="stops walk Distilling",
    growing="lay seats modulations refuse_misfit",
    # words of prompts: `understand`, `clean` and `caption` call them
    readings="Reading knows wordings row_readings fixed choices around passive unfit",
    company="negation ours company alone said",
    denials="denied letter words_for",
    looks=(
        "words_of_kind described same_color unlike looks one_color change changes"),
    pieces="Piece left_out trimmed tidy",
    sense=(
        "counts numbers camera_only directions belongs places absent lonely sense"),
    synonyms="compared",
    typos="family foreign is_near deletions",
    # the renderer: called for every object and frame by `render`
    world__backdrop=(
        "Light object_color checkered value_noise speckled haze sky Backdrop ground_depth "
        "backdrop"),
    world__board=(
        "Sheet paint_floor slope paint_walls paint_board add_eye paint_player paint_enemy "
        "paint_coin Canvas shrink"),
    world__film="Course course world_points overhead cast_all",
    world__props="tip trail arrival Canvas dots hit_capsule Brush gape Eater solid_of",
    world__rays=(
        "View pixel_centers roots nearest span_sphere hit_sphere span_cube hit_cube hit_cylinder "
        "hit_cone span_cylinder normal to_frame"),
    world__render="corners window Hits Painter Truth Clip",
    world__solids="Solid carve Food",
    world__optics="rotation project",
    world__motion="frozen Plain check vectors",
    # steps of the families: called thousands of times until a scene is found
    world__staging=(
        "pick between OpeningView opening_view Body depth_range spot Placed overlap closest "
        "compatible arrange"),
    world__families="look bulk whole slide bounce swing movement setting cast_of stage keeps",
    world__hiding="wall_at interval stands_clear is_hidden journey fits leaves",
    world__painting="outline timed brush_for easel bystander beside",
    world__biting="dinner schedule approach meal moved seat mark_pixels paths",
    world__physics="mass elastic contact collide hit drop throw",
    world__shots="unhidden cuts storyboard",
    world__levels="grid_shape take connected maze lanes populate looks actions_of",
    world__mixture="sizes_of",
    # rules and look-ahead of the game, called a hundred times a move by `policy`
    world__game=(
        "beside State find floor walk patrol step walls_open coins_return distances legal_moves "
        "survives safe_moves policy_moves random_policy"),
    # facts and captions of a scene, parts of `facts_of` and `write`
    world__captions="short medium",
    world__clauses=(
        "story film descriptive object_clauses relation_clauses story_clauses scene_clauses "
        "detailed"),
    world__facts=(
        "count_name Fact inverse size_of speed_of motion_of object_facts over_time relation passing "
        "relation_facts hiding_facts hit_facts framing_facts scene_facts"),
    world__game_facts="move_of moves_of ending game_record steps_of game_facts",
    world__game_words=(
        "figure collects runs moves game_short floor_words game_medium game_clauses "
        "game_descriptive write_game"),
    world__interaction_facts=(
        "form_of way_of paint_facts side_of bite_facts prop_facts interaction_facts"),
    world__interaction_words=(
        "stories kinds_of tell_stroke tell_bite tell_after interaction_short interaction_medium "
        "interaction_clauses"),
    world__layout="cell layout_facts",
    world__words="Caption predicates vocabulary says states with_article Voice",
    # parts of the readers: `read` calls them with a Video, which has been checked
    probes__arcade=(
        "Raster ticks empty_board Board tile_colors distances read_board occupants places "
        "around body_weights form forms last_known GameReading likeness guess_game"),
    probes__backdrop="Palette palette light_and_tone checker_score likeness camera_scores",
    probes__points=(
        "solve Sight whole_frames stand pixel_of sight hides sights pan_residual shake"),
    probes__ground="map_points Floor rectify agreement best_pace Ground find_ground",
    probes__breaking=(
        "fixed Act shifted moment perform swapped reverse speed flat ways steps slow swing in_depth "
        "passed_on foremost act_of why_not recompressed"),
    probes__inliers="corners patches_at matches geometries sampson inliers_of",
    probes__consistency=(
        "Consistency worst_of draw_tracks draw_above draw_errors draw_ground loss_table prompts "
        "measure_all harmless_groups broken_groups strangers passed medians"),
    probes__hiding="slips hides place",
    probes__interaction=(
        "stands spill is_meal Figure solid at_column painting_figures meal_figures Interaction "
        "without on_time shows parts"),
    probes__laws="lifted explained name_flight sine name_round Hit knee collision",
    probes__meals=(
        "ground_path filled reach visits vertex food_history steps restless Meal manners marks "
        "meal"),
    probes__motions=(
        "measure crown anchor seen_well ground_track line looked_at name_motion only_hidden"),
    probes__parsers=(
        "Thing Tale Reading read_motion read_thing repeats read_tales read_scene read_take "
        "read_film relations passes filmed holds"),
    probes__pieces="runs pieces bridged counted how_many",
    probes__places="Spot find_spot free_edges names silhouette whole_box",
    probes__pixels=(
        "Footage hue_labels neighbours Track box_of follow find_tracks pose unproject sample "
        "free_ground pixel_grid"),
    probes__referee="Fault",
    probes__shapes=(
        "crop ShapeNet blur examples train_shapes training_flops accuracy make shape_net "
        "best_frames read_shapes"),
    probes__strokes=(
        "canvas_mask has_canvas spread stick_score find_tip off bridged behind_brush Paint "
        "follow_paint front form_and_way span last_move Stroke stroke_of"),
    probes__takes=(
        "squares leap cuts unmixed Take shot_errors read_takes swings name_swing film_motions"),
    probes__witness="is_game is_story",
    # parts of the evaluations: the functions evaluate_* have doors
    probes__calibration="read_family",
    probes__cases="search frozen remembered Case other other_camera",
    probes__diversity="apart difference variety fits siblings layout scene_layout layout_distance",
    probes__exact=(
        "Heads named faults exact_rows boxes free_spot broken_rows shuffled_rows imitator_rows "
        "exact_table"),
    probes__fidelity=(
        "normalised watch broken_tally groups Column judged controls column details by_family"),
    probes__tally="Tally tally shuffled_tally macro together",
    probes__values="value_rows value_table",
    probes__paired="difference Stopwatch seconds_alone",
    probes__reconstruction=(
        "constant shrunk shrinkings blocks linear decibels film_rows on_device references "
        "reconstruction_result"),
    probes__edits=(
        "truths share_true share_kept track_gap centers placed description alike identity "
        "largest_step crossing cross_fade straight_cut motion"),
    probes__trials="Change change_of changes summary best",
    probes__in_time=(
        "still_video prompted judged try_animate try_extend try_minute try_loop border_seam"),
    probes__in_space=(
        "succeeded colors_of edit_scores edited rewritten try_strengths try_edit try_rewrite try_connect "
        "box_of boxed try_inpaint "
        "edge_repeated try_outpaint try_enlarge stretched try_images"),
    probes__techniques="calls try_seconds",
    probes__results="repository commit machine results_folder",
    # controllers of widgets check what is set (test_widgets.py throws junk at `set`); drawing is for them
    widgets__base="Slider Choice Words Switch Controller",
    widgets__drawing="sheet beside below magnified framed ruled written titled tinted bars chart",
    widgets__panel="Latest surface_class made_of refresh quick_png small_png as_html said_of",
    widgets__patches="example_clips fill_first_row token_picture row_picture pairs film",
    widgets__noise=(
        "pixels_of asked path_chart snr_chart density law_chart levels_picture noisy_film"),
    widgets__vae="error_picture decibels latent_picture",
    widgets__depth="dotted from_above loss_bars solid_scenes",
    widgets__attention="patch_shares word_shares listen_in looked_at word_boxes",
    widgets__sketches=("Technique sketch cells pictures has_content content_pictures "
                       "start_pictures"),
    widgets__canvas="touched last_frames lines_of brush_framed playing",
    widgets__sampler="thumbnails sampling_sheet")

# Public and still without a door: a user might call them; their errors may come from the depths.
OPEN = _named(
    films="natural_clips",
    items="BlockMeans WorldItems encode_item",
    labels="Readout latent_misread misread pixel_codes",
    latents="LatentCache",
    lexicon="reader tell",
    plain="plain quoted",
    probes__fidelity="fidelity_result generated reconstruct table",
    probes__tally="scores",
    probes__meals="find_meal",
    probes__strokes="read_stroke",
    reading="answers learn_to_read",
    readings="readings",
    synonyms="conjugate plural",
    tuning="check_held_out clip_errors folder_psnr split_clips tune_vae",
    typos="Speller distance is_slip",
    vae_training="evaluate_vae")
