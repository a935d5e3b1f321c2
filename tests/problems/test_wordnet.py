"""WordNet's relations: the file's format on a few made-up nouns, the whole data set where WordNet is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raytune_hyperlearn.problems import MissingDataError, load, wordnet
from raytune_hyperlearn.problems.examples import Examples

NOUNS = """\
  1 This software and database is being provided to you, the LICENSEE, by
00000100 03 n 01 wheel 0 002 #p 00000200 n 0000 + 00000300 v 0101 | a round thing; "the wheel | turned"
00000200 03 n 0b car 0 auto 0 a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 001 @ 00000100 n 0000 | it has 4 Wheels (mostly)
"""


def test_reads_glosses_and_pointers(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(NOUNS)
    glosses, related = wordnet.read_nouns(tmp_path / "data.noun")
    assert glosses == {100: ["a", "round", "thing"], 200: ["it", "has", "4", "wheels", "mostly"]}
    assert related == [[(200, 100)], [], [(100, 200)], []]


def test_missing_wordnet_is_one_line_that_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="install Debian's package wordnet-base") as refused:
        wordnet.wordnet_relations(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def parts() -> tuple[Examples, Examples]:
    if not (wordnet.SYSTEM_WORDNET / "data.noun").is_file():
        pytest.skip("Debian's package wordnet-base is not installed")
    return wordnet.wordnet_relations()


def test_counts_and_classes(parts: tuple[Examples, Examples]) -> None:
    train, test = parts
    assert torch.bincount(train.targets).tolist() == [851] * 5
    assert torch.bincount(test.targets).tolist() == [200] * 5
    assert len(load("wordnet-relations").split(0).train) == 3_855


def test_every_sequence_holds_two_glosses(parts: tuple[Examples, Examples]) -> None:
    tokens = torch.cat([part.inputs for part in parts])
    assert (tokens == wordnet.SEPARATOR).sum(dim=1).unique().tolist() == [1]
    assert int(tokens.max()) < wordnet.VOCABULARY
    padded = tokens == wordnet.PADDING
    assert torch.equal(padded.long().cummax(dim=1).values.bool(), padded), "padding comes last"


def test_no_pair_is_in_both_parts_and_every_call_draws_the_same(parts: tuple[Examples, Examples]) -> None:
    train, test = (set(map(tuple, part.inputs.tolist())) for part in parts)
    assert not train & test
    again = wordnet.wordnet_relations()
    assert torch.equal(again[0].inputs, parts[0].inputs)
