import itertools

import pytest

from raytune_hyperlearn.algorithms.arbiter_controls import ConstantBatchSize, RandomWalk, ReplayedSchedule

RECORDED = [128, 140, 90, 90, 300, 64]


def schedule(agent: ReplayedSchedule | RandomWalk, epochs: int) -> list[int]:
    sizes = [agent.batch_size]
    for _ in range(epochs - 1):
        assert agent.observe() is None
        sizes.append(agent.end_epoch())
        assert sizes[-1] == agent.batch_size
    return sizes


def test_a_replay_is_the_record_and_stays_at_its_end() -> None:
    agent = ReplayedSchedule(RECORDED)
    assert schedule(agent, 8) == [*RECORDED, 64, 64]
    assert agent.warm_up(512) == 0
    assert agent.batch_size == 64


def test_the_constant_is_the_mean_over_epochs() -> None:
    agent = ConstantBatchSize(RECORDED)
    assert schedule(agent, 4) == [135] * 4  # 812 / 6 = 135.33
    assert agent.warm_up(512) == 0
    assert agent.batch_size == 135


def test_a_walk_takes_the_recorded_step_sizes_in_random_directions() -> None:
    walks = {tuple(schedule(RandomWalk(RECORDED, 1, 1000, seed), 6)) for seed in range(40)}
    for walk in walks:
        assert walk[0] == 128
        assert [abs(after - before) for before, after in itertools.pairwise(walk)] == [
            12,
            50,
            0,
            210,
            236,
        ]
    assert len({walk[1] for walk in walks}) == 2  # both signs occur
    assert len(walks) == 8  # every walk that the range admits


def test_a_walk_stays_in_its_range_and_turns_at_the_ends() -> None:
    for seed in range(20):
        walk = schedule(RandomWalk([100, 190, 100, 190, 100], 90, 200, seed), 5)
        assert walk == [100, 190, 100, 190, 100]  # only one direction ever fits
    # Neither 150 − 60 nor 150 + 60 fits: the walk stops at an end.
    ends = {schedule(RandomWalk([100, 160], 100, 160, seed), 2)[1] for seed in range(20)}
    assert ends == {160}
    stuck = set()
    for seed in range(20):
        agent = RandomWalk([100, 160], 100, 160, seed)
        agent.warm_up(130)
        stuck.add(agent.end_epoch())
    assert stuck == {100, 160}


def test_a_walk_goes_on_from_where_another_schedule_puts_it() -> None:
    agent = RandomWalk(RECORDED, 1, 1000, seed=0)
    assert agent.warm_up(500) == 0
    assert agent.end_epoch() in (488, 512)


def test_a_walk_stands_still_after_the_record() -> None:
    walk = schedule(RandomWalk(RECORDED, 1, 1000, seed=3), 10)
    assert len(set(walk[5:])) == 1


def test_a_walk_is_decided_by_its_seed() -> None:
    record = list(range(100, 200, 3))
    walks = [schedule(RandomWalk(record, 1, 1000, seed), len(record)) for seed in (1, 1, 2)]
    assert walks[0] == walks[1] != walks[2]


def test_controls_go_on_after_a_restore() -> None:
    record = list(range(100, 200, 3))
    for make in (
        lambda: RandomWalk(record, 1, 1000, seed=5),
        lambda: ReplayedSchedule(record),
        lambda: ConstantBatchSize(record),
    ):
        agent = make()
        schedule(agent, 10)
        state = agent.state_dict()
        expected = schedule(agent, 15)
        other = make()
        other.load_state_dict(state)
        assert schedule(other, 15) == expected


@pytest.mark.parametrize("record", [[], [0, 8], [8, -1]])
def test_records_that_hold_no_schedule_are_refused(record: list[int]) -> None:
    for make in (ReplayedSchedule, ConstantBatchSize, lambda r: RandomWalk(r, 1, 100, seed=0)):
        with pytest.raises(ValueError, match=r"^recorded must be at least one batch size, each at least 1, got"):
            make(record)


def test_a_record_outside_the_walks_range_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^recorded must be between min_batch_size = 100 .* and max_batch_size = 200, got"
    ):
        RandomWalk([100, 300], 100, 200, seed=0)
    with pytest.raises(ValueError, match=r"^batch_size must be between 100 and 200, got 250$"):
        RandomWalk([100, 150], 100, 200, seed=0).warm_up(250)
