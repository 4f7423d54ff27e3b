"""Inputs made by arithmetic: a sung vowel, a sine, a drawn line of text.

Rule: no file is downloaded and no random generator is global, so every machine feeds the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FORMANTS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "u": (300, 870, 2240)}
"""Resonances of three vowels in Hz (Peterson and Barney, 1952, adult male)."""
GLYPHS = {
    "d": "00001 00001 01101 10011 10001 10001 01111",
    "t": "01000 01000 11100 01000 01000 01001 00110",
    "f": "00110 01001 01000 11100 01000 01000 01000",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "2": "01110 10001 00001 00010 00100 01000 11111",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    " ": "00000 00000 00000 00000 00000 00000 00000",
}
"""A five by seven pixel font, as much of it as the examples write."""


def sine(hertz: float, samples: int, rate: int, amplitude: float = 0.5) -> Array:
    """A pure tone as float32."""
    time = np.arange(samples) / rate
    tone: Array = (amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
    return tone


def vowel(name: str, seconds: float, rate: int, pitch: float) -> Array:
    """A vowel with a falling pitch: harmonics weighted by their distance to its formants."""
    time = np.arange(int(seconds * rate)) / rate
    phase = np.cumsum(pitch * (1 - 0.2 * time / seconds)) / rate
    total = np.zeros_like(time)
    for harmonic in range(1, int(rate / 2 / pitch)):
        hertz = harmonic * pitch
        weight = sum(1 / (1 + ((hertz - formant) / 90) ** 2) for formant in FORMANTS[name])
        total += weight / harmonic**0.5 * np.sin(2 * np.pi * harmonic * phase)
    edge = np.minimum(time, time[::-1]) / 0.04
    sung: Array = total / np.abs(total).max() * np.minimum(1, edge)
    return sung


def speech(rate: int = 16_000) -> Array:
    """1.7 s of five sung vowels with pauses: enough like speech for a detector."""
    pause = np.zeros(int(0.06 * rate))
    parts = [np.zeros(rate // 8)]
    for number, name in enumerate("aiuai"):
        parts += [vowel(name, 0.25, rate, 140 - 5 * number), pause]
    hiss = np.random.default_rng(0)
    joined = 0.5 * np.concatenate(parts)
    return (joined + hiss.normal(0, 1e-3, len(joined))).astype(np.float32)


def noise(samples: int, amplitude: float, seed: int = 0) -> Array:
    """White noise as float32."""
    return np.random.default_rng(seed).normal(0, amplitude, samples).astype(np.float32)


def drawn_text(text: str, height: int, width: int) -> Array:
    """Dark letters on white, centred: a (height, width) image with values 0 to 255 as float32."""
    rows: list[Array] = []
    for letter in text:
        pixels = [[int(bit) for bit in row] for row in GLYPHS[letter].split()]
        rows.append(np.pad(np.array(pixels), ((0, 0), (0, 1))))
    small = np.concatenate(rows, axis=1)
    scale = min(height * 2 // 3 // small.shape[0], width // small.shape[1])
    large = np.kron(small, np.ones((scale, scale)))
    top, left = (height - large.shape[0]) // 2, (width - large.shape[1]) // 2
    image = np.full((height, width), 255.0, dtype=np.float32)
    image[top : top + large.shape[0], left : left + large.shape[1]] -= 225.0 * large
    return image
