"""Training of the small networks, from a seed: `python -m interpose.tasks.trained.training` writes their weights."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn

from .networks import TASKS, WEIGHTS, Task, examples, path_of, task


def train(name: str, *, seed: int = 0, steps: int | None = None) -> nn.Module:
    """A network that learned a task from all its examples, in double precision until it is done."""
    torch.manual_seed(seed)
    of = task(name)
    steps = of.steps if steps is None else steps
    module = of.build().double()
    inputs, target = examples(of)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = _loss(of, module(inputs), target)
        weights = sum(p.abs().sum() for n, p in module.named_parameters() if n.endswith("weight"))
        (loss + of.sparse * weights).backward()
        optimizer.step()
        schedule.step()
    return module.float().eval()


def right(of: Task, module: nn.Module) -> float:
    """The share of all inputs for which a network gives what it should, rounded or as the largest of its outputs."""
    inputs, target = examples(of)
    with torch.no_grad():
        found = module(inputs)
    return float(((found.argmax(-1) if of.classes else found.round()) == target).double().mean())


def _loss(of: Task, found: Tensor, target: Tensor) -> Tensor:
    if of.classes:
        return nn.functional.cross_entropy(found, target)
    return nn.functional.mse_loss(found, target.to(found.dtype))


if __name__ == "__main__":
    WEIGHTS.mkdir(exist_ok=True)
    for each in sys.argv[1:] or TASKS:
        made = train(each)
        np.savez(path_of(each), **{key: value.numpy() for key, value in made.state_dict().items()})
        sys.stdout.write(f"{each}: right on {right(task(each), made):.1%} of all inputs\n")
