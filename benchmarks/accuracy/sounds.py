"""Synthesized sounds as raw waveforms with noise, the same ones for the same seed."""

from __future__ import annotations

import numpy as np

LENGTH = 2048
RATE = 16_000

HALF, SHORT = 0.5, 0.2
"""Parts of a period."""


def sounds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms (count, 1, 2048) float32 and classes (count,): wave forms, and sines whose pitch or loudness moves.

    Pitch, phase, loudness and the level of the noise (from 12 dB below the
    sound to 8 dB above it) are random.
    """
    dice = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    dice.shuffle(labels)
    time = np.arange(LENGTH) / RATE
    waves = np.empty((count, LENGTH))
    for row, label in enumerate(labels):
        pitch = 110 * 2 ** dice.uniform(0, 4)
        wave = _wave(int(label), pitch, time, dice)
        noise = dice.normal(size=LENGTH) * wave.std() * 10 ** (dice.uniform(-12, 8) / 20)
        waves[row] = (wave + noise) * 10 ** (dice.uniform(-12, 0) / 20)
    return waves[:, np.newaxis].astype(np.float32), labels.astype(np.int64)


def _wave(label: int, pitch: float, time: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    turns = pitch * time + dice.uniform()
    slow = dice.uniform(15, 40) * time + dice.uniform()
    swept = pitch * time * dice.uniform(2, 4) * time / time[-1] / 2
    phase = turns % 1
    match label:
        case 0:
            wave = np.sin(2 * np.pi * turns)
        case 1:
            wave = np.where(phase < HALF, 1.0, -1.0)
        case 2:
            wave = 2 * phase - 1
        case 3:
            wave = 1 - 4 * np.abs(phase - HALF)
        case 4:
            wave = np.where(phase < SHORT, 1.0, -0.25)
        case 5:
            wave = np.sin(2 * np.pi * turns) * (1 + 0.8 * np.sin(2 * np.pi * slow))
        case 6:
            wave = np.sin(2 * np.pi * turns + 3 * np.sin(2 * np.pi * slow))
        case 7:
            wave = np.sin(2 * np.pi * (turns + swept))
        case 8:
            wave = np.sin(2 * np.pi * (turns + swept))[::-1]
        case _:
            wave = np.sin(2 * np.pi * turns) + np.sin(2 * np.pi * 1.5 * turns)
    return np.ascontiguousarray(wave)


FRAME = 1024
BINS = 360
CENTS_PER_BIN = 20
CENTS_OF_FIRST_BIN = 1997.3794  # above 10 Hz


def tones(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (count, 1024) float32 of mean 0 and deviation 1 as CREPE takes them, and the bin of each one's pitch.

    Tones of three octaves with up to eight overtones and noise 5 to 30 dB
    below them.
    """
    dice = np.random.default_rng(seed)
    time = np.arange(FRAME) / RATE
    frames = np.empty((count, FRAME))
    labels = np.empty(count, np.int64)
    for row in range(count):
        labels[row] = dice.integers(100, 280)
        cents = CENTS_OF_FIRST_BIN + CENTS_PER_BIN * (labels[row] + dice.uniform(-0.3, 0.3))
        pitch = 10 * 2 ** (cents / 1200)
        overtones = np.arange(1, dice.integers(2, 9))
        loudness = dice.uniform(0.2, 1, len(overtones)) / overtones
        phases = dice.uniform(0, 2 * np.pi, len(overtones))
        wave = (loudness[:, None] * np.sin(2 * np.pi * pitch * overtones[:, None] * time + phases[:, None])).sum(0)
        wave += dice.normal(size=FRAME) * wave.std() * 10 ** (dice.uniform(-30, -5) / 20)
        frames[row] = (wave - wave.mean()) / wave.std()
    return frames.astype(np.float32), labels
