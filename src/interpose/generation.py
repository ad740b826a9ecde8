"""Generation with interventions: token after token, each token processed once, its places read and written then.

Step 0 is the pass of the prompt; step k is the pass of the k-th new token, which finds what earlier passes left in the
model's cache. So a write to a token lives on in every later step, as it would if the whole text were run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import NotFired, WrongInput, WrongPairs
from .generated import Generated, Missed, masked, ranges
from .model import Run, assigned, several
from .network import checked_writes
from .sites import Site
from .steps import Steps, planned
from .structures import close
from .taps import RunTaps, call, refuse_overlap
from .units import at_rest
from .windows import opened

CACHES = ("past_key_values", "cache_params")
"""What modules call what they keep of earlier tokens, in their output and among their arguments."""

TAKEN = ("input_ids", "attention_mask", "decoder_input_ids", "use_cache", "logits_to_keep")
"""The arguments with which a module is called step by step."""


class Chosen(NamedTuple):
    """How the next token is chosen: the likeliest, or drawn at a temperature; and which tokens end a text."""

    temperature: float | None
    generator: torch.Generator
    ends: tuple[int, ...]

    def __call__(self, logits: Tensor) -> Tensor:
        """[prompt]: the next token of each, from logits [prompt, vocabulary]."""
        if self.temperature is None:
            return logits.argmax(-1)
        shares = (logits.detach().double().cpu() / self.temperature).softmax(-1)
        return torch.multinomial(shares, 1, generator=self.generator)[:, 0].to(logits.device)


def generate(
    lm: Any,
    prompt: Any,
    *,
    tokens: int,
    read: Any,
    write: Mapping[Any, Any],
    temperature: float | None,
    seed: int | None,
    stop: Sequence[int] | None,
) -> Generated:
    """What a language model writes after a prompt: see `LanguageModel.generate`."""
    choose = _chosen(lm, tokens, temperature, seed, stop)
    asked = [lm.place(spelling) for spelling in several(read, "read")]
    news = {lm.place(spelling): new for spelling, new in assigned(write).items()}
    prompts, place = _of_one_form(lm, prompt, [*asked, *news])
    reads, given = list(dict.fromkeys(map(place, asked))), {place(site): new for site, new in news.items()}
    if len(given) < len(news):
        refuse_overlap(*[site for site in news if [*map(place, news)].count(place(site)) > 1][:2])
    kwargs = _first_pass(lm, lm.arguments(prompts, [*reads, *given])[1])
    main = kwargs.get("decoder_input_ids", kwargs["input_ids"])
    steps = Steps(main.shape[1], kwargs["input_ids"].shape[1], tokens, lm.encoder)
    writes = planned(steps, given)
    for step in dict.fromkeys(step for plan in writes.values() for step in plan):
        checked_writes(lm, {site: plan[step] for site, plan in writes.items() if step in plan})
    for site in reads:
        steps.check(site)
    runs, chosen = _stepped(lm, place, kwargs, steps, reads, writes, choose)
    lengths = _lengths(chosen, choose.ends)
    named = {site: plan for site, plan in writes.items() if steps.are_named(site, given[site])}
    _check_fired(runs, reads, writes, named)
    return Generated(
        prompts=tuple(map(tuple, kwargs["input_ids"].tolist())),
        ids=tuple(tuple(row[:n]) for row, n in zip(chosen.tolist(), lengths, strict=True)),
        texts=_texts(lm, kwargs, chosen, lengths, choose.ends),
        steps=tuple(masked(run, step, lengths) for step, run in enumerate(runs)),
        ended=tuple(row[n - 1] in choose.ends for row, n in zip(chosen.tolist(), lengths, strict=True)),
        missed=tuple(
            Missed(site, step, late)
            for site, plan in named.items()
            for step in plan
            if (late := tuple(i for i, n in enumerate(lengths) if n <= step))
        ),
    )


def cache_of(lm: Any) -> str:
    """What a module calls its cache, once it is seen, by value, to stand for the tokens that it keeps.

    Raises WrongInput where there is none, or where logits with it are not those without.
    """
    name = type(lm.module).__name__
    whole = _first_pass(lm, lm.arguments(lm.trial(1))[1])
    key = "decoder_input_ids" if "decoder_input_ids" in whole else "input_ids"
    with at_rest(lm.module), torch.no_grad():
        plain = lm.outcome(call(lm.module, (), {**whole, "use_cache": False}, RunTaps([], {}, lm.modules)))
        first = call(lm.module, (), {**whole, key: whole[key][:, :-1]}, RunTaps([], {}, lm.modules))
        found = next((word for word in CACHES if getattr(first, word, None) is not None), None)
        if found is None:
            raise WrongInput(
                f"{name} gives no cache of earlier tokens ({' or '.join(CACHES)}), so that it cannot go on step by "
                "step. Run the whole text: lm.run(prompt)."
            )
        later = call(lm.module, (), _next(whole, first, found, whole[key][:, -1:]), RunTaps([], {}, lm.modules))
        cached = lm.outcome(later)
    if not close(plain, cached):
        raise WrongInput(
            f"{name} gives other logits with its cache than without (by {float((plain - cached).abs().max()):.2g}), so "
            "that its steps are not those of the text as a whole. Run the whole text: lm.run(prompt)."
        )
    return found


# -- the loop --------------------------------------------------------------------------------------


class _StepTaps(RunTaps):
    """The reads and writes of one step, in which a part of the model need not run: an encoder runs in step 0 alone."""

    def check(self, owner: str) -> None:
        """Leaves out what was not met; whether it was in any step is asked at the end."""
        self.met = {site: times for site, times in self.met.items() if times}
        super().check(owner)


def _stepped(
    lm: Any,
    place: Callable[[Any], Site],
    kwargs: dict[str, Any],
    steps: Steps,
    reads: Sequence[Site],
    writes: Mapping[Site, Mapping[int, Callable[[Any], Any]]],
    choose: Chosen,
) -> tuple[list[Run[Site]], Tensor]:
    """A run a step, up to the one after which every prompt has ended, and the tokens chosen: [prompt, step]."""
    cache, runs, chosen, main = lm.cache, [], [], kwargs["input_ids"]
    ends = torch.tensor(choose.ends, dtype=torch.long, device=main.device)
    ended = torch.zeros(len(main), dtype=torch.bool, device=main.device)
    given, (windows, _) = kwargs, lm.shown([*writes, *reads])
    for step in range(steps.tokens):
        here = {steps.within(site, step): site for site in dict.fromkeys([*writes, *reads])}
        now = {there: writes[site][step] for there, site in here.items() if there and step in writes.get(site, ())}
        taps = _StepTaps([there for there, site in here.items() if there and site in reads], now, lm.modules)
        try:
            with opened(windows):
                output = call(lm.module, (), given, taps)
        except Exception as error:
            error.add_note(f"This was at step {step} of the generation, a pass of {steps.words(step)}.")
            raise
        ledger = tuple(replace(entry, place=here[entry.place]) for entry in taps.ledger())
        values = {here[there]: value for there, value in taps.values.items()}
        runs.append(Run(lm.outcome(output), values, ledger, place))
        token = choose(runs[-1].output).to(main.device)
        if step:
            token = torch.where(ended, chosen[-1], token)
        chosen.append(token)
        ended = ended | torch.isin(token, ends)
        if bool(ended.all()) or step + 1 == steps.tokens:
            break
        given = _next(given, output, cache, token[:, None])
    return runs, torch.stack(chosen, 1)


def _next(given: Mapping[str, Any], output: Any, cache: str, token: Tensor) -> dict[str, Any]:
    """How the module is called with one more token, given how it was called before and what that gave."""
    kwargs = {**given, cache: getattr(output, cache)}
    if "decoder_input_ids" not in given:
        return {**kwargs, "input_ids": token}
    kwargs.pop("input_ids", None)
    encoded = given.get("encoder_outputs", (output.encoder_last_hidden_state,))
    return {**kwargs, "decoder_input_ids": token, "encoder_outputs": encoded}


def _of_one_form(lm: Any, prompt: Any, sites: Sequence[Site]) -> tuple[Any, Callable[[Any], Site]]:
    """The prompts, and what a spelling means in them: a site whose position, where it has a name, is counted.

    Raises WrongPairs for prompts of several forms.
    """
    forms = lm.forms(prompt, sites)
    if forms is None:
        return prompt, lm.place
    if len(forms) > 1:
        raise WrongPairs(
            f"These prompts have {len(forms)} forms: other lengths, or the same names at other positions. Prompts that "
            "generate together have one: generate from each apart."
        )
    (form,) = forms

    def place(spelling: Any) -> Site:
        site = lm.place(spelling)
        return form.sites.get(site) or _of_one_form(lm, prompt, [site])[1](site) if site.is_named else site

    return form.inputs, place


def _first_pass(lm: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the first pass, with a cache. Raises WrongInput for what later passes would not be given."""
    unknown = [name for name in kwargs if name not in TAKEN]
    if unknown or "input_ids" not in kwargs:
        raise WrongInput(
            f"Generation starts from texts or token ids; later steps would be without {', '.join(unknown) or 'any'}."
        )
    kept = {name: value for name, value in kwargs.items() if name != "attention_mask"}
    return {**kept, "use_cache": True}


# -- small things ----------------------------------------------------------------------------------


def _chosen(lm: Any, tokens: Any, temperature: float | None, seed: int | None, stop: Sequence[int] | None) -> Chosen:
    """How tokens are chosen. Raises WrongInput for what would be ignored or cannot be done."""
    if isinstance(tokens, bool) or not hasattr(tokens, "__index__") or tokens < 1:
        raise WrongInput(f"tokens={tokens!r}: at least one token is generated.")
    if temperature is None and seed is not None:
        raise WrongInput(f"seed={seed}: without a temperature the likeliest token is taken, and nothing is drawn.")
    if temperature is not None and not 0 < temperature < float("inf"):
        raise WrongInput(f"temperature={temperature}: give a number above 0; for the likeliest token, leave it out.")
    if temperature is not None and seed is None:
        raise WrongInput("Tokens are drawn at a temperature, so give the seed of the draw too: seed=0.")
    generator = torch.Generator().manual_seed(seed or 0)
    return Chosen(temperature, generator, _ends(lm) if stop is None else tuple(map(int, stop)))


def _ends(lm: Any) -> tuple[int, ...]:
    """The tokens that end a text, as the model says, or else its tokenizer."""
    for owner in (getattr(lm.module, "generation_config", None), getattr(lm.module, "config", None), lm.tokenizer):
        ends = getattr(owner, "eos_token_id", None)
        if ends is not None:
            return tuple(map(int, ends)) if isinstance(ends, Sequence) else (int(ends),)
    return ()


def _lengths(chosen: Tensor, ends: Sequence[int]) -> list[int]:
    """[prompt]: how many tokens each has, the one that ends it among them."""
    return [next((i + 1 for i, token in enumerate(row) if token in ends), len(row)) for row in chosen.tolist()]


def _check_fired(
    runs: Sequence[Run[Site]], reads: Sequence[Site], writes: Mapping[Site, Any], named: Mapping[Site, Any]
) -> None:
    """Raise NotFired for a site that was written or read in no step, or not in one that was asked for and came."""
    fired = [{entry.place for entry in run.ledger} for run in runs]
    for site, plan in writes.items():
        came = [step for step in plan if step < len(runs)]
        if not came:
            raise NotFired(
                f"{site} was to be written at step {ranges([*plan])}, but every text had ended after {len(runs)} "
                f"step{'s' * (len(runs) != 1)}, so that nothing was written there. Write at an earlier step, or go on "
                "past the end with stop=[]."
            )
        lacking = [step for step in came if site not in fired[step]]
        if lacking and (site in named or len(lacking) == len(came)):
            raise NotFired(
                f"{site.path!r} did not run at step {ranges(lacking)}, so nothing was written at {site}. Is it on a "
                "branch not taken, or bypassed by a fused path?"
            )
    for site in reads:
        if not any(site in run.values for run in runs):
            raise NotFired(f"{site.path!r} ran in none of {len(runs)} steps, so nothing was read at {site}.")


def _texts(
    lm: Any, kwargs: Mapping[str, Any], chosen: Tensor, lengths: Sequence[int], ends: Sequence[int]
) -> tuple[str, ...] | None:
    """What was added to each prompt, without the token that ends it; None without a tokenizer."""
    if lm.tokenizer is None:
        return None
    continued = "decoder_input_ids" not in kwargs

    def text(ids: list[int]) -> str:
        return str(lm.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    found = []
    for before, row, n in zip(kwargs["input_ids"].tolist(), chosen.tolist(), lengths, strict=True):
        new = row[: n - (row[n - 1] in ends)]
        start, whole = (text(before), text([*before, *new])) if continued else ("", text(new))
        found.append(whole[len(start) :] if whole.startswith(start) else text(new))
    return tuple(found)
