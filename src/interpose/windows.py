"""Windows: places that no module of a network passes by itself, shown in the runs that name them.

A window is a module of ours that hands on what it is given. While it is open, a value of the network goes through it,
and is read and written there as at the end of any other module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import AmbiguousSite
from .sites import Site
from .structures import choose, exchange
from .taps import BESIDE, Taps

EAGER, CHOICE = "eager", "_attn_implementation_internal"
"""The attention that makes patterns, and where configurations of transformers keep which attention is run."""

SOFTMAXES = (torch.nn.functional.softmax, torch.softmax, Tensor.softmax)
"""What makes a pattern of scores."""


class Window(nn.Module):
    """Hands on what it is given; among: the modules of the network by their paths, which are no parts of the window."""

    def __init__(self, among: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.among = among

    def forward(self, *given: Tensor) -> Any:
        """What was given, as it is."""
        return given

    def taps(self) -> Taps:
        """What leads a value of the network through the window, for one run."""
        raise NotImplementedError

    @property
    def note(self) -> str | None:
        """What a reader should know of runs in which it is open."""
        return None


@contextmanager
def opened(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The windows among some modules, open in all the runs that this thread makes in the meantime."""
    beside = BESIDE.get()
    token = BESIDE.set(
        (*beside, *dict.fromkeys(m.taps for m in modules if isinstance(m, Window) if m.taps not in beside))
    )
    try:
        yield
    finally:
        BESIDE.reset(token)


class _Leading(Taps):
    """Taps that lead a value through a window. A call that is left out, since what it gave is known, is no mistake."""

    def check(self, owner: str) -> None:
        """Raise AmbiguousSite where a module ran several times: only its first call went through the window."""
        for site, times in self.met.items():
            if times > 1:
                raise AmbiguousSite(
                    f"{site.path!r} ran {times} times in this forward pass, so it is not clear in which of these calls "
                    "something inside of it is meant."
                )


# -- the stream between two parts --------------------------------------------------------------------------


class Between(Window):
    """The residual stream after some parts were added to it, which no module passes alone: [row, token, unit].

    before: where the stream enters; added: where the parts come out that are added to it, times `factor`. What is
    written is the stream: the last part becomes what must be added for it, up to rounding, so all that follows sees it,
    by a norm or by the sum around the next part. Entries that are not written stay as they are, bit for bit.
    """

    def __init__(self, among: Mapping[str, nn.Module], before: Site, added: Sequence[Site], factor: float) -> None:
        super().__init__(among)
        self.before, self.added, self.factor = before, tuple(added), factor

    def forward(self, *given: Tensor) -> Any:
        """The stream, as it is."""
        return given[0]

    def taps(self) -> Taps:
        """What adds up the stream as it goes by."""
        return _Adding(self)


class _Adding(_Leading):
    def __init__(self, window: Between) -> None:
        super().__init__([window.before, *window.added], window.among)
        self.window = window
        self.stream: Tensor | None = None

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """The structure, with what must be added for the stream to be what was written in the window."""
        window = self.window
        for site in here:
            leaf, found = choose(structure, site.leaf, owner)
            if site == window.before:
                self.stream = found.clone()
                continue
            assert self.stream is not None
            before, self.stream = self.stream, self.stream + _times(window.factor, found)
            if site == window.added[-1]:
                after = window(self.stream)
                if after is not self.stream:
                    added = _times(1 / window.factor, after - before)
                    structure = exchange(structure, leaf, torch.where(after == self.stream, found, added))
        return structure


def _times(factor: float, x: Tensor) -> Tensor:
    return x if factor == 1 else factor * x


# -- the patterns of attention -----------------------------------------------------------------------------


class Pattern(Window):
    """What a softmax inside an attention gives: of each head, as a leaf by its number, [row, query, key].

    attention: its path. It runs by its own eager code, since fused attention makes no patterns; the choice of
    attention in the configurations of the network is restored after each run.
    """

    def __init__(self, among: Mapping[str, nn.Module], attention: str, heads: int) -> None:
        super().__init__(among)
        self.attention, self.heads = attention, heads

    def taps(self) -> Taps:
        """What looks for the softmax while the attention runs."""
        return _Attending(self)

    def led_through(self, found: Tensor) -> Tensor:
        """A pattern [row, head, query, key], or with rows and heads on one axis, after the window."""
        if found.ndim not in (3, 4) or found.shape[:-2].numel() % self.heads:
            return found
        heads = found.reshape(-1, self.heads, *found.shape[-2:]).unbind(1)
        gave = self(*heads)
        if all(new is old for new, old in zip(gave, heads, strict=True)):
            return found
        return torch.cat([head[:, None] for head in gave], 1).reshape(found.shape)

    @property
    def note(self) -> str | None:
        """That attention ran as it does not run otherwise, if so."""
        chosen = sorted({str(vars(one)[CHOICE]) for one in _configurations(self.among)} - {EAGER, "None"})
        others = " and ".join(map(repr, chosen))
        return f"Attention ran as {EAGER!r}, which makes patterns, and not as {others}." if chosen else None


class _Attending(_Leading):
    def __init__(self, window: Pattern) -> None:
        super().__init__([Site(window.attention, end="input"), Site(window.attention)], window.among)
        self.window = window
        self.running = ExitStack()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """With hooks on the attention, and eager attention everywhere."""
        with super().attached(), _eager(_configurations(self.window.among)), self.running:
            yield

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """Looks for a softmax from the beginning of a call to its end."""
        for site in here:
            if site.end == "input":
                self.running.enter_context(_Softmaxes(self.window))
            else:
                self.running.close()
        return structure


class _Softmaxes(TorchFunctionMode):
    """Leads what every softmax gives through a window."""

    def __init__(self, window: Pattern) -> None:
        super().__init__()
        self.window = window

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        return self.window.led_through(found) if func in SOFTMAXES else found


def _configurations(modules: Mapping[str, nn.Module]) -> list[Any]:
    """The configurations of a network's modules that say which attention is run."""
    found = {id(config): config for m in modules.values() if (config := getattr(m, "config", None)) is not None}
    return [config for config in found.values() if CHOICE in getattr(config, "__dict__", {})]


@contextmanager
def _eager(configurations: Sequence[Any]) -> Iterator[None]:
    """Eager attention in all of them; what was chosen is restored in any case."""
    before = [vars(config)[CHOICE] for config in configurations]
    try:
        for config in configurations:
            vars(config)[CHOICE] = EAGER
        yield
    finally:
        for config, chosen in zip(configurations, before, strict=True):
            vars(config)[CHOICE] = chosen
