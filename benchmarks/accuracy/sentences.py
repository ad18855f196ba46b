"""Sentences of tweets, reviews and editorials that people have rated, as words of MiniLM."""

from __future__ import annotations

import io
import tarfile
from functools import cache

import numpy as np
from accuracy.packaged import archive, file_of, member
from accuracy.zoo import minilm

LENGTH = 32
SEED = 5

NAME = "vaderSentiment-3.3.2"
COMMAND = "pip download --no-deps --no-binary :all: vaderSentiment==3.3.2"
FILES = ("tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")


@cache
def sentences() -> tuple[np.ndarray, np.ndarray]:
    """All sentences as word numbers (N, 32) int64, shuffled, and whether each was rated above 0 (N,)."""
    from tokenizers import Tokenizer  # noqa: PLC0415  # a package that a user may not have

    lines = [line.split("\t", 2) for line in rated()]
    reader = Tokenizer.from_file(str(file_of(minilm.PACKAGE, f"{minilm.FOLDER}/tokenizer.json")))
    reader.enable_truncation(LENGTH)
    reader.enable_padding(length=LENGTH)
    words = np.array([read.ids for read in reader.encode_batch([text for _, _, text in lines])], np.int64)
    liked = np.array([float(rating) > 0 for _, rating, _ in lines], np.int64)
    order = np.random.default_rng(SEED).permutation(len(lines))
    return words[order], liked[order]


def rated() -> list[str]:
    """Lines of a name, a mean rating from -4 to 4 and a sentence."""
    with archive(f"{NAME}.tar.gz", COMMAND) as outer:
        packed = member(outer, f"{NAME}/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(packed)) as inner:
        files = [member(inner, f"hutto_ICWSM_2014/{name}_GroundTruth.txt") for name in FILES]
    return [line for file in files for line in file.decode(errors="replace").splitlines()]
