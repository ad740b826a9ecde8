"""The toy adder of *Causal Mediation Analysis I*: a network that computes A + B + C, and how it does.

The tutorial's own weights are not published. These reproduce every number it prints: A is stored at h12 as 4 A + 4.1,
B + C at h13 as 2 (B + C) + 2.3, and their sum at h22 as 0.5 (A + B + C) + 0.705. The other neurons are decoys: h11 and
h21 respond to the input but nothing that reaches the output reads them, h23 does not even respond.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

from ..abstraction import Alignment
from ..causal_model import CausalModel, Variable
from ..network import Network
from ..pairs import Pairs

INPUTS = ("A", "B", "C")
NAMES = {
    **{f"h1{unit + 1}": f"l1[{unit}]" for unit in range(3)},
    **{f"h2{unit + 1}": f"l2[{unit}]" for unit in range(3)},
    "Y": "l3[0]",
}
WEIGHTS = {
    "l1": ([[1.3, 2.1, 0.9], [4, 0, 0], [0, 2, 2]], [2.69, 4.1, 2.3]),
    "l2": ([[0.1, 0.3, 0.2], [0, 0.125, 0.25], [0, 0, 0]], [0.0349, -0.3825, -0.271]),
    "l3": ([[0, 2, 0]], [-1.41]),
}


class Adder(nn.Module):
    """Three linear layers; takes a list of three numbers, or a batch of them, and returns their sum."""

    def __init__(self) -> None:
        super().__init__()  # the layers start without values, so that no random number is drawn
        self.l1 = nn.Linear(3, 3, device="meta")
        self.l2 = nn.Linear(3, 3, device="meta")
        self.l3 = nn.Linear(3, 1, device="meta")
        self.to_empty(device="cpu")
        for name, (weight, bias) in WEIGHTS.items():
            layer = self.get_submodule(name)
            layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
            layer.requires_grad_(False)

    def forward(self, inputs: Tensor | list[float]) -> Tensor:
        """[..., 3] -> [...]"""
        numbers = torch.as_tensor(inputs, dtype=self.l1.weight.dtype, device=self.l1.weight.device)
        total: Tensor = self.l3(self.l2(self.l1(numbers)))
        return total.squeeze(-1)


class NoisyAdder(Adder):
    """The adder, with neurons beside its first layer that respond to the inputs without order, and are read a little.

    What they bring to the output is of any sign and unrelated to what the adder adds: noise that looks alive.
    """

    def __init__(self, neurons: int, *, size: float = 0.4, seed: int = 0) -> None:
        super().__init__()
        draw = np.random.default_rng(seed)
        self.noise = nn.Linear(3, neurons)
        self.read = nn.Linear(neurons, 1, bias=False)
        for parameter, values in (
            (self.noise.weight, draw.uniform(5, 50, (neurons, 3))),
            (self.noise.bias, draw.uniform(0, 6, neurons)),
            (self.read.weight, draw.normal(0, size, (1, neurons))),
        ):
            parameter.data = torch.tensor(values, dtype=torch.float32)
            parameter.requires_grad_(False)
        self.wave = Wave()

    def forward(self, inputs: Tensor | list[float]) -> Tensor:
        """[..., 3] -> [...]"""
        numbers = torch.as_tensor(inputs, dtype=self.l1.weight.dtype, device=self.l1.weight.device)
        return super().forward(numbers) + self.read(self.wave(self.noise(numbers))).squeeze(-1)


class Wave(nn.Module):
    """The sine of each unit."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return torch.sin(x)


def noisy_network(neurons: int = 200, *, seed: int = 0) -> Network:
    """The adder with noise neurons beside it: `wave[0]`, `wave[1]`, ... as a model."""
    return Network(NoisyAdder(neurons, seed=seed), inputs=INPUTS, names=NAMES)


def network() -> Network:
    """The adder as a model, with the tutorial's names for its neurons."""
    return Network(Adder(), inputs=INPUTS, names=NAMES)


def hypothesis() -> CausalModel:
    """The algorithm that the adder implements: B + C first, then A, over the digits."""
    digits = range(10)
    return CausalModel(
        {
            **{name: Variable(digits) for name in INPUTS},
            "B+C": Variable(lambda b, c: b + c, parents=("B", "C")),
            "A+B+C": Variable(lambda a, b_plus_c: a + b_plus_c, parents=("A", "B+C")),
        }
    )


def alignment() -> Alignment:
    """The true answer: which neuron holds which variable."""
    return Alignment(hypothesis(), {"A": "h12", "B+C": "h13", "A+B+C": "h22"})


def pairs(*, n: int = 50, seed: int = 42) -> dict[str, Pairs]:
    """Pairs in which A varies, then B, then C, drawn one after another: by default the tutorial's own data sets."""
    rng = random.Random(seed)
    model = hypothesis()
    return {name: Pairs.varying(model, name, n=n, seed=rng) for name in INPUTS}
