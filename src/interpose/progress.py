"""A progress bar in terminals and notebooks, for what takes longer than a second."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(total: int, progress: bool | None, *, unit: str = "run") -> Iterator[Callable[[float], object]]:
    """What to call with how much was done since. None shows a bar in terminals and notebooks, after a second."""
    shown = (sys.stderr.isatty() or "ipykernel" in sys.modules) if progress is None else progress
    if not shown:
        yield lambda done: None
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*IProgress.*")
        from tqdm.auto import tqdm
    shape = "{l_bar}{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
    shown_bar = tqdm(total=total, unit=unit, leave=False, delay=1 if progress is None else 0, bar_format=shape)
    try:
        yield shown_bar.update
    finally:
        shown_bar.close()


class Once:
    """Progress that is told of once, also where a part is done again: set `so_far` back, and it is told from there."""

    def __init__(self, tick: Callable[[float], object]) -> None:
        self.tick, self.so_far, self.most = tick, 0.0, 0.0

    def __call__(self, part: float) -> None:
        self.so_far += part
        if self.so_far > self.most:
            self.tick(self.so_far - self.most)
            self.most = self.so_far

    def scaled(self, share: float) -> Callable[[float], None]:
        """What to tell of something that is this share of one."""
        return lambda part: self(share * part)
