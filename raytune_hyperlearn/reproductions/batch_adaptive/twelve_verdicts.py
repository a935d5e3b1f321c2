"""Judges what [BA] says of its twelve methods, over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from raytune_hyperlearn.comparison.reporting.wording import number, seconds
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import Seeds, Trajectories, Trajectory
from raytune_hyperlearn.reproductions.batch_adaptive.twelve_methods import GROUPS, M0, best_accuracy, group_of
from raytune_hyperlearn.reproductions.batch_adaptive.verdicts_over_seeds import (
    LEVEL,
    Values,
    below,
    final_loss,
    judge,
    judge_values,
    medians_of,
    per_seed,
    percent,
    spread_text,
)
from raytune_hyperlearn.reproductions.reproduction import Verdict


def is_among_lowest(losses: Values, name: str, allowed: int) -> bool | None:
    """Whether at most ``allowed`` of the others are clearly below; None if level ones decide that."""
    outcomes = [below(loss, losses[name]) for other, loss in losses.items() if other != name]
    lower, level = outcomes.count(True), outcomes.count(None)
    return None if lower <= allowed < lower + level else lower <= allowed


def loss_verdict(claim: str, trajectories: Trajectories, name: str, allowed: int) -> Verdict:
    """Whether the method of that name ends with at most so many of the others below it."""
    seeds = per_seed(trajectories, final_loss)
    judgement = judge_values(partial(is_among_lowest, name=name, allowed=allowed), seeds)
    medians = medians_of(seeds)
    order = ", ".join(f"{method} {number(medians[method])}" for method in sorted(medians, key=lambda key: medians[key]))
    places = ", ".join(str(1 + sum(loss < losses[name] for loss in losses.values())) for losses in seeds)
    return judgement.verdict(
        claim,
        f"Final training losses, medians over seeds: {order}. {name}'s place, seed by seed: {places}. Losses within "
        f"{100 * (LEVEL - 1):.0f} % of each other are level.",
    )


def pair_verdict(claim: str, trajectories: Trajectories, first: str, second: str) -> Verdict:
    """Whether the first ends below the second."""
    seeds = per_seed({name: trajectories[name] for name in (first, second)}, final_loss)
    judgement = judge_values(lambda losses: below(losses[first], losses[second]), seeds)
    parts = "; ".join(f"{name} {spread_text([losses[name] for losses in seeds])}" for name in (first, second))
    return judgement.verdict(claim, f"Final training losses, medians over seeds and ranges: {parts}.")


def manual_verdict(trajectories: Trajectories) -> Verdict:
    """BA against the schedule set by hand, with momentum and without."""
    seeds = per_seed(trajectories, final_loss)

    def better(losses: Values) -> bool | None:
        outcomes = [below(losses[f"BA-{group}"], losses[f"Manual-{group}"]) for group in GROUPS]
        return False if False in outcomes else None if None in outcomes else True

    medians = medians_of(seeds)
    parts = "; ".join(
        f"BA-{group} {number(medians[f'BA-{group}'])}, Manual-{group} {number(medians[f'Manual-{group}'])}"
        for group in GROUPS
    )
    return judge_values(better, seeds).verdict(
        "BA ends below Manual, with momentum and without.", f"Final training losses, medians over seeds: {parts}."
    )


def calm_verdict(trajectories: Trajectories) -> Verdict:
    """Whether BA-Momentum's loss rises in fewer late epochs than that of most constant batch sizes."""
    named = {name: own for name, own in group_of(trajectories, "Momentum").items() if not name.startswith("Manual")}
    seeds = per_seed(named, lambda trajectory: trajectory.rises)

    def calmer(shares: Values) -> bool:
        constant = [share for name, share in shares.items() if name != "BA-Momentum"]
        return 2 * sum(share > shares["BA-Momentum"] for share in constant) > len(constant)

    parts = ", ".join(f"{name} {percent(share)}" for name, share in medians_of(seeds).items())
    return judge_values(calmer, seeds).verdict(
        "Late in training BA-Momentum fluctuates less than most of the constant batch sizes.",
        f"Share of the second half's epochs that end with a higher loss than the one before, medians over seeds: "
        f"{parts}.",
    )


def size_quarters(trajectory: Trajectory) -> tuple[float, float]:
    """Mean batch size in the first and in the last quarter of the updates."""
    sizes = trajectory.sizes
    quarter = max(1, len(sizes) // 4)
    return float(sizes[:quarter].mean()), float(sizes[-quarter:].mean())


def sizes_verdict(claim: str, trajectories: Trajectories, rule: Callable[[tuple[Values, Values]], bool]) -> Verdict:
    """A rule on BA's mean batch sizes, by method, in the first and in the last quarter of the updates."""
    adaptive = {name: trajectories[name] for name in (f"BA-{group}" for group in GROUPS)}
    early = per_seed(adaptive, lambda trajectory: size_quarters(trajectory)[0])
    late = per_seed(adaptive, lambda trajectory: size_quarters(trajectory)[1])
    judgement = judge(rule, list(zip(early, late, strict=True)), (medians_of(early), medians_of(late)))
    return judgement.verdict(claim, sizes_sentence(adaptive))


def sizes_sentence(adaptive: Trajectories) -> str:
    """How batch sizes change, over seeds."""
    return "; ".join(f"{name}: {_sizes_text(own)}" for name, own in adaptive.items()) + "."


def _sizes_text(trajectories: Seeds) -> str:
    early, late = zip(*map(size_quarters, trajectories), strict=True)
    largest = [float(trajectory.sizes.max()) for trajectory in trajectories]
    if max(largest) <= M0:
        return f"never more than {M0}, so that it is Mini-{M0} with every seed"
    return (
        f"mean batch size {spread_text(early)} in the first quarter of the updates, {spread_text(late)} in the last, "
        f"largest {spread_text(largest)}"
    )


def accuracy_verdict(claim: str, trajectories: Trajectories, margins: Mapping[str, float]) -> Verdict:
    """Whether BA's best test accuracy is at most so far (by group) below the best of its group, as in table 1."""
    seeds = per_seed(trajectories, best_accuracy)

    def close(best: Values) -> bool:
        return all(_gap(best, group) <= margin + 1e-9 for group, margin in margins.items())

    medians = medians_of(seeds)
    parts = "; ".join(
        f"BA-{group} {percent(medians[f'BA-{group}'])}, {_leader_text(medians, group)}; seed by seed it is "
        f"{spread_text([100 * _gap(best, group) for best in seeds])} points below the best"
        for group in margins
    )
    return judge_values(close, seeds).verdict(
        claim,
        f"Medians over seeds: {parts}. As in the paper, each method's best epoch is taken by test accuracy itself.",
    )


def _gap(best: Values, group: str) -> float:
    return max(value for name, value in best.items() if name.endswith(group)) - best[f"BA-{group}"]


def _leader_text(best: Values, group: str) -> str:
    if _gap(best, group) == 0:
        return "the best of its group"
    name = max((name for name in best if name.endswith(group)), key=lambda name: best[name])
    return f"the best of its group {name} with {percent(best[name])}"


def clock_verdict(trajectories: Trajectories, rival: str = "Mini-32-Momentum", where: str = "") -> Verdict:
    """Seconds until the loss that the rival ends with, from the same seed.

    Args:
        trajectories: BA-Momentum's and the rival's, among others.
        rival: Its name.
        where: What the claim adds after the colon, such as "at 0.05 ".
    """
    adaptive = "BA-Momentum"
    targets = [trajectory.final_loss for trajectory in trajectories[rival]]
    seeds = [
        {name: seconds_to(trajectories[name][index], target) for name in (adaptive, rival)}
        for index, target in enumerate(targets)
    ]
    judgement = judge_values(lambda times: times[adaptive] < times[rival], seeds)
    parts = "; ".join(f"{name} {', '.join(_time_text(times[name]) for times in seeds)}" for name in (adaptive, rival))
    return judgement.verdict(
        f"Beyond the paper, which shows no times: {where}{adaptive} reaches {rival}'s final loss sooner.",
        f"After so much training, seed by seed: {parts}.",
    )


def seconds_to(trajectory: Trajectory, loss: float) -> float:
    """Seconds of training until the first epoch that ends with at most this loss; infinite if none does."""
    first = trajectory.first_below(loss)
    return math.inf if first is None else float(trajectory.seconds[first])


def _time_text(time: float) -> str:
    return seconds(time) if math.isfinite(time) else "never"
