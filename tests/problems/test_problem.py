from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raytune_hyperlearn.problems import Examples, Fields, Problem, batches, evaluate
from raytune_hyperlearn.problems.problem import correct, cross_entropy

N = 23


def numbered(count: int = N) -> Examples:
    """Every example's input is its own number, its target the remainder by 3."""
    numbers = torch.arange(count)
    return Examples(numbers[:, None].float(), numbers % 3)


def problem(**changes: Any) -> Problem:
    settings: dict[str, Any] = {"batch_size": 4, "train": numbered(), "test": numbered(5)} | changes
    return Problem(name="numbers", model=lambda: nn.Linear(1, 3), **settings)


def numbers(examples: Examples) -> list[int]:
    return [int(value) for value in examples.inputs[:, 0]]


# -------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(("fraction", "held_out"), [(0.2, 5), (0.5, 12), (0.01, 1), (0.05, 1)])
def test_a_split_is_a_partition_of_the_training_examples(fraction: float, held_out: int) -> None:
    mine = problem(validation_fraction=fraction)
    split = mine.split(seed=3)
    assert len(split.validation) == mine.validation_size == held_out
    assert sorted(numbers(split.train) + numbers(split.validation)) == list(range(N))
    for part in (split.train, split.validation):
        assert torch.equal(part.targets, part.inputs[:, 0].long() % 3)


def test_a_split_depends_on_the_seed_alone() -> None:
    first = problem().split(seed=3)
    with torch.random.fork_rng():
        torch.rand(7)
        again = problem(epochs=99).split(seed=3)
    assert numbers(first.train) == numbers(again.train)
    assert numbers(first.validation) == numbers(again.validation)
    splits = {tuple(sorted(numbers(problem().split(seed).validation))) for seed in range(20)}
    assert len(splits) > 15


@pytest.mark.parametrize("several", [False, True])
def test_the_parts_of_a_split_give_what_copies_would_and_share_the_problems_memory(several: bool) -> None:
    images = torch.arange(N * 24.0).view(N, 4, 2, 3).permute(0, 3, 1, 2)  # not in the order of memory
    inputs = {"images": images, "numbers": torch.arange(N)} if several else images
    whole = Examples(inputs, torch.arange(N) % 3)
    mine = Problem("images", lambda: nn.Linear(1, 3), whole, numbered(5), batch_size=4)
    order = torch.cat([part.rows for part in (mine.split(1).validation, mine.split(1).train)])  # type: ignore[attr-defined]
    assert sorted(order.tolist()) == list(range(N))
    for part, rows in ((mine.split(1).train, order[5:]), (mine.split(1).validation, order[:5])):
        assert part.whole is whole  # type: ignore[attr-defined]
        copy = whole[rows]
        for seen, expected in zip(batches(part, 3, 9, seed=2), batches(copy, 3, 9, seed=2), strict=True):
            same(seen[0], expected[0])
            assert torch.equal(seen[1], expected[1])
        for changed in (part, part.read(), part.to("cpu"), part.chosen(torch.arange(len(part)))):
            same(changed.inputs, copy.inputs)
            assert torch.equal(changed.targets, copy.targets)
        same(part.chosen(torch.tensor([2, 0]))[slice(1, 2)].inputs, copy[slice(0, 1)].inputs)
        assert part.to("cpu", torch.float64)[slice(0, 1)].targets.dtype == torch.int64


def same(seen: Any, expected: Any) -> None:
    """Equal values in the same order of memory."""
    if isinstance(expected, Fields):
        for name, tensor in expected.tensors.items():
            same(seen.tensors[name], tensor)
        return
    assert torch.equal(seen, expected)
    assert seen.stride() == expected.stride()


def test_the_horizon_counts_whole_batches_of_the_training_part() -> None:
    mine = problem()  # 18 training examples: 4 batches of 4
    assert [mine.horizon(epochs) for epochs in (1, 3, 0.5, 0.01)] == [4, 12, 2, 1]
    assert mine.horizon(2, batch_size=5) == 6
    assert mine.horizon(2, batch_size=18) == 2


# ------------------------------------------------------------------------------------------- batches


def test_every_pass_is_a_new_order_without_replacement() -> None:
    examples, per_pass = numbered(), 5
    drawn = [[int(x) for x in inputs[:, 0]] for inputs, _ in batches(examples, 4, 3 * per_pass, seed=1)]
    assert len(drawn) == 15
    assert {len(batch) for batch in drawn} == {4}
    passes = [list(itertools.chain(*drawn[start : start + per_pass])) for start in (0, 5, 10)]
    for one in passes:
        assert len(set(one)) == 20  # the 3 that are left at the end of a pass are dropped
    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert len({frozenset(one) for one in passes}) > 1  # and they are not always the same 3


def test_targets_stay_with_their_inputs() -> None:
    for inputs, targets in batches(numbered(), 4, 12, seed=0):
        assert torch.equal(targets, inputs[:, 0].long() % 3)


def shifted(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return inputs + torch.rand(len(inputs), 1, generator=generator)


@pytest.mark.parametrize("augmentation", [None, shifted])
@pytest.mark.parametrize("first", [0, 1, 4, 5, 7, 12])
def test_training_can_go_on_from_any_step(first: int, augmentation: Any) -> None:
    whole = list(batches(numbered(), 4, 12, seed=1, augmentation=augmentation))
    rest = list(batches(numbered(), 4, 12, seed=1, augmentation=augmentation, first=first))
    assert len(rest) == 12 - first
    for (inputs, targets), (same_inputs, same_targets) in zip(rest, whole[first:], strict=True):
        assert torch.equal(inputs, same_inputs)
        assert torch.equal(targets, same_targets)


def test_more_steps_do_not_change_the_first_ones() -> None:
    short, long = (list(batches(numbered(), 4, steps, seed=1, augmentation=shifted)) for steps in (6, 11))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(short, long, strict=False))


def test_batches_depend_on_the_seed_alone_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first = [inputs for inputs, _ in batches(numbered(), 4, 6, seed=1, augmentation=shifted)]
    again = [inputs for inputs, _ in batches(numbered(), 4, 6, seed=1, augmentation=shifted)]
    other = [inputs for inputs, _ in batches(numbered(), 4, 6, seed=2, augmentation=shifted)]
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert not torch.equal(torch.stack(first), torch.stack(other))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_augmentation_draws_anew_for_every_batch_and_changes_no_example() -> None:
    examples = numbered()
    shifts = torch.cat([inputs % 1 for inputs, _ in batches(examples, 4, 6, seed=1, augmentation=shifted)])
    assert len(shifts.unique()) == shifts.numel()
    assert torch.equal(examples.inputs, numbered().inputs)


@pytest.mark.parametrize("size", [0, -1, N + 1])
def test_a_batch_size_that_the_examples_do_not_allow_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"^batch_size is {size}; it must lie in \[1, {N}\]$"):
        next(batches(numbered(), size, 3, seed=0))


def test_a_batch_may_hold_every_example() -> None:
    ((inputs, _),) = batches(numbered(), N, 1, seed=0)
    assert sorted(inputs[:, 0].int().tolist()) == list(range(N))


# ---------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("rows", [1, 7, N, 1000])
def test_an_evaluation_is_the_mean_over_examples_whatever_the_batches(rows: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(1, 3)
    examples = numbered()
    loss, accuracy = evaluate(model, problem(), examples, batch_size=rows)
    outputs = model(examples.inputs)
    assert loss == pytest.approx(F.cross_entropy(outputs, examples.targets).item(), rel=1e-5)
    assert accuracy == (outputs.argmax(dim=1) == examples.targets).double().mean().item()
    assert 0 < accuracy < 1


def test_an_evaluation_uses_the_problems_own_loss_and_score() -> None:
    def error(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).abs()

    mine = problem(loss=error, score=lambda outputs, targets: (error(outputs, targets) < 5).float())
    loss, score = evaluate(lambda inputs: inputs, mine, numbered(9))
    assert loss == pytest.approx(sum(n - n % 3 for n in range(9)) / 9)
    assert score == pytest.approx(6 / 9)


def test_losses_and_scores_are_one_number_per_example() -> None:
    outputs, targets = torch.tensor([[0.0, 2.0], [3.0, 0.0]]), torch.tensor([1, 1])
    torch.testing.assert_close(
        cross_entropy(outputs, targets), torch.tensor([2.0, 3.0]).neg().exp().log1p() + torch.tensor([0.0, 3.0])
    )
    assert correct(outputs, targets).tolist() == [1.0, 0.0]


# ------------------------------------------------------------------------------------ records, errors


def test_a_problem_of_other_precision_casts_inputs_and_not_class_indices() -> None:
    moved = problem().to("cpu", torch.float64)
    assert moved.train.inputs.dtype == moved.test.inputs.dtype == torch.float64
    assert moved.train.targets.dtype == torch.int64
    assert problem().train.inputs.dtype == torch.float32
    tokens = Examples(torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4))
    assert tokens.to("cpu", torch.float64).inputs.dtype == torch.int64
    assert tokens.to("cpu", torch.float64).targets.dtype == torch.float64


def test_examples_are_indexed_by_rows() -> None:
    examples = numbered()
    assert numbers(examples[torch.tensor([3, 1])]) == [3, 1]
    assert numbers(examples[slice(2, 5)]) == [2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_fraction": 0.0}, r"validation_fraction is 0.0; it must lie in \(0, 1\)"),
        ({"validation_fraction": 1.0}, r"validation_fraction is 1.0; it must lie in \(0, 1\)"),
        ({"batch_size": 0}, "batch_size is 0; numbers allows 1 to 18"),
        ({"batch_size": 19}, "batch_size is 19; numbers allows 1 to 18"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
    ],
)
def test_what_a_problem_does_not_allow_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        problem(**changes)


def test_examples_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^targets has 3 rows; it must have as many as inputs, 4$"):
        Examples(torch.zeros(4, 1), torch.zeros(3))
