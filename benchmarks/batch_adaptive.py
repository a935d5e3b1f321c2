"""What batch adaptive training costs, as ratios within one run.

The network is the paper's for Fashion-MNIST: three 3×3 convolutions (32, 64, 128), each with max-pooling, ReLU and
dropout, and a linear layer. Four parts:

- variance: mean gradient and variance along it, against the mean gradient alone, on the same batch; and against
  the straightforward way to it, one backward pass per instance and the variance of these gradients.
- growth: a batch grown in k enlargements, with the variance after each, against the same batch at once.
- choice: computing m*, against one iteration of m0 = 32.
- time: wall-clock until a training loss that Mini-32 with momentum reaches, on Fashion-MNIST; evaluations are not
  counted. BA and Mini-32 share data, initialization and training code. How often an instance is projected in
  training tells what growth costs in practice: where no size lowers the loss, batches grow without any variance.

Calls alternate within a round and the median over rounds of a ratio is reported, so that a change of the machine's
speed meets all of them. With one thread on a CPU the clock is the process's own CPU time, which other processes on the
same cores disturb least; otherwise it is wall-clock. The first three parts use random images and need no data.
"""

import argparse
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.smoke import parse as parse_sizes
from benchmarks.tables import print_table
from benchmarks.timing import Call, alternating, seconds
from raytune_hyperlearn.algorithms.batch_adaptive import GaussianWalkRule
from raytune_hyperlearn.algorithms.ruled_sgd import BatchStatistics, Progress, RuledSGD
from raytune_hyperlearn.algorithms.sampler import EpochSampler
from raytune_hyperlearn.baselines.batch_sizes import Constant
from raytune_hyperlearn.derivatives.micro_batches import MicroBatches
from raytune_hyperlearn.derivatives.projections import Instances
from raytune_hyperlearn.derivatives.variance import GrowingBatch, InstanceMoments, ProjectedVariance

PARTS = ("variance", "growth", "choice", "time")
GOALS = {
    "exact": 2.2,
    "diagonal": 3.5,
    "exact against a loop, cpu": 2.5,
    "exact against a loop, cuda": 10.0,
    "growth": 1.5,
    "choice": 0.01,
}
AGAINST_A_LOOP = (
    ("loop", "exact"),
    ("loop", "exact, channels last"),
    ("loop, channels last", "exact, channels last"),
)
M0 = 32


def network(seed: int, device: torch.device) -> nn.Module:
    """The paper's three convolutions for 28×28 gray images; 104,202 parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(0.25)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1152, 10)).to(device)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """One loss per instance."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def random_batch(m: int, device: torch.device) -> Instances:
    """m images of noise and their classes."""
    generator = torch.Generator().manual_seed(m)
    images = torch.randn(m, 1, 28, 28, generator=generator)
    return Instances(images.to(device), torch.randint(10, (m,), generator=generator).to(device), seed=0)


def at_once(batch: GrowingBatch, parts: list[Instances]) -> Call:
    """Grows ``batch`` by ``parts`` and reads the variance along its gradient after each."""

    def call() -> None:
        batch.begin()
        for part in parts:
            batch.enlarge(part)
            variance = batch.variance_along(batch.gradient)
            assert variance is not None
            variance.item()

    return call


def mean_gradient(model: nn.Module, batch: Instances) -> Call:
    """The mean gradient by one backward pass."""
    parameters = list(model.parameters())
    return lambda: torch.autograd.grad(functional.cross_entropy(model(batch.inputs), batch.targets), parameters)


def instance_by_instance(model: nn.Module, batch: Instances) -> Call:
    """The straightforward way to the variance: one backward pass per instance."""
    parameters = list(model.parameters())

    def call() -> None:
        rows = []
        for x, y in zip(batch.inputs, batch.targets, strict=True):
            gradient = torch.autograd.grad(functional.cross_entropy(model(x[None]), y[None]), parameters)
            rows.append(torch.cat([g.flatten() for g in gradient]))
        gradients = torch.stack(rows)
        (gradients @ gradients.mean(dim=0)).var().item()

    return call


def variance_costs(m: int, device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """Each way to the variance against the mean gradient alone, on the same m instances."""
    model = network(0, device)
    batch = random_batch(m, device)
    last = network(0, device).to(memory_format=torch.channels_last)
    calls: dict[str, Call] = {
        "plain": mean_gradient(model, batch),
        "exact": at_once(ProjectedVariance(model, cross_entropy, MicroBatches()), [batch]),
        "plain, channels last": mean_gradient(last, batch),
        "exact, channels last": at_once(ProjectedVariance(last, cross_entropy, MicroBatches()), [batch]),
        "diagonal": at_once(InstanceMoments(model, cross_entropy, MicroBatches()), [batch]),
    }
    for method in ("double-backward", "forward-mode"):
        general = ProjectedVariance(model, cross_entropy, MicroBatches(), method=method)
        calls[f"exact, {method}"] = at_once(general, [batch])
    if m == 128:
        calls["loop"] = instance_by_instance(model, batch)
        calls["loop, channels last"] = instance_by_instance(last, batch)
    return alternating(calls, repeats, device)


def growth_costs(m: int, device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """A batch of m grown by M0 at a time against the same batch at once; "newest" against "exact" at once."""
    model = network(0, device)
    batch = random_batch(m, device)
    parts = [batch.part(start, start + M0) for start in range(0, m, M0)]

    def projected(scope: Literal["batch", "newest"]) -> GrowingBatch:
        return ProjectedVariance(model, cross_entropy, MicroBatches(), scope=scope)

    calls = {
        "exact at once": at_once(projected("batch"), [batch]),
        "exact": at_once(projected("batch"), parts),
        "newest": at_once(projected("newest"), parts),
        "diagonal at once": at_once(InstanceMoments(model, cross_entropy, MicroBatches()), [batch]),
        "diagonal": at_once(InstanceMoments(model, cross_entropy, MicroBatches()), parts),
    }
    measured = alternating(calls, repeats, device)
    for name in ("diagonal at once", "diagonal"):
        measured[name]["ratio"] = measured[name]["seconds"] / measured["diagonal at once"]["seconds"]
    return measured


def choice_costs(device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """m* by bisection, from statistics whose m* lies between 1 and the bound, against one iteration."""
    model = network(0, device)
    batch = random_batch(M0, device)
    rule = GaussianWalkRule(M0)
    progress = Progress(instances=0, epochs=0.0, max_batch_size=60_000, learning_rate=0.02)
    statistics_of_batch = BatchStatistics(
        M0, loss=0.5, gradient_norm_squared=1.0, drift=2.0, variance_along_gradient=lambda: 1e5
    )
    between = rule.choose_size(progress, statistics_of_batch)
    assert 1 < between < progress.max_batch_size

    def choose_a_hundred_times() -> None:
        for _ in range(100):
            rule.choose_size(progress, statistics_of_batch)

    calls = {
        "iteration": at_once(ProjectedVariance(model, cross_entropy, MicroBatches()), [batch]),
        "choice": choose_a_hundred_times,
    }
    measured = alternating(calls, repeats, device)
    return {
        "iteration": measured["iteration"],
        "choice": {key: value / 100 for key, value in measured["choice"].items()},
    }


class CountingRule(GaussianWalkRule):
    """Counts the instances that were projected because the rule asked for a variance."""

    projected = 0

    def choose_size(self, progress: Progress, batch: BatchStatistics | None) -> int:
        """m*."""
        chosen = super().choose_size(progress, batch)
        if batch is not None and "variance_along_gradient" in vars(batch):
            self.projected += batch.size if self.variance == "exact" else min(batch.size, M0)
        return chosen


def time_to_loss(device: torch.device, images: int, epochs: int, lr: float, bound: int) -> dict[str, Any]:
    """Loss on all training images against seconds and epochs, for Mini-32, BA exact and BA newest, momentum 0.9."""
    from raytune_hyperlearn.problems.data import fashion_mnist

    train, _ = fashion_mnist()
    inputs, targets = train.inputs[:images].to(device), train.targets[:images].to(device)
    curves: dict[str, list[dict[str, float]]] = {}
    projected: dict[str, float] = {}
    for name in ("mini-32", "exact", "newest"):
        model = network(1, device)
        sampler = EpochSampler(inputs, targets, seed=0)
        settings: dict[str, Any] = {"lr": lr, "momentum": 0.9, "max_batch_size": bound}
        if name == "mini-32":
            optimizer: RuledSGD = RuledSGD(model, cross_entropy, sampler, Constant(M0), **settings)
        else:
            optimizer = RuledSGD(model, cross_entropy, sampler, CountingRule(M0, covariance=name), **settings)
        elapsed, curve = 0.0, []
        for epoch in range(1, epochs + 1):
            sizes: list[int] = []

            def train_for_an_epoch(optimizer=optimizer, sampler=sampler, epoch=epoch, sizes=sizes) -> None:
                while sampler.epochs < epoch:
                    sizes.append(optimizer.step().batch_size)

            elapsed += seconds(train_for_an_epoch, device)
            loss = training_loss(model, inputs, targets)
            curve.append({"epochs": sampler.epochs, "seconds": elapsed, "loss": loss, "batch": statistics.mean(sizes)})
        curves[name] = curve
        if isinstance(optimizer.rule, CountingRule):
            projected[name] = optimizer.rule.projected / sampler.instances
    target = min(point["loss"] for point in curves["mini-32"])
    reached = {
        name: next(({"target": target, **point} for point in curve if point["loss"] <= target), None)
        for name, curve in curves.items()
    }
    return {"images": images, "lr": lr, "curves": curves, "reached": reached, "target": target, "projected": projected}


@torch.no_grad()
def training_loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Mean loss over all training images, without dropout."""
    model.eval()
    losses = [cross_entropy(model(x), y).sum() for x, y in zip(inputs.split(1000), targets.split(1000), strict=True)]
    model.train()
    return float(sum(losses)) / len(inputs)


def verdict(value: float, goal: float, *, at_least: bool = False) -> str:
    """Whether a goal is met."""
    met = value >= goal if at_least else value <= goal
    return f"{'met' if met else 'MISSED'} ({'≥' if at_least else '≤'} {goal:g})"


def report_variance(measured: dict[int, dict[str, dict[str, float]]], device: torch.device) -> None:
    """One row per batch size and way to the variance."""
    rows = []
    for m, costs in measured.items():
        for name, cost in costs.items():
            goal = verdict(cost["ratio"], GOALS[name]) if name in GOALS else ""
            rows.append((f"{m} {name}", f"{1e3 * cost['seconds']:.1f}", f"{cost['ratio']:.2f}×", goal))
        for loop, exact in AGAINST_A_LOOP if "loop" in costs else ():
            gain = costs[loop]["ratio"] / costs[exact]["ratio"]
            goal = verdict(gain, GOALS[f"exact against a loop, {device.type}"], at_least=True)
            rows.append((f"{m} ({loop}) ÷ ({exact})", "", f"{gain:.2f}×", goal))
    print_table("Mean gradient and variance, against the mean gradient alone", ("m", "ms", "ratio", "goal"), rows)


def report_growth(measured: dict[int, dict[str, dict[str, float]]]) -> None:
    """One row per batch size and variance."""
    rows = []
    for m, costs in measured.items():
        for name, cost in costs.items():
            whole = name.endswith("at once")
            goal = "" if whole else verdict(cost["ratio"], GOALS["growth"])
            label = f"{m} {name}" if whole else f"{m} {name}, in {m // M0}"
            rows.append((label, f"{1e3 * cost['seconds']:.1f}", f"{cost['ratio']:.2f}×", goal))
    print_table("A batch grown by 32, against the same batch at once", ("batch", "ms", "ratio", "goal"), rows)


def report_choice(costs: dict[str, dict[str, float]]) -> None:
    """One row."""
    share = costs["choice"]["ratio"]
    row = (f"{1e6 * costs['choice']['seconds']:.0f}", f"{100 * share:.2f} %", verdict(share, GOALS["choice"]))
    print_table("Choosing m* (up to 60,000), as a share of an iteration of 32", ("µs", "share", "goal"), [row])


def report_time(measured: dict[str, Any]) -> None:
    """One row per method."""
    rows = []
    for name, curve in measured["curves"].items():
        last, hit = curve[-1], measured["reached"][name]
        when = ("never", "") if hit is None else (f"{hit['seconds']:.1f}", f"{hit['epochs']:.1f}")
        projected = f"{measured['projected'][name]:.2f}" if name in measured["projected"] else ""
        rows.append((name, *when, f"{last['loss']:.4f}", f"{last['seconds']:.1f}", f"{last['batch']:.0f}", projected))
    header = (
        "method",
        "seconds to target",
        "epochs to target",
        "last loss",
        "seconds in all",
        "last mean batch",
        "projections per instance",
    )
    title = (
        f"Training loss {measured['target']:.4f} on {measured['images']:,} Fashion-MNIST images, η = {measured['lr']:g}"
    )
    print_table(title, header, rows)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse refuses what is not allowed with status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:3], help="default: all but time")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 128, 512], help="batch sizes m")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of measurement (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1: the steadiest)")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda (default cpu)")
    parser.add_argument("--images", type=int, default=4_000, help="training images in part time (default 4000)")
    parser.add_argument("--epochs", type=int, default=8, help="epochs in part time (default 8)")
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate in part time (default 0.02)")
    parser.add_argument("--max-batch-size", type=int, default=512, help="bound in part time (default 512)")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    options = parse_sizes(parser, arguments, parts=["variance"], sizes=[8], repeats=1)
    for name in ("repeats", "threads", "images", "epochs", "max_batch_size"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    if min(options.sizes) < 2:
        parser.error(f"--sizes must be at least 2, got {min(options.sizes)}")
    return options


def main(arguments: list[str]) -> None:
    """Measures, prints, writes."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    results: dict[str, Any] = {
        "machine": {
            "torch": torch.__version__,
            "processor": platform.processor() or platform.machine(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "threads": options.threads,
            "repeats": options.repeats,
        }
    }
    print(f"{results['machine']['device']}, {options.threads} thread(s), torch {torch.__version__}")
    if device.type == "cpu":
        print("GPU: not measured in this run")
    if "variance" in options.parts:
        results["variance"] = {m: variance_costs(m, device, options.repeats) for m in options.sizes}
        report_variance(results["variance"], device)
    if "growth" in options.parts:
        grown = [m for m in options.sizes if m % M0 == 0 and m > M0]
        results["growth"] = {m: growth_costs(m, device, options.repeats) for m in grown}
        report_growth(results["growth"])
    if "choice" in options.parts:
        results["choice"] = choice_costs(device, options.repeats)
        report_choice(results["choice"])
    if "time" in options.parts:
        results["time"] = time_to_loss(device, options.images, options.epochs, options.lr, options.max_batch_size)
        report_time(results["time"])
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
