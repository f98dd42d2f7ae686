"""Bad input of every kind, from a fixed seed, and what may become of it: an answer or a refusal."""
import faulthandler
import linecache
import math
import resource
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sora_nb

PACKAGE = Path(sora_nb.__file__).parent
SECONDS, BYTES, CHARACTERS = 20, 3 << 30, 1500      # of CPU and of memory an input; of a message
TRIED: Counter = Counter()                          # door -> inputs that were really tried

# --- what is thrown -------------------------------------------------------------------------------
NAN = math.nan
TEXTS = ("", "64", "\0", "a\0b", "x" * 100_000, "מכונית אדומה ‮ اردو", "🚗" * 50, "..", "/", "a/b",
         "<script>alert('x')</script>", "<img src=x onerror=alert(1)> a red ball", "\ud800", "nan",
         "a red ball\n" * 3, "%s {0} {x!r}", "; rm -rf x", "-1", "/dev/null", "/proc/self/mem")
NUMBERS = (0, -1, 1, 10**9, -10**9, 10**400, 2**63, 7.5, -0.5, NAN, math.inf, -math.inf, 1e308,
           5e-324, True, 1j, np.float32(2), np.int8(-3))
THINGS = (None, b"bytes", [], (), {}, set(), object(), len, int, [None], ["a", 1], [[1, 2], [3]],
          {"a": 1}, {1: None}, slice(None), ..., range(3), [10**9], (64, "64"), (0, 0), (-1, 7.5),
          (10**9, 10**9), [NAN], iter(()), Path("nowhere"), ValueError("x"), [0] * 1000)


def arrays() -> tuple:
    "Made anew each time: some functions write into what they get."
    return (np.zeros(0), np.full((2, 3), NAN), np.zeros((1, 2, 3, 4)), np.array(["a"]), np.array(3),
            np.array([None, 1], object), np.zeros((3, 5, 16, 16, 3), np.uint8),
            np.zeros((2, 0, 16, 3), np.uint8), np.full((2, 16, 16, 3), 300), np.zeros((2, 2), bool))


def tensors() -> tuple:
    return (torch.zeros(0), torch.tensor(NAN), torch.full((3, 5, 16, 16), NAN), torch.zeros(80, 64),
            torch.full((1, 3, 5, 16, 16), NAN), torch.zeros(1, 3, 0, 16, 16), torch.zeros(2, 2).long(),
            torch.zeros(4, 4, dtype=torch.complex64), torch.ones(3, dtype=torch.bool),
            torch.full((4, 6), math.inf), torch.zeros(1, 16, 2, 2, 2), torch.zeros(1, 3, 5, 7, 9),
            torch.zeros(2, 3, device="meta"), torch.zeros(1, 1, 1, 1, 1, 1), torch.zeros(3, 2**40, 0))


JUNK = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(THINGS),
                 st.integers(0, 9).map(lambda k: arrays()[k]),
                 st.integers(0, 14).map(lambda k: tensors()[k]),
                 st.integers(), st.floats(), st.text(max_size=30),
                 st.lists(st.integers(-9, 9), max_size=4), st.lists(st.text(max_size=3), max_size=3),
                 st.dictionaries(st.text(max_size=3), st.none() | st.integers(), max_size=2))


@st.composite
def spoiled(draw, good: dict) -> dict:
    "Good arguments of which one or two are junk."
    wrong = draw(st.lists(st.sampled_from(sorted(good)), min_size=1, max_size=2, unique=True))
    return {**good, **{name: draw(JUNK) for name in wrong}}


@st.composite
def bytes_of(draw, good: bytes) -> bytes:
    "A good file with some bytes changed, cut out or doubled, or cut off."
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)) | st.integers(0, min(len(data), 400)))
        size = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(("change", "cut", "double", "end", "noise", "insert")))
        part = dict(change=draw(st.binary(min_size=1, max_size=4)), cut=b"", end=b"",
                    double=bytes(data[at:at + size]) * 2, noise=bytes([at % 256]) * size,
                    insert=draw(st.sampled_from((b"\xff\xff\xff\xff", b"{", b"NaN", b"\0", b'"'))))
        data[at:len(data) if kind == "end" else at + (0 if kind == "insert" else size)] = part[kind]
    return bytes(data)


# --- what may become of it ------------------------------------------------------------------------
def check_refusal(error: BaseException) -> None:
    "It was raised by our `raise`, is of a kind that callers expect, and says something, shortly."
    text = str(error)
    assert isinstance(error, (ValueError, TypeError, IndexError, OSError)), f"{type(error)}: {text}"
    frame = list(traceback.walk_tb(error.__traceback__))[-1]
    code = frame[0].f_code
    line = linecache.getline(code.co_filename, frame[1]).strip()
    from_system = isinstance(error, OSError) and error.filename is not None
    ours = PACKAGE in Path(code.co_filename).parents and line.startswith("raise")
    assert ours or from_system, f"{type(error).__name__} from the depths: {text[:200]!r} ({line})"
    assert text.strip() and len(text) <= CHARACTERS, f"{len(text)} characters: {text[:80]!r}"


def check_answer(answer) -> None:
    "No number in it is NaN."
    for part in answer if isinstance(answer, (tuple, list)) else [answer]:
        if isinstance(part, torch.Tensor) and part.is_floating_point() and not part.is_meta:
            assert not part.isnan().any(), "an answer holds NaN"
        assert not (isinstance(part, float) and math.isnan(part)), "the answer is NaN"


@contextmanager
def limits():
    "A limit of CPU time and of memory; a hang in C code ends the process with a traceback."
    def late(*_):
        raise AssertionError(f"hangs: more than {SECONDS} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(600, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


def attempt(door: str, call: Callable, given_arguments: dict, answers: bool = True) -> None:
    "One input: counted, limited, judged."
    TRIED[door] += 1
    try:
        with limits(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = call(**given_arguments)
    except AssertionError:
        raise
    except Exception as error:
        check_refusal(error)
    else:
        if answers:
            check_answer(answer)


def storm(name: str, call: Callable, inputs, tries: int, answers: bool = True) -> None:
    "`tries` generated inputs for one door, always the same ones. `inputs`: of keyword arguments."
    @settings(max_examples=tries, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))
    @given(inputs)
    def run(given_arguments):
        attempt(name, call, given_arguments, answers)

    run()
