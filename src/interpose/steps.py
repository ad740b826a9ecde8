"""Which tokens pass in which step of a generation, and what is written there.

A token is processed once. Step 0 processes the prompt, positions 0 to T-1; step k the token at position T-1+k alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .errors import WrongInput
from .interventions import as_intervention
from .sites import Site


@dataclass(frozen=True)
class Steps:
    """The passes of a generation.

    start: how many tokens the first pass has; prompt: how many the encoder takes, where there is one.
    tokens: how many steps there may be. encoder: the path of the encoder, which runs in step 0 alone.
    """

    start: int
    prompt: int
    tokens: int
    encoder: str | None

    def span(self, site: Site, step: int) -> range:
        """The positions that pass at a site in a step."""
        if self.encoder is not None and (site.path + ".").startswith(self.encoder + "."):
            return range(self.prompt if step == 0 else 0)
        return range(self.start) if step == 0 else range(self.start + step - 1, self.start + step)

    def within(self, site: Site, step: int) -> Site | None:
        """The site as it is addressed in the pass of one step; None where none, or not all, of its tokens pass.

        Positions from 0 count in the whole text; negative ones from the end of what passes in the step.
        """
        span = self.span(site, step)
        if not len(span):
            return None
        if isinstance(site.position, int):
            local = _local(site.position, span)
            return None if local is None else site if local == site.position else replace(site, position=local)
        if isinstance(site.position, tuple):
            found = [_local(position, span) for position in site.position]
            return None if None in found else replace(site, position=tuple(found))  # type: ignore[arg-type]
        return site

    def of(self, site: Site) -> list[int]:
        """The steps in which a site is met."""
        return [step for step in range(self.tokens) if self.within(site, step) is not None]

    def check(self, site: Site) -> list[int]:
        """The same. Raises WrongInput where there are none."""
        if not (found := self.of(site)):
            raise WrongInput(
                f"{site} is in no step: the first pass holds positions 0 to {len(self.span(site, 0)) - 1}, and each of "
                f"{self.tokens - 1} later ones the next position alone. Positions of several steps are named apart."
            )
        return found

    def are_named(self, site: Site, new: Any) -> bool:
        """Whether a write asks for certain steps, by their number or by a position that comes in one of them."""
        positions = (site.position,) if isinstance(site.position, int) else site.position
        return isinstance(new, Mapping) or (isinstance(positions, tuple) and min(positions, default=-1) >= 0)

    def words(self, step: int) -> str:
        """What passes in a step."""
        return f"{self.start} tokens" if step == 0 else f"one token, at position {self.start + step - 1}"


Plan = dict[Site, dict[int, Callable[[Any], Any]]]


def planned(steps: Steps, write: Mapping[Site, Any]) -> Plan:
    """What is written at which site in which step.

    write: site -> value or intervention, for every step in which the site is met; or site -> {step: value}, for these.
    Raises WrongInput for a step that cannot come, or in which the site is not met.
    """
    plan: Plan = {}
    for site, new in write.items():
        met = steps.check(site)
        if not isinstance(new, Mapping):
            plan[site] = dict.fromkeys(met, as_intervention(new))
            continue
        if not new:
            raise WrongInput(f"{site} is to be written at no step. Say at which, as in {{0: value}}, or leave it out.")
        for step in new:
            if isinstance(step, bool) or not hasattr(step, "__index__") or not 0 <= step < steps.tokens:
                raise WrongInput(
                    f"{site} is to be written at step {step!r}; of {steps.tokens} tokens there are the steps 0 to "
                    f"{steps.tokens - 1}. Step 0 is the prompt's pass."
                )
            if step not in met:
                raise WrongInput(
                    f"{site} is not met in step {step}, a pass of {steps.words(step)}. It is in step "
                    f"{', '.join(map(str, met[:6]))}{' ...' if len(met) > 6 else ''}."
                )
        plan[site] = {int(step): as_intervention(value) for step, value in sorted(new.items())}
    return plan


def _local(position: int, span: range) -> int | None:
    if position < 0:
        return position if -position <= len(span) else None
    return position - span.start if position in span else None
