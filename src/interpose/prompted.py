"""A language model as a causal model with named inputs: a setting of them makes a prompt, and tokens stand for values.

So a claim about variables (`Alignment`) can be tested on a language model as on any network.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch

from .columns import is_column
from .errors import WrongAnswers
from .inputs import examples
from .language import LanguageModel
from .model import NOTHING, Model, Run
from .named import Prompt, filled, numbered
from .sites import Site


class Prompted(Model[Site]):
    """A language model whose inputs are settings of variables, and whose output is a value, [pair].

    prompt: how a setting becomes a prompt: a text with the names in braces, as in "{A} plus {B} is", which are then
        positions with a name too; or a function of the setting, a dict, that gives a text or token ids.
    answers: the values that may be the outcome, each with its token: a text of one token, as {7: " seven"}, or an id.
        The output is the value whose token is likeliest among these, the first of them where several are.

    Sites and positions are those of the language model. Raises WrongAnswers for answers that one token cannot give or
    tell apart; for the rest, what `LanguageModel.run` raises.
    """

    def __init__(
        self,
        lm: LanguageModel,
        prompt: str | Callable[[Mapping[str, Any]], Any],
        answers: Mapping[Hashable, str | int],
    ) -> None:
        self.lm, self.prompt = lm, prompt
        if not isinstance(answers, Mapping) or not answers:
            raise WrongAnswers(f"answers says which token stands for which value: {{7: ' seven'}}, not {answers!r}.")
        self.answers = {value: self._token(value, answer) for value, answer in answers.items()}
        taken: dict[int, Any] = {}
        for value, token in self.answers.items():
            if token in taken:
                raise WrongAnswers(
                    f"{taken[token]!r} and {value!r} both have token {token} for an answer. Nothing could tell them "
                    "apart."
                )
            taken[token] = value

    def __repr__(self) -> str:
        return f"Prompted({self.lm!r}, {self.prompt!r}, {len(self.answers)} answers)"

    @property
    def module(self) -> Any:
        """The language model's module."""
        return self.lm.module

    def place(self, spelling: Any) -> Site:
        """The language model's site of that spelling."""
        return self.lm.place(spelling)

    def precedes(self, place: Any, other: Any) -> bool:
        """Whether a run reaches one site before the other."""
        return self.lm.precedes(place, other)

    def comparable(
        self, base: Any, source: Any, places: Sequence[Any], names: tuple[str, str] = ("the base", "the source")
    ) -> None:
        """Raise WrongPairs where the language model does, of the prompts of these settings."""
        self.lm.comparable(self.prompts(base), self.prompts(source), places, names)

    def ready(self) -> None:
        """Raise NotRepeatable where the language model does."""
        self.lm.ready()

    def prompts(self, inputs: Any) -> list[Any]:
        """The prompt of each setting. Raises WrongInput where the text asks for a name that a setting does not have."""
        single = isinstance(inputs, Mapping) and not any(map(is_column, inputs.values()))
        settings = [inputs] if single else examples(inputs)
        if not isinstance(self.prompt, str):
            return [self.prompt(setting) for setting in settings]
        made = [filled(self.prompt, setting) for setting in settings]
        return [Prompt.marked(text, numbered(spans)) for text, spans in made]

    def run(self, inputs: Any, *, read: Iterable[Any] = (), write: Mapping[Any, Any] = NOTHING) -> Run[Site]:
        """Run the language model on the prompts of these settings; see `LanguageModel.run`."""
        run = self.lm.run(self.prompts(inputs), read=read, write=write)
        tokens = torch.tensor(list(self.answers.values()), device=run.output.device)
        values = list(self.answers)
        likeliest = run.output.index_select(-1, tokens).argmax(-1).tolist()
        return Run([values[i] for i in likeliest], run.values, run.ledger, run.place)

    def _token(self, value: Any, answer: str | int) -> int:
        if not isinstance(answer, str):
            return int(answer)
        pieces = self.lm.tokens(answer, special=False)
        if len(pieces) != 1:
            raise WrongAnswers(
                f"The answer {answer!r} for {value!r} is {len(pieces)} tokens, {pieces}, and a next token is one. "
                "Choose answers of one token each."
            )
        return self.lm.token_ids(answer, special=False)[0]
