"""Small networks that learned a function from examples: what each is, what it should give, and its weights.

Nobody planted anything in them, so there is no key: what is said of them can only be honest. `python -m
interpose.tasks.trained.training` made the weights that are shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import WrongInput, suggest
from ...network import Network

WEIGHTS = Path(__file__).parent / "weights"
MODULUS = 7
DIGITS, RESIDUES, BITS = range(10), range(MODULUS), range(2)


class Mlp(nn.Module):
    """Two hidden layers of ReLU neurons, and one linear layer for the output: [row, input] -> [row]."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(inputs, width), nn.ReLU())
        self.l2 = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.out = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.l2(self.l1(x.to(self.out.weight.dtype))))
        return found.squeeze(-1)


class Classes(nn.Module):
    """Whole numbers are looked up, put side by side and go through a hidden layer: [row, input] -> [row, class]."""

    def __init__(self, inputs: int, size: int, classes: int, width: int, each: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(size, each)
        self.hidden = nn.Sequential(nn.Linear(inputs * each, width), nn.ReLU())
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.hidden(self.embed(x.long()).flatten(-2)))
        return found


class Transformer(nn.Module):
    """One block, causal: [row, token] of whole numbers -> [row, class], read off the last token."""

    def __init__(self, tokens: int, size: int, classes: int, width: int = 24, heads: int = 3, hidden: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(size, width)
        self.position = nn.Parameter(torch.zeros(tokens, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        self.back = nn.Linear(hidden, width)
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.embed(x.long()) + self.position
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for part in self.qkv(stream).chunk(3, dim=-1)
        )
        attended = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        last = (stream + self.mixed(attended.transpose(-3, -2).flatten(-2)))[..., -1, :]
        found: Tensor = self.out(last + self.back(self.mlp(last)))
        return found


@dataclass(frozen=True)
class Task:
    """A function to be learned, and the network that learns it.

    inputs: the values of each; target: what the network should give, a number, or the class with the largest output.
    sparse: how much the sum of all weights' sizes counts in training; sites: where `discover` looks, by module.
    """

    inputs: Mapping[str, Sequence[int]]
    target: Callable[..., int]
    build: Callable[[], nn.Module]
    classes: bool = False
    sparse: float = 0.0
    sites: tuple[str, ...] = ()
    steps: int = 6000


TASKS: dict[str, Task] = {
    "addition": Task(dict.fromkeys("ABC", DIGITS), lambda a, b, c: a + b + c, lambda: Mlp(3, 12)),
    "addition, few weights": Task(
        dict.fromkeys("ABC", DIGITS), lambda a, b, c: a + b + c, lambda: Mlp(3, 12), sparse=3e-3
    ),
    "gates, few weights": Task(
        dict.fromkeys("ABCD", BITS),
        lambda a, b, c, d: (a & b) ^ (c | d),
        lambda: Mlp(4, 12),
        sparse=1e-3,
    ),
    "gates": Task(dict.fromkeys("ABCD", BITS), lambda a, b, c, d: (a & b) ^ (c | d), lambda: Mlp(4, 12)),
    "modular addition": Task(
        dict.fromkeys("AB", RESIDUES),
        lambda a, b: (a + b) % MODULUS,
        lambda: Classes(2, MODULUS, MODULUS, 24),
        classes=True,
        sites=("hidden",),
    ),
    "modular addition, transformer": Task(
        dict.fromkeys("AB", RESIDUES),
        lambda a, b: (a + b) % MODULUS,
        lambda: Transformer(2, MODULUS, MODULUS),
        classes=True,
        sites=("mlp",),
    ),
}


def task(name: str) -> Task:
    """A task by its name. Raises WrongInput for a name that is none."""
    if name not in TASKS:
        raise WrongInput(f"There is no trained network {name!r}. {suggest(name, TASKS)}")
    return TASKS[name]


def trained(name: str) -> Network:
    """The network that learned a task, with the weights that are shipped. Raises WrongInput for a name that is none."""
    of = task(name)
    module = of.build()
    with np.load(path_of(name)) as weights:
        module.load_state_dict({key: torch.from_numpy(weights[key]) for key in weights})
    return Network(module.eval().requires_grad_(False), inputs=tuple(of.inputs))


def path_of(name: str) -> Path:
    """Where the weights of a task lie."""
    return WEIGHTS / (name.replace(",", "").replace(" ", "-") + ".npz")


def examples(of: Task) -> tuple[Tensor, Tensor]:
    """All inputs [row, input], and what the network should give for each: [row]."""
    rows: Any = torch.cartesian_prod(*(torch.tensor(list(values)) for values in of.inputs.values()))
    return rows, torch.tensor([of.target(*row) for row in rows.tolist()])
