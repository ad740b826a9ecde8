"""What the engine asks of a network."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn


class Subject(Protocol):
    """What the engine asks of a network."""

    module: nn.Module
    modules: dict[str, nn.Module]
    paths: dict[nn.Module, str]
    reads_last: bool

    def outcome(self, output: Any) -> Any:
        """What a run calls its output."""
        ...

    def unembedding(self) -> str | None:
        """The path of the layer whose units are the outcome."""
        ...
