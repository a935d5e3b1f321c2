import copy
import io
import math
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raytune_hyperlearn.algorithms.arbiter import Arbiter
from raytune_hyperlearn.algorithms.arbiter_agent import batch_size_of
from raytune_hyperlearn.algorithms.arbiter_config import ArbiterConfig

CLASSES = 3


class InnerNetwork(nn.Module):
    """Everything that could leak: BatchNorm's statistics, dropout's random numbers, gradients, modes."""

    def __init__(self, channels: int = 1, dropout: float = 0.3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 5, 3),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(20, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs))


def images(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 1, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    return inputs, torch.randint(CLASSES, (count,), generator=generator)


def network(seed: int = 0, dropout: float = 0.3) -> InnerNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return InnerNetwork(dropout=dropout)


def small_config(**changes: object) -> ArbiterConfig:
    return ArbiterConfig(**({"min_batch_size": 2, "max_batch_size": 16} | changes))  # type: ignore[arg-type]


def arbiter_of(model: nn.Module | None = None, seed: int = 0, **changes: object) -> Arbiter:
    return Arbiter(model or network(), *images(24), batch_size=8, seed=seed, config=small_config(**changes))


# --- gradients of F --------------------------------------------------------------------------------------


def gradients_of_observe(arbiter: Arbiter) -> tuple[dict[str, Tensor], float]:
    """The gradients that reach Adam, by name, and F."""
    names = {id(p): f"agent.{name}" for name, p in arbiter.agent.named_parameters()}
    names |= {id(arbiter.alpha): "alpha", id(arbiter.response): "response"}
    found: dict[str, Tensor] = {}

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for group in optimizer.param_groups:
            found.update({names[id(p)]: p.grad.clone() for p in group["params"]})

    handle = arbiter.optimizer.register_step_pre_hook(keep)
    step = arbiter.observe()
    handle.remove()
    return found, step.loss


def explicit_outer_loss(
    model: InnerNetwork, agent: nn.Module, values: dict[str, Tensor], inputs: Tensor, targets: Tensor
) -> Tensor:
    """F written out, without hooks; ``values`` holds φ, α and the weights of Φ."""
    phi = {name.removeprefix("agent."): value for name, value in values.items() if name.startswith("agent.")}
    logits = torch.func.functional_call(agent, phi, inputs)
    samples = torch.sort(logits.sum(0) / len(inputs))[0]
    weights = values["alpha"].exp() / values["alpha"].exp().sum()
    s = (samples * weights).sum()
    features = model.body(inputs)
    scores = (features * (1 + s * values["response"])) @ model.head.weight.T + model.head.bias
    return (scores.logsumexp(1) - scores[torch.arange(len(targets)), targets]).mean()


@pytest.mark.parametrize("kind", ["image agent", "own agent"])
def test_gradients_of_the_outer_loss_match_finite_differences_of_an_explicit_forward(kind: str) -> None:
    inputs, targets = images(12, dtype=torch.float64)
    model = network().double()
    model(images(30, seed=5, dtype=torch.float64)[0])  # running statistics other than 0 and 1
    own = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Tanh(), nn.Linear(4, 4))
    # 12 examples out of 12 without replacement: the explicit computation needs no index.
    config = small_config(max_batch_size=10, outer_batch_size=12, agent_batch_size=12)
    agent = own if kind == "own agent" else None
    arbiter = Arbiter(model, inputs, targets, batch_size=8, seed=3, config=config, agent=agent)
    with torch.no_grad():
        arbiter.alpha.copy_(torch.tensor([0.3, -0.4, 0.1, 0.6]))
    values = {f"agent.{name}": p.detach().clone() for name, p in arbiter.agent.named_parameters()}
    values |= {"alpha": arbiter.alpha.detach().clone(), "response": arbiter.response.detach().clone()}
    reference_agent, reference_model = copy.deepcopy(arbiter.agent), copy.deepcopy(model).eval()

    gradients, outer = gradients_of_observe(arbiter)

    def explicit(changed: dict[str, Tensor]) -> float:
        with torch.no_grad():
            return explicit_outer_loss(reference_model, reference_agent, changed, inputs, targets).item()

    assert outer == pytest.approx(explicit(values), rel=1e-12)
    assert gradients.keys() == values.keys()
    generator = torch.Generator().manual_seed(0)
    step = 1e-6
    for name, value in values.items():
        axes = list(torch.eye(value.numel(), dtype=torch.float64)) if value.numel() <= 20 else []
        axes += [torch.randn(value.numel(), generator=generator, dtype=torch.float64) for _ in range(2)]
        for axis in axes:
            direction = axis.reshape(value.shape)
            above = explicit(values | {name: value + step * direction})
            below = explicit(values | {name: value - step * direction})
            slope = (gradients[name] * direction).sum().item()
            assert slope == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=3e-9), name
    assert all(gradients[name].abs().max() > 1e-6 for name in ("alpha", "response"))


# --- nothing reaches the inner network -------------------------------------------------------------------


def inner_training(arbiter_for: object) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
    """Twelve steps with dropout and momentum on shuffled data; one seed for all global random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        model = InnerNetwork()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        inputs, targets = images(60, seed=1)
        arbiter = arbiter_for(model) if callable(arbiter_for) else None
        for _ in range(2):
            for indices in torch.randperm(60).split(10):
                optimizer.zero_grad()
                functional.cross_entropy(model(inputs[indices]), targets[indices]).backward()
                optimizer.step()
                if arbiter is not None:
                    arbiter.observe()
            if arbiter is not None:
                arbiter.end_epoch()
        buffers = [state["momentum_buffer"] for state in optimizer.state.values()]
        gradients = [parameter.grad for parameter in model.parameters()]
        return dict(model.state_dict()), [*buffers, *gradients], torch.get_rng_state()


def with_the_image_agent(model: nn.Module) -> Arbiter:
    arbiter = arbiter_of(model, warm_up_lr=1e-3)
    arbiter.warm_up(8)
    return arbiter


def with_an_agent_that_draws_global_random_numbers(model: nn.Module) -> Arbiter:
    with torch.random.fork_rng(devices=[]):
        agent = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 4))
    return Arbiter(model, *images(24), batch_size=8, seed=0, config=small_config(), agent=agent)


def with_noise(model: nn.Module) -> Arbiter:
    return arbiter_of(model, agent_input="noise")


@pytest.mark.parametrize(
    "arbiter_for", [with_the_image_agent, with_an_agent_that_draws_global_random_numbers, with_noise]
)
def test_inner_training_is_bit_identical_to_training_without_arbiter(arbiter_for: object) -> None:
    weights, others, random_state = inner_training(arbiter_for)
    plain_weights, plain_others, plain_random_state = inner_training(None)
    assert weights.keys() == plain_weights.keys()
    assert all(torch.equal(weights[name], plain_weights[name]) for name in weights)
    assert all(torch.equal(one, other) for one, other in zip(others, plain_others, strict=True))
    assert torch.equal(random_state, plain_random_state)


def test_gradients_left_on_the_inner_network_stay() -> None:
    model = network()
    inputs, targets = images(10)
    functional.cross_entropy(model(inputs), targets).backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    arbiter = arbiter_of(model)
    arbiter.observe()
    assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), before, strict=True))


# --- warm-up, learning, decision -------------------------------------------------------------------------


@pytest.mark.parametrize("target", [8, 9, 16, 64, 128, 304, 400, 512, 599, 600])
def test_warm_up_reaches_every_part_of_the_range(target: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(700, 5, generator=generator), torch.randint(2, (700,), generator=generator)
    config = ArbiterConfig(warm_up_lr=2e-3)
    arbiter = Arbiter(nn.Linear(5, 2), inputs, targets, batch_size=128, seed=0, config=config)
    response = arbiter.response.detach().clone()
    steps = arbiter.warm_up(target)
    assert 0 < steps < config.warm_up_steps
    assert arbiter.batch_size == target
    mixture = arbiter.state_dict()["samples"].mean().item()  # α is still as good as 0: equal weights
    assert abs(batch_size_of(mixture, 8, 600) - target) < 2
    assert abs(arbiter.observe().batch_size - target) <= max(4, 0.1 * target)  # on a fresh mini-batch
    assert torch.allclose(arbiter.response, response, atol=2e-5)  # one step of Adam at 1e-5
    assert arbiter.alpha.abs().max() < 2e-4


def test_warm_up_fits_phi_alone_and_draws_alpha_anew() -> None:
    arbiter = arbiter_of(warm_up_lr=1e-2)
    with torch.no_grad():
        arbiter.alpha.fill_(1.0)
    phi = [parameter.detach().clone() for parameter in arbiter.agent.parameters()]
    response = arbiter.response.detach().clone()
    assert arbiter.warm_up(3) > 0
    assert torch.equal(arbiter.response, response)
    assert any(not torch.equal(p, old) for p, old in zip(arbiter.agent.parameters(), phi, strict=True))
    assert 0 < arbiter.alpha.abs().max() < 1e-5
    assert len(set(arbiter.alpha.tolist())) == 4


def test_warm_up_without_enough_steps_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"warm_up_steps = 1 were not enough: B\(s\) = \d+, wanted 16"):
        arbiter_of(warm_up_steps=1).warm_up(16)


class FixedSamples(nn.Module):
    """An agent whose samples are its parameters, so that the best of them is known."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.5, -0.5, 1.0, -1.0]))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits.expand(len(inputs), 4)


@pytest.mark.parametrize(("labels_are_right", "wanted"), [(True, 3), (False, 0)])
def test_the_decision_follows_the_gradient_of_the_outer_loss(labels_are_right: bool, wanted: int) -> None:
    # ĥ = (1 + s) h, and the head is right on every example: a larger s lowers F. Wrong labels turn it round.
    inputs = torch.eye(3).repeat(10, 1)
    targets = (torch.arange(30) + (0 if labels_are_right else 1)) % 3
    model = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
    arbiter = Arbiter(model, inputs, targets, batch_size=8, seed=0, config=small_config(), agent=FixedSamples())
    with torch.no_grad():
        arbiter.response.fill_(1.0)
    for _ in range(20):
        step = arbiter.observe()
    assert step.weights == pytest.approx(arbiter.alpha.softmax(0).tolist(), abs=1e-3)
    assert arbiter.alpha.argmax() == wanted
    assert arbiter.end_epoch() == step.samples[wanted] == arbiter.batch_size


def test_a_decision_draws_alpha_anew_and_forgets_its_moments() -> None:
    arbiter = arbiter_of()
    arbiter.observe()
    assert arbiter.optimizer.state[arbiter.alpha]
    with torch.no_grad():
        arbiter.alpha.copy_(torch.tensor([0.0, 5.0, 0.0, 0.0]))
    second = arbiter.observe().samples[1]
    assert arbiter.decide() == second
    assert arbiter.batch_size == 8
    assert arbiter.alpha.abs().max() < 1e-5
    assert arbiter.alpha not in arbiter.optimizer.state


def test_the_batch_size_changes_every_learn_every_epochs() -> None:
    arbiter = arbiter_of(learn_every=3)
    sizes = []
    for _ in range(6):
        arbiter.batch_size = 8 if not sizes else arbiter.batch_size
        samples = arbiter.observe().samples
        best = samples[int(arbiter.alpha.argmax())]
        sizes.append((arbiter.end_epoch(), best))
    assert [size for size, _ in sizes[:2]] == [8, 8]
    assert sizes[2][0] == sizes[2][1] != 8
    assert sizes[3][0] == sizes[4][0] == sizes[2][0]
    assert sizes[5][0] == sizes[5][1]


def test_a_decision_needs_samples() -> None:
    with pytest.raises(RuntimeError, match="needs samples"):
        arbiter_of().end_epoch()


def test_an_outer_loss_that_is_not_finite_changes_nothing() -> None:
    model = network()
    arbiter = arbiter_of(model)
    with torch.no_grad():
        model.head.bias.fill_(math.nan)
    before = copy.deepcopy(arbiter.agent).state_dict(), arbiter.alpha.clone(), arbiter.response.clone()
    assert math.isnan(arbiter.observe().loss)
    assert all(torch.equal(p, before[0][name]) for name, p in arbiter.agent.named_parameters())
    assert torch.equal(arbiter.alpha, before[1])
    assert torch.equal(arbiter.response, before[2])


# --- validation batches and controls ---------------------------------------------------------------------


class Watching(nn.Module):
    """An agent that keeps its inputs; example j of the validation set is the constant image j."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1e-3))
        self.seen: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(inputs.clone())
        return self.scale * inputs.flatten(1)[:, :4]


def watched(count: int, **changes: object) -> tuple[Arbiter, Watching]:
    inputs = torch.arange(float(count)).reshape(-1, 1, 1, 1).expand(count, 1, 6, 6)
    agent = Watching()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arbiter = Arbiter(
            network(),
            inputs,
            images(count)[1],
            batch_size=8,
            seed=0,
            config=small_config(**changes),
            agent=agent,
        )
    agent.seen.clear()
    return arbiter, agent


def examples(seen: Tensor) -> list[int]:
    assert torch.equal(seen, seen[:, :1, :1, :1].expand_as(seen))
    return [int(value) for value in seen[:, 0, 0, 0]]


def test_validation_batches_are_fresh_and_without_replacement() -> None:
    arbiter, agent = watched(24)
    for _ in range(3):
        arbiter.observe()
    drawn = [examples(seen) for seen in agent.seen]
    assert all(len(set(batch)) == 8 for batch in drawn)
    assert len({tuple(batch) for batch in drawn}) == 3


def test_a_small_validation_set_is_drawn_with_replacement_and_a_warning_says_so() -> None:
    with pytest.warns(UserWarning, match=r"5 validation examples are fewer than max_batch_size = 16: .* replacement"):
        arbiter = Arbiter(network(), *images(5), batch_size=16, seed=0, config=small_config())
    assert arbiter.with_replacement
    arbiter, agent = watched(5)
    arbiter.batch_size = 16
    arbiter.observe()
    assert len(examples(agent.seen[0])) == 16


def test_a_large_validation_set_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not arbiter_of().with_replacement


def test_batch_sizes_of_agent_and_outer_loss_are_the_methods_unless_set() -> None:
    def sizes(**changes: object) -> tuple[int, int, int]:
        arbiter, agent = watched(24, **changes)
        outer = []
        arbiter.model.register_forward_pre_hook(lambda _module, args: outer.append(len(args[0])))
        step = arbiter.observe()
        return len(agent.seen[0]), outer[0], step.batch_size

    agent_size, outer_size, chosen = sizes()
    assert (agent_size, outer_size) == (8, chosen)
    assert sizes(agent_batch_size=3, outer_batch_size=5)[:2] == (3, 5)


def test_noise_replaces_the_agents_input_only() -> None:
    arbiter, agent = watched(24, agent_input="noise", agent_batch_size=200, max_batch_size=16)
    outer = []
    arbiter.model.register_forward_pre_hook(lambda _module, args: outer.append(args[0]))
    arbiter.observe()
    arbiter.observe()
    first, second = agent.seen
    assert abs(first.mean().item()) < 0.1
    assert abs(first.std().item() - 1) < 0.1
    assert not torch.equal(first, second)
    assert set(examples(outer[0])) <= set(range(24))


def test_a_frozen_response_stays_while_the_agent_learns() -> None:
    frozen, learned = arbiter_of(response="frozen"), arbiter_of()
    start = frozen.response.detach().clone()
    assert torch.equal(start, learned.response)
    phi = next(frozen.agent.parameters()).detach().clone()
    for _ in range(3):
        frozen.observe()
        learned.observe()
    assert torch.equal(frozen.response, start)
    assert not torch.equal(next(frozen.agent.parameters()), phi)
    assert frozen.alpha.abs().max() > 1e-5
    assert not torch.equal(learned.response, start)


def test_a_response_that_starts_at_zero_pulls_the_samples_nowhere_but_is_learned() -> None:
    gradients, _ = gradients_of_observe(arbiter_of(response_scale=0.0))
    assert gradients["alpha"].abs().max() == 0
    assert all(gradients[name].abs().max() == 0 for name in gradients if name.startswith("agent."))
    assert gradients["response"].abs().max() > 1e-6


def test_the_scale_of_the_response_at_the_start() -> None:
    one, half = arbiter_of().response, arbiter_of(response_scale=0.5).response
    assert torch.equal(half, one / 2)
    assert one.abs().max() > 0.5


def test_a_decision_over_a_window_takes_the_mean_of_the_samples_since_the_last_one() -> None:
    arbiter = arbiter_of(decision="window", agent_lr=1e-2)
    for _ in range(2):
        samples = []
        for _ in range(3):
            arbiter.observe()
            samples.append(arbiter.state_dict()["samples"])
        best = int(arbiter.alpha.argmax())
        mean = sum(one[best].item() for one in samples) / 3
        assert arbiter.decide() == batch_size_of(mean, 2, 16)
    assert samples[0][best] != samples[2][best]


def test_gradient_statistics_are_the_agents_input_and_the_training_stays_bit_identical() -> None:
    seen: list[Tensor] = []

    class Recording(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs.clone())
            return self.linear(inputs)

    def watching_gradients(model: nn.Module) -> Arbiter:
        with torch.random.fork_rng(devices=[]):
            agent = Recording()
        config = small_config(agent_input="gradients")
        return Arbiter(model, *images(24), batch_size=8, seed=0, config=config, agent=agent)

    found, plain = inner_training(watching_gradients), inner_training(None)
    assert all(torch.equal(found[0][name], plain[0][name]) for name in plain[0])
    assert all(torch.equal(one, other) for one, other in zip(found[1], plain[1], strict=True))
    assert [len(inputs) for inputs in seen] == [1, *range(1, 13)]
    last_norm = math.sqrt(sum(gradient.square().sum().item() for gradient in plain[1][len(plain[1]) // 2 :]))
    assert seen[-1][-1, 0].item() == pytest.approx(math.log10(last_norm), abs=1e-5)


# --- seeds and checkpoints -------------------------------------------------------------------------------


def course(arbiter: Arbiter, epochs: int = 3) -> list[object]:
    seen: list[object] = []
    for _ in range(epochs):
        seen += [arbiter.observe(), arbiter.observe(), arbiter.end_epoch()]
    return seen


def test_the_seed_and_nothing_else_decides() -> None:
    first = course(arbiter_of(seed=1))
    torch.rand(17)
    assert course(arbiter_of(seed=1)) == first
    assert course(arbiter_of(seed=2)) != first


def test_building_an_agent_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    arbiter_of()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("variant", [{}, {"decision": "window"}, {"agent_input": "gradients"}])
def test_a_restored_agent_goes_on_as_if_never_interrupted(variant: dict[str, object]) -> None:
    model = network()
    functional.cross_entropy(model(images(10)[0]), images(10)[1]).backward()
    arbiter = arbiter_of(model, seed=1, learn_every=2, warm_up_lr=1e-3, **variant)
    arbiter.warm_up(6)
    course(arbiter)
    arbiter.observe()
    file = io.BytesIO()
    torch.save(arbiter.state_dict(), file)
    expected = course(arbiter)

    file.seek(0)
    other = arbiter_of(model, seed=99, learn_every=2, **variant)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert course(other) == expected
    assert all(torch.equal(p, q) for p, q in zip(arbiter.agent.parameters(), other.agent.parameters(), strict=True))
    assert torch.equal(arbiter.alpha, other.alpha)
    assert torch.equal(arbiter.response, other.response)


def test_after_a_restore_the_config_wins_over_the_optimizers_state() -> None:
    state = arbiter_of().state_dict()
    other = arbiter_of(agent_lr=3e-3, mixing_lr=2e-3, weight_decay=0.1)
    other.load_state_dict(state)
    assert [group["lr"] for group in other.optimizer.param_groups] == [3e-3, 2e-3]
    assert [group["weight_decay"] for group in other.optimizer.param_groups] == [0.1, 0.1]


def test_the_authors_settings_are_the_defaults() -> None:
    arbiter = Arbiter(network(), *images(600), batch_size=128, seed=0)
    assert isinstance(arbiter.optimizer, torch.optim.Adam)
    assert [group["lr"] for group in arbiter.optimizer.param_groups] == [1e-5, 1e-4]
    assert {group["weight_decay"] for group in arbiter.optimizer.param_groups} == {5e-4}
    convolutions = [layer for layer in arbiter.agent.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (64, (3, 3), (stride, stride)) for stride in (1, 2, 2, 2)
    ]
    assert arbiter.response.shape == (20,)
    assert arbiter.response.abs().max() <= 1


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_batch_size": 16}, "max_batch_size must be an integer of at least 17, got 16"),
        ({"min_batch_size": 40}, "max_batch_size must be an integer of at least 41, got 16"),
        ({"min_batch_size": 0}, "min_batch_size must be an integer of at least 1, got 0"),
        ({"max_batch_size": 16.5}, "max_batch_size must be an integer of at least 3, got 16.5"),
        ({"samples": 0}, "samples must be an integer of at least 1, got 0"),
        ({"learn_every": 0}, "learn_every must be an integer of at least 1, got 0"),
        ({"agent_lr": 0.0}, "agent_lr must be a positive number, got 0.0"),
        ({"mixing_lr": math.nan}, "mixing_lr must be a positive number, got nan"),
        ({"weight_decay": -1.0}, "weight_decay must be a number of at least 0, got -1.0"),
        ({"response_scale": -1.0}, "response_scale must be a number of at least 0, got -1.0"),
        ({"outer_batch_size": 0}, "outer_batch_size must be an integer of at least 1, got 0"),
        ({"agent_batch_size": 1}, "agent_batch_size must be an integer of at least 2, got 1"),
        ({"response": "off"}, r"response must be one of \('learned', 'frozen'\), got 'off'"),
        ({"agent_input": "zeros"}, r"agent_input must be one of \('validation', 'noise', 'gradients'\), got 'zeros'"),
        ({"decision": "never"}, r"decision must be one of \('last', 'window'\), got 'never'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        small_config(**changes)


@pytest.mark.parametrize("size", [1, 17])
def test_a_start_outside_the_range_is_refused(size: int) -> None:
    message = f"^batch_size must be between min_batch_size = 2 and max_batch_size = 16, got {size}$"
    with pytest.raises(ValueError, match=message):
        Arbiter(network(), *images(24), batch_size=size, seed=0, config=small_config())
    with pytest.raises(ValueError, match=message):
        arbiter_of().warm_up(size)


@pytest.mark.parametrize(
    ("inputs", "changes", "agent", "message"),
    [
        (torch.zeros(24, 7, dtype=torch.long), {}, None, "^agent must be given unless .*int64 .*24, 7"),
        (torch.zeros(24, 3, 7), {}, None, "^agent must be given unless"),
        (torch.zeros(24, 1, 2, 2), {}, None, "^agent must be given unless"),
        (torch.zeros(24, 7), {}, nn.Linear(7, 3), r"^agent must be .* shape \(1, 4\), got \(1, 3\)$"),
        (torch.zeros(23, 7), {}, None, r"^inputs and targets must be .*, got \(23, 24\)$"),
        (
            torch.zeros(24, 7, dtype=torch.long),
            {"agent_input": "noise"},
            nn.Linear(7, 4),
            "^agent_input must be",
        ),
    ],
)
def test_inputs_and_agents_that_do_not_fit_are_refused(
    inputs: Tensor, changes: dict[str, object], agent: nn.Module | None, message: str
) -> None:
    targets = torch.zeros(24, dtype=torch.long)
    with pytest.raises(ValueError, match=message) as error:
        Arbiter(
            nn.Linear(7, 3),
            inputs,
            targets,
            batch_size=8,
            seed=0,
            config=small_config(**changes),
            agent=agent,
        )
    assert "\n" not in str(error.value)
