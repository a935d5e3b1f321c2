"""A small transformer on WordNet's glosses: AdamW's schedule is learned, then used in a plain training loop.

python examples/transformer_glosses.py
"""

import sys

import torch
from ray import tune
from torch import nn
from torch.nn import functional

from raytune_hyperlearn import FDSTrainable, Learned, OptimizerSpace, Problem, Schedule
from raytune_hyperlearn.problems import MissingDataError, evaluate
from raytune_hyperlearn.problems.wordnet import LENGTH, RELATIONS, VOCABULARY, wordnet_relations

SMOKE = "--smoke" in sys.argv  # seconds instead of minutes
PAIRS, WIDTH, EPOCHS, OUTER_STEPS = (300, 8, 2, 2) if SMOKE else (4255, 64, 5, 10)
BATCH = 32
COSINE_WITH_WARM_UP = [5e-4, 2e-3, 1.6e-3, 8e-4, 2e-4]
SPACE = OptimizerSpace(
    {
        "learning_rate": Schedule(values=5, init=COSINE_WITH_WARM_UP, step=5e-4, range=(0.0, 0.02)),
        "weight_decay": 0.01,  # fixed
        "epsilon": 1e-6,
    }
)


class Transformer(nn.Module):
    """One layer of attention over the words of two glosses, then their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.attention = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.1, batch_first=True)
        self.relation = nn.Linear(WIDTH, len(RELATIONS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, 5] of tokens [N, LENGTH], 0 where there is no word."""
        hidden = self.attention(self.words(tokens) + self.places, src_key_padding_mask=tokens == 0)
        words = (tokens != 0).to(hidden.dtype).unsqueeze(-1)
        return self.relation((hidden * words).sum(1) / words.sum(1))


def glosses() -> Problem:
    """Pairs of glosses and the relation of what they define."""
    train, test = wordnet_relations()
    some = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:PAIRS]]
    return Problem("glosses", Transformer, some, test, batch_size=BATCH, epochs=EPOCHS)


def plain_training(learned: Learned, problem: Problem, seed: int) -> float:
    """Validation loss of a training loop that knows nothing of searches but the schedule."""
    torch.manual_seed(100 + seed)  # other networks and orders than the search had
    model, part = Transformer(), problem.split(0).train
    steps = EPOCHS * (len(part) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, eps=1e-6)
    scheduler = learned.to_torch(optimizer, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(part)).split(BATCH)[: steps // EPOCHS]:
            optimizer.zero_grad()
            functional.cross_entropy(model(part.inputs[rows]), part.targets[rows]).backward()
            optimizer.step()
            scheduler.step()
    return evaluate(model.eval(), problem, problem.split(0).validation)[0]


if __name__ == "__main__":
    try:
        problem = glosses()
    except MissingDataError as error:
        sys.exit(f"skipped: {error}")
    config = {
        "problem": problem,
        "space": SPACE,
        "optimizer": "adamw",
        "seed": 0,
        "outer_steps": OUTER_STEPS,
        "tolerance": 1.5,
    }
    best = tune.run(FDSTrainable, config=config, verbose=0).trials[0].last_result["best"]
    learned = Learned(best["hyperparameters"], SPACE)
    print(f"found with validation loss {best['validation_loss']:.4f}:\n{learned.to_yaml()}", end="")
    losses = [plain_training(learned, problem, seed) for seed in range(4)]
    print(f"plain loop, validation losses {', '.join(f'{loss:.4f}' for loss in losses)}")
