"""Relations between WordNet's nouns, to be told from their two glosses.

An instance is the definition of one noun synset, a separator and the definition of another; its class is WordNet's
relation from the first to the second, or that there is none. Synsets are divided before pairs are drawn, so no gloss
is in both the training and the test set; unrelated pairs join sources and targets of the relations at random. The
classes are equally frequent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch

from raytune_hyperlearn.problems.data import MissingDataError
from raytune_hyperlearn.problems.examples import Examples

RELATIONS = ("kind of", "instance of", "part of", "member of", "unrelated")
"""Classes, in the order of their indices: what the first synset is to the second."""
TRAIN_PER_CLASS, TEST_PER_CLASS = 851, 200
SYSTEM_WORDNET = Path("/usr/share/wordnet")

PADDING, UNKNOWN, SEPARATOR = 0, 1, 2
GLOSS_WORDS = 16
"""Words kept of each gloss; longer ones are cut, which concerns one in five."""
LENGTH = 2 * GLOSS_WORDS + 1
VOCABULARY = 5_000
"""Token indices lie below this."""

_POINTERS = {"@": 0, "@i": 1, "#p": 2, "#m": 3}
_WORD = re.compile(r"[a-z]+|[0-9]+")
_TEST_SHARE = 0.25

Pair = tuple[int, int]
"""Offsets of two synsets in WordNet's file."""


def wordnet_relations(folder: Path = SYSTEM_WORDNET) -> tuple[Examples, Examples]:
    """Relation classification over glosses: 4,255 training and 1,000 test pairs.

    Inputs are token indices [N, :data:`LENGTH`]; targets index :data:`RELATIONS`.

    Args:
        folder: Holds WordNet's ``data.noun``.

    Raises:
        MissingDataError: If it does not.
    """
    file = folder / "data.noun"
    if not file.is_file():
        raise MissingDataError(f"WordNet is not in {folder}; install Debian's package wordnet-base")
    glosses, related = read_nouns(file)
    generator = np.random.default_rng(0)
    offsets = np.array(sorted(glosses))
    generator.shuffle(offsets)
    cut = round(_TEST_SHARE * len(offsets))
    test = _draw(related, set(offsets[:cut].tolist()), TEST_PER_CLASS, generator)
    train = _draw(related, set(offsets[cut:].tolist()), TRAIN_PER_CLASS, generator)
    seen = Counter(word for pairs in train for pair in pairs for offset in pair for word in glosses[offset])
    ranked = sorted(seen, key=lambda word: (-seen[word], word))[: VOCABULARY - SEPARATOR - 1]
    vocabulary = {word: index for index, word in enumerate(ranked, start=SEPARATOR + 1)}
    return _examples(train, glosses, vocabulary), _examples(test, glosses, vocabulary)


def read_nouns(file: Path) -> tuple[dict[int, list[str]], list[list[Pair]]]:
    """Words of every noun's definition by offset, and the related pairs of each class but the last."""
    glosses: dict[int, list[str]] = {}
    related: list[list[Pair]] = [[] for _ in _POINTERS]
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):  # the license
            continue
        data, _, gloss = line.partition("|")
        fields = data.split()
        offset = int(fields[0])
        definition = gloss.partition('"')[0]  # examples are quoted
        glosses[offset] = _WORD.findall(definition.lower())[:GLOSS_WORDS]
        first = 4 + 2 * int(fields[3], 16)  # after the synset's words, whose number is hexadecimal
        for start in range(first + 1, first + 1 + 4 * int(fields[first]), 4):
            symbol, target, part_of_speech = fields[start : start + 3]
            if symbol in _POINTERS and part_of_speech == "n":
                related[_POINTERS[symbol]].append((offset, int(target)))
    return glosses, related


def _draw(
    related: Sequence[Sequence[Pair]], allowed: set[int], per_class: int, generator: np.random.Generator
) -> list[list[Pair]]:
    """``per_class`` pairs of each class with both synsets among the allowed ones."""
    drawn = []
    for pairs in related:
        inside = [pair for pair in pairs if allowed.issuperset(pair)]
        chosen = generator.choice(len(inside), per_class, replace=False)
        drawn.append([inside[index] for index in chosen])
    known = {pair for pairs in related for pair in pairs}
    sources, targets = ([pair[side] for pairs in drawn for pair in pairs] for side in (0, 1))
    unrelated: dict[Pair, None] = {}
    while len(unrelated) < per_class:
        source, target = sources[generator.integers(len(sources))], targets[generator.integers(len(targets))]
        if source != target and known.isdisjoint({(source, target), (target, source)}):
            unrelated[source, target] = None
    return [*drawn, list(unrelated)]


def _examples(drawn: Sequence[Sequence[Pair]], glosses: dict[int, list[str]], vocabulary: dict[str, int]) -> Examples:
    count = len(drawn[0])
    tokens = torch.full((len(drawn) * count, LENGTH), PADDING)
    for row, (index, position) in enumerate(product(range(len(drawn)), range(count))):
        first, second = (
            [vocabulary.get(word, UNKNOWN) for word in glosses[offset]] for offset in drawn[index][position]
        )
        sequence = [*first, SEPARATOR, *second]
        tokens[row, : len(sequence)] = torch.tensor(sequence)
    return Examples(tokens, torch.arange(len(drawn)).repeat_interleave(count))
