"""A network with a planted algorithm: the module, and the key that tells what is in it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import OutsideDomain, UnknownPlace, suggest
from ...network import Network
from .answer import Verdict
from .build import planned
from .encodings import ENCODINGS, Encoding
from .key import Key, LayerKey
from .measure import layer_keys
from .plan import Plan
from .program import Program
from .programs import PROGRAMS
from .truth import Truth

Thing = TypeVar("Thing")

VERSION = 1
"""Of the generator: the same program, encoding and seed give the same network while this stays."""
FLOAT32_TOL = 1e-2
"""What outputs are told apart by at float32, unless the encoding's noise asks for more."""
NOISY_RESOLUTION = 0.3
"""Where noise exceeds the tolerance, planted classes show at this distance."""


class Layers(nn.Sequential):
    """Linear layers l1, l2, ..., some with a ReLU after them (r1, r2, ...); a single output loses its axis."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., input] -> [..., output], or [...] where there is one output."""
        output: Tensor = super().forward(input)
        return output.squeeze(-1) if output.shape[-1] == 1 else output


def module_of(plan: Plan, dtype: torch.dtype) -> Layers:
    """The weights of a plan as a module."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number, layer in enumerate(plan.layers, 1):
        units, below = layer.weights.shape
        linear = nn.Linear(below, units, dtype=dtype, device="meta").to_empty(device="cpu")
        linear.load_state_dict({"weight": torch.tensor(layer.weights), "bias": torch.tensor(layer.bias)})
        parts[f"l{number}"] = linear
        if layer.bends:
            parts[f"r{number}"] = nn.ReLU()
    module = Layers(parts).eval()
    module.requires_grad_(False)
    return module


@dataclass(frozen=True, eq=False, repr=False)
class Planted:
    """A network in which an algorithm was planted.

    network: with named inputs. program: what was planted; None in a control. The key is measured when it is asked for.
    """

    network: Network
    program: Program
    encoding: Encoding
    seed: int
    version: int = VERSION
    control: bool = False
    plan: Plan = field(kw_only=True)
    tol: float = field(kw_only=True)

    def __repr__(self) -> str:
        layers = [f"{path} of {self.network.width(path)}" for path in self.network.layers()]
        lines = [
            f"A network of {', '.join(self.network.inputs)} with layers {', '.join(layers)}.",
            *(f"  {name} in {_domain(domain)}" for name, domain in self.inputs.items()),
            "What does it compute, and where? .key.explain() tells.",
        ]
        return "\n".join(lines)

    @property
    def inputs(self) -> dict[str, Sequence[int]]:
        """The inputs and their domains; the network may order them differently."""
        return dict(self.program.inputs)

    @property
    def settings(self) -> list[dict[str, int]]:
        """Every setting of the inputs, in the order of the classes of claims: the last of `inputs` varies fastest."""
        return self.program.settings()

    @cached_property
    def key(self) -> Key:
        """What the network computes and where."""
        return key_of(self)


def _domain(domain: Sequence[int]) -> str:
    return f"{domain[0]}..{domain[-1]}"


def planted(
    program: Program | str, encoding: Encoding | str = "mixed", seed: int = 0, *, dtype: torch.dtype = torch.float64
) -> Planted:
    """A network that runs a program, written into neurons by an encoding; the seed draws its constants.

    program, encoding: or their names in `PROGRAMS` and `ENCODINGS`. dtype: float64 or float32.
    Raises UnknownPlace for a name that there is not.
    """
    program = _named(program, PROGRAMS, "program") if isinstance(program, str) else program
    encoding = _named(encoding, ENCODINGS, "encoding") if isinstance(encoding, str) else encoding
    plan = planned(program, encoding, generator(program.name, encoding.name, seed))
    return from_plan(plan, program, encoding, seed, dtype)


def from_plan(
    plan: Plan, program: Program, encoding: Encoding, seed: int, dtype: torch.dtype, *, control: bool = False
) -> Planted:
    """A plan as a network with its key."""
    if dtype not in (torch.float64, torch.float32):
        raise OutsideDomain(f"dtype={dtype}: a planted network is exact at torch.float64 or torch.float32.")
    network = Network(module_of(plan, dtype), inputs=plan.inputs)
    tol = max(encoding.tol, FLOAT32_TOL) if dtype == torch.float32 else encoding.tol
    return Planted(network, program, encoding, seed, control=control, plan=plan, tol=tol)


def _named(name: str, known: dict[str, Thing], what: str) -> Thing:
    if name not in known:
        raise UnknownPlace(f"There is no {what} {name!r}. {suggest(name, known)}")
    return known[name]


def generator(*words: object) -> np.random.Generator:
    """Random numbers that depend on these words and the version only."""
    digest = hashlib.sha256(repr((VERSION, *words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def key_of(instance: Planted) -> Key:
    """The key of a network: its function checked on every input, every site and group forced to every value."""
    program, plan, tol, noise = instance.program, instance.plan, instance.tol, instance.encoding.noise
    settings = program.settings()
    inputs = np.array([[setting[name] for name in plan.inputs] for setting in settings], float)
    resolution = max(tol, NOISY_RESOLUTION) if noise > 1 else tol
    single = next(instance.network.module.parameters()).dtype == torch.float32
    truth = Truth(
        instance.network.module,
        plan.inputs,
        inputs,
        tol=tol,
        resolution=resolution,
        grain=1e-4 if single else 1e-9,
        coarse=0.1 if noise else 1e-3 if single else 1e-6,
    )
    _check_passes(instance.network.module, truth, inputs)
    outputs = truth.output[:, 0].tolist() if instance.control else [float(program.run(setting)) for setting in settings]
    error = 0.0 if instance.control else _error(truth, outputs, program.classes)
    layers, doubts = layer_keys(truth, plan.groups, plan.mixtures)
    if error > resolution:
        doubts = (*doubts, f"the network is off by {error:.2g}")
    return Key(
        program=program.name,
        function=program.function,
        encoding=instance.encoding.name,
        seed=instance.seed,
        version=instance.version,
        inputs=dict(program.inputs),
        settings=tuple(settings),
        outputs=tuple(outputs),
        error=error,
        layers=layers,
        verdicts=("none", "partial") if instance.control else _verdicts(truth, layers),
        control=instance.control,
        ambiguous=() if instance.control else doubts,
        truth=truth,
    )


def _check_passes(module: nn.Module, truth: Truth, inputs: np.ndarray) -> None:
    """The module gives what the key's own passes give."""
    dtype = next(module.parameters()).dtype
    given = module(torch.tensor(inputs, dtype=dtype)).double().reshape(truth.output.shape).numpy()
    scale = max(1.0, float(np.abs(truth.output).max()))
    near = 1e-4 if dtype == torch.float32 else 1e-9
    assert np.abs(given - truth.output).max() <= near * scale, "the module and the key's own passes differ"


def _error(truth: Truth, outputs: Sequence[float], classes: int | None) -> float:
    """How far the network is from what it should give.

    Of logits, the greatest distance among settings of one class; infinite where another class wins.
    """
    wanted = np.array(outputs)
    if classes is None:
        return float(np.abs(truth.output[:, 0] - wanted).max())
    if (truth.output.argmax(1) != wanted).any():
        return float("inf")
    return max(float(np.ptp(truth.output[wanted == one], axis=0).max()) for one in np.unique(wanted))


def _verdicts(truth: Truth, layers: Sequence[LayerKey]) -> tuple[Verdict, ...]:
    """What may be said of the whole: approximate where a cell's classes, or an inert site, do not hold within tol."""
    for layer in layers:
        for cell in layer.cells:
            strict, _, _ = truth.graded(cell.sites)
            _, within, _ = truth.graded(cell.sites, truth.resolution)
            if strict != cell.classes or within > truth.tol:
                return ("approximate",)
        if any(inert.why == "only noise" for inert in layer.inert.values()):
            return ("approximate",)
    return ("partial",) if any(layer.distributed for layer in layers) else ("exact", "verified")
