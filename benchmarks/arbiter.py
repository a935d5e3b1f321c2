"""What Arbiter costs: a training step with it against one without, side by side in one run.

Images are 32×32 standard normal numbers, so nothing is downloaded. Both steps train on the same batch; agent
and outer loss see as many validation examples as the batch has. Plain and Arbiter steps alternate and medians
are compared, so that a change of the machine's speed meets both. On one thread of a CPU it is the process's own
time that counts, so that other processes on a shared machine count less.

The floor is the inner network's forward pass in evaluation mode on the validation batch: F cannot be had
without it. The rest is the agent's own forward and backward pass and small change (drawing examples, Adam,
the gated last layer).

The warm-up depends on the agent and its start alone; it is measured at the authors' learning rate and at ten
times it.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.smoke import parse as parse_sizes
from benchmarks.tables import print_table
from benchmarks.timing import alternating, seconds
from raytune_hyperlearn.algorithms.arbiter import Arbiter
from raytune_hyperlearn.algorithms.arbiter_agent import image_agent
from raytune_hyperlearn.algorithms.arbiter_config import ArbiterConfig
from raytune_hyperlearn.problems.models import VGG11, WideResNet, initialize

MODELS: dict[str, Callable[[], nn.Module]] = {"wrn16-4": lambda: WideResNet(16, 4), "vgg11": VGG11}
VALIDATION_EXAMPLES = 2_000
GOAL = 1.6
"""Time of a step with Arbiter over one without: at most this."""


def validation_images(device: torch.device) -> tuple[Tensor, Tensor]:
    """Synthetic validation inputs [n, 3, 32, 32] and targets [n]."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(VALIDATION_EXAMPLES, 3, 32, 32, generator=generator)
    return inputs.to(device), torch.randint(10, (VALIDATION_EXAMPLES,), generator=generator).to(device)


def agent_of(model: nn.Module, device: torch.device, batch_size: int, **settings: Any) -> Arbiter:
    """An agent at this batch size, on synthetic validation images."""
    config = ArbiterConfig(min_batch_size=1, **settings)
    return Arbiter(model, *validation_images(device), batch_size=batch_size, seed=0, config=config)


def step_costs(name: str, batch_size: int, device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds of an inner step, of an outer step and of its parts, and the ratio that the goal is about."""
    model = initialize(MODELS[name], seed=0).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    arbiter = agent_of(model, device, batch_size, outer_batch_size=batch_size)
    inputs, targets = (tensor[:batch_size] for tensor in validation_images(device))
    agent = image_agent(3, 4).to(device)

    def inner_step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def with_arbiter() -> None:
        inner_step()
        arbiter.observe()

    def floor() -> None:
        model.eval()
        with torch.no_grad():
            model(inputs)
        model.train()

    def agent_alone() -> None:
        torch.autograd.grad(agent(inputs).mean(), list(agent.parameters()))

    calls = {
        "inner_step": inner_step,
        "with_arbiter": with_arbiter,
        "floor": floor,
        "agent": agent_alone,
    }
    medians = {name: cost["seconds"] for name, cost in alternating(calls, repeats, device).items()}
    plain = medians["inner_step"]
    ratios = {key: medians[key] / plain for key in ("floor", "agent")}
    ratio = medians["with_arbiter"] / plain
    return {
        "model": name,
        "batch_size": batch_size,
        "seconds": medians,
        "ratio": ratio,
        "ratio_floor": 1 + ratios["floor"],
        "share_floor": ratios["floor"],
        "share_agent": ratios["agent"],
        "share_rest": ratio - 1 - ratios["floor"] - ratios["agent"],
        "goal_met": ratio <= GOAL,
        "decision_seconds": statistics.median(seconds(arbiter.decide, device) for _ in range(repeats)),
    }


def warm_up_costs(batch_size: int, device: torch.device, learning_rate: float) -> dict[str, Any]:
    """Adam steps and seconds of one warm-up from a fresh agent."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)).to(device)
    arbiter = agent_of(model, device, batch_size, warm_up_lr=learning_rate)
    steps: list[int] = []
    taken = seconds(lambda: steps.append(arbiter.warm_up(batch_size)), device)
    return {"learning_rate": learning_rate, "batch_size": batch_size, "steps": steps[0], "seconds": taken}


def report(steps: list[dict[str, Any]], warm_ups: list[dict[str, Any]], training_examples: int) -> None:
    """Prints both tables."""
    header = (
        "model",
        "batch",
        "plain ms",
        "Arbiter ms",
        "ratio",
        "goal",
        "floor",
        "agent",
        "rest",
        "decision ms",
    )
    rows = []
    for one in steps:
        plain, with_arbiter = one["seconds"]["inner_step"], one["seconds"]["with_arbiter"]
        verdict = "met" if one["goal_met"] else "missed"
        shares = (f"{one[f'share_{part}']:+.2f}" for part in ("floor", "agent", "rest"))
        times = (f"{1e3 * plain:.0f}", f"{1e3 * with_arbiter:.0f}", f"{one['ratio']:.2f}×", verdict)
        decision = f"{1e3 * one['decision_seconds']:.2f}"
        rows.append((one["model"], str(one["batch_size"]), *times, *shares, decision))
    print(f"A step with Arbiter against one without (goal ≤ {GOAL}×); parts in shares of a plain step\n")
    print_table("Steps with and without Arbiter", header, rows)
    if not warm_ups:
        return
    print(f"\nOne warm-up, and the epochs ({training_examples:,} examples) of plain training in its time\n")
    names = [f"epochs {one['model']}" for one in steps]
    rows = []
    for warm in warm_ups:
        epochs = (
            warm["seconds"] / (one["seconds"]["inner_step"] * training_examples / one["batch_size"]) for one in steps
        )
        cells = (str(warm["batch_size"]), str(warm["steps"]), f"{warm['seconds']:.1f}")
        rows.append((f"{warm['learning_rate']:g}", *cells, *(f"{share:.3f}" for share in epochs)))
    print_table("Warm-up", ("Adam's rate", "batch", "steps", "seconds", *names), rows)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse refuses what is not allowed with status 2."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=sorted(MODELS), help="inner networks")
    parser.add_argument("--batch-size", type=int, default=32, help="examples per batch (default 32)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of measurement (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1: the steadiest)")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda (default cpu)")
    parser.add_argument(
        "--training-examples",
        type=int,
        default=40_000,
        help="size of an epoch (default: CIFAR's 80 %%, 40000)",
    )
    parser.add_argument("--skip-warm-up", action="store_true", help="measure steps and decisions only")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    options = parse_sizes(
        parser, arguments, models=["wrn16-4"], batch_size=2, repeats=1, training_examples=100, skip_warm_up=True
    )
    for name in ("batch_size", "repeats", "threads", "training_examples"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    if options.batch_size > 600:
        parser.error(f"--batch-size must be at most 600, got {options.batch_size}")
    return options


def main(arguments: list[str]) -> None:
    """Measures, prints, writes."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    steps = [step_costs(name, options.batch_size, device, options.repeats) for name in options.models]
    rates = [] if options.skip_warm_up else [1e-4, 1e-3]
    warm_ups = [warm_up_costs(options.batch_size, device, rate) for rate in rates]
    report(steps, warm_ups, options.training_examples)
    if options.output is not None:
        machine = {
            "torch": torch.__version__,
            "processor": platform.processor() or platform.machine(),
            "device": str(device),
            "threads": options.threads,
            "repeats": options.repeats,
        }
        options.output.write_text(json.dumps({"machine": machine, "steps": steps, "warm_ups": warm_ups}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
