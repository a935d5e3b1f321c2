"""A damaged checkpoint is never loaded: the one before it is, and the steps since are made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_hyperlearn.testing.trainables import results
from raytune_hyperlearn.tune import ArbiterTrainable, FDSTrainable, HyperLearningTrainable, SGDTrainable
from raytune_hyperlearn.tune.checkpoint_files import DIGEST_FILE, STATE_FILE, read_checkpoint, write_checkpoint
from raytune_hyperlearn.tune.fds_members import Member
from tests.testing.test_conformance import TRAINABLES
from tests.tune.groups import member
from tests.tune.test_kept_state import spoil

HARMS = ("halved", "noise", "emptied", "lost")


@pytest.mark.parametrize("file", [STATE_FILE, DIGEST_FILE])
@pytest.mark.parametrize("harm", HARMS)
def test_the_newest_whole_checkpoint_is_read(
    tmp_path: Path, file: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / f"checkpoint_00000{number}" for number in (8, 9)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        write_checkpoint(folder, {"number": number})
        assert sorted(path.name for path in folder.iterdir()) == [STATE_FILE, DIGEST_FILE]
    assert read_checkpoint(folders[1]) == {"number": 1}
    assert read_checkpoint(folders[0]) == {"number": 0}  # nothing after it is looked at
    assert not caplog.messages
    spoil(folders[1] / file, harm)
    assert read_checkpoint(folders[1]) == {"number": 0}
    newest, before = (folder / STATE_FILE for folder in reversed(folders))
    assert caplog.messages == [f"{newest} is damaged; the one before is used, {before}"]
    spoil(folders[0] / file, harm)
    with pytest.raises(ValueError, match="it must be whole") as refused:
        read_checkpoint(folders[1])
    assert str(newest) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("trainable", [ArbiterTrainable, FDSTrainable, SGDTrainable])
def test_a_trial_goes_on_from_the_checkpoint_before_as_if_nothing_had_happened(
    tmp_path: Path, trainable: type[HyperLearningTrainable]
) -> None:
    (case,) = [case for case in TRAINABLES if case.trainable is trainable]
    expected = results(case.new(), 3)
    actor = case.new()
    for number in range(2):
        actor.train()
        saved = actor.save(str(tmp_path / f"checkpoint_00000{number}"))
    spoil(tmp_path / "checkpoint_000001" / STATE_FILE, "halved")
    restored = case.new()
    restored.restore(saved)
    assert restored.iteration == 2
    assert results(restored, 1) == expected[2:]


def test_a_member_of_a_group_makes_its_share_again(tmp_path: Path) -> None:
    share = Member(replica=0, ensemble=2)
    actor = member(share)
    actor.train()
    actor.save(str(tmp_path / "checkpoint_000000"))
    moved = {"outer_state": {**actor.outer.to_mapping(), "index": 1}}
    actor.apply_update(moved)
    actor.train()
    saved = actor.save(str(tmp_path / "checkpoint_000001"))
    spoil(tmp_path / "checkpoint_000001" / STATE_FILE, "halved")
    restored = member(share, **moved)  # a scheduler wrote its update into the config
    restored.restore(saved)
    assert restored.outer == actor.outer
    assert restored.outcome is not None
    assert actor.outcome is not None
    assert restored.outcome["hypergradient"] == actor.outcome["hypergradient"]
