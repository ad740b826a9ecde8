"""Networks whose answers are known, and networks of every shape that the laws must hold on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import interpose as ip


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module with weights from a seed, without touching the global random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double().eval()


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- modules of every shape --------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        x = x + torch.tanh(self.first(x))
        x = x + torch.tanh(self.second(x))
        return self.out(x).squeeze(-1)


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.out = nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(2), nn.Linear(12, 1)

    def forward(self, x):
        return self.out(self.pool(torch.relu(self.conv(x))).flatten(1)).squeeze(-1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, x):
        states, _ = self.cell(x)
        return self.out(states[:, -1]).squeeze(-1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.block(x)).mean((1, 2))


class InPlace(nn.Module):
    """Activations that overwrite their input, and a residual addition in place."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4)
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        hidden = self.act(self.first(x))
        hidden += self.second(hidden)
        return self.out(hidden).squeeze(-1)


@dataclass
class Outcome:
    hidden: Tensor
    score: Tensor
    extra: dict[str, Any] = field(default_factory=dict)


class Wrapped(nn.Module):
    """A part whose output is a tuple, a dict or a dataclass, and which takes its input by keyword."""

    def __init__(self, form: str):
        super().__init__()
        self.form, self.inner, self.out = form, _Part(form), nn.Linear(4, 1)

    def forward(self, *, x):
        part = self.inner(x=x)
        hidden = {"tensor": lambda: part, "tuple": lambda: part[0], "list": lambda: part[0]}.get(
            self.form, lambda: part["hidden"] if self.form == "dict" else part.hidden
        )()
        return self.out(hidden).squeeze(-1)


class _Part(nn.Module):
    def __init__(self, form: str):
        super().__init__()
        self.form, self.linear = form, nn.Linear(4, 4)

    def forward(self, *, x):
        hidden = torch.tanh(self.linear(x))
        return {
            "tensor": lambda: hidden,
            "tuple": lambda: (hidden, None),
            "list": lambda: [hidden, "note"],
            "dict": lambda: {"hidden": hidden, "count": 3},
            "dataclass": lambda: Outcome(hidden, hidden.argmax(-1), {"note": "kept"}),
        }[self.form]()


class Twice(nn.Module):
    """One linear layer, called twice in a forward pass."""

    def __init__(self):
        super().__init__()
        self.shared, self.out = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.shared(torch.tanh(self.shared(x))))).squeeze(-1)


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@dataclass(frozen=True)
class Subject:
    """A network, a way to make inputs for it, and sites of it."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    sites: tuple[Any, ...]
    wrap: Callable[[Tensor], Any] = lambda x: x

    def network(self) -> ip.Network:
        return ip.Network(seeded(self.build))

    def inputs(self, n: int, seed: int = 0) -> Any:
        return self.wrap(numbers(n, *self.shape, seed=seed))


SUBJECTS = (
    Subject("mlp", lambda: mlp(4, 5, 3, 1), (4,), ("0", "0[2]", "2[(0, 2)]", "2:input[1]", ":input[3]", "1")),
    Subject("residual", Residual, (4,), ("first[1]", "second", "second:input[0:2]", "out:input")),
    Subject("conv", Convolutional, (1, 6, 6), ("conv[1]", "conv", "pool", "out:input[5]")),
    Subject("lstm", Recurrent, (4, 3), ("cell:output.0[-1, 2]", "cell:output.0[1, :]", "cell:input[0, 1]")),
    Subject(
        "encoder", Encoder, (4, 8), ("block[2, :]", "block.linear1[0, 3]", "block.self_attn:output.0", "block.norm1")
    ),
    Subject("in place", InPlace, (4,), ("first", "first[1]", "act[(1, 2)]", "second", "out:input[0]")),
    Subject("twice", Twice, (4,), ("shared#0[1]", "shared#1", "shared#1:input[2]")),
    *(
        Subject(
            form, lambda form=form: Wrapped(form), (4,), (site, "out:input[2]", "inner.linear[1]"), lambda x: {"x": x}
        )
        for form, site in (
            ("tensor", "inner[1]"),
            ("tuple", "inner[1]"),
            ("list", "inner[1]"),
            ("dict", "inner[1]"),
            ("dataclass", "inner[1]"),
        )
    ),
)


# -- gates: what mediates is known by construction ---------------------------------------------------


def gate(function: Callable[[Any, Any], Any]) -> ip.CausalModel:
    """Two bits, each copied once, and a function of the copies."""
    bits = (0, 1)
    return ip.CausalModel(
        P=ip.Variable(bits),
        Q=ip.Variable(bits),
        p=ip.Variable(lambda P: P + 0),
        q=ip.Variable(lambda Q: Q + 0),
        Y=ip.Variable(function),
    )


AND = gate(lambda p, q: p * q)
OR = gate(lambda p, q: p + q - p * q)
XOR = gate(lambda p, q: p + q - 2 * p * q)


def backup() -> ip.CausalModel:
    """One input with two copies, either of which suffices."""
    return ip.CausalModel(
        A=ip.Variable((0, 1)),
        a=ip.Variable(lambda A: A + 0),
        b=ip.Variable(lambda A: A + 0),
        Y=ip.Variable(lambda a, b: a + b - a * b),
    )


def opposed() -> ip.CausalModel:
    """Two paths that cancel: no total effect, and both alive."""
    return ip.CausalModel(
        A=ip.Variable(range(5)),
        up=ip.Variable(lambda A: A + 0),
        down=ip.Variable(lambda A: 0 - A),
        Y=ip.Variable(lambda up, down: up + down),
    )
