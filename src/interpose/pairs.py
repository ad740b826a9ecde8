"""Pairs of a base and a source input, and what is known of them: what varies, what should come out.

The field also calls base and source clean and corrupted; here the words only say which input runs by
default (base) and which donates (source).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .drawn import varied
from .errors import Unsatisfiable, WrongInput, WrongPairs
from .inputs import count, examples, join, key, keys, repeat, rows_of, take
from .pair_files import parts_of
from .prompts import answer_ids, lined_up, marked, prompt_of, token_answers, token_columns, two_sided
from .selection import Selected, where_correct
from .splitting import components, parted

PARTS = ("base", "source", "targets", "answers", "swapped_targets", "families")
WORDS = ("tokens", "source_tokens")
"""What has one entry a pair: examples of any form, and texts."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Base and source inputs, one of each a pair.

    base, source: a list with one example an element; or a tensor or array whose first axis is the pair;
        or a dict or tuple of such columns. They are kept as they were given.
    varies: the variables in which base and source differ, and they alone (checked where inputs are named).
    targets: [pair], what should come out of the base run once the source's value of `varies` is put in.
    answers: [pair, 2] token ids, the base's answer and the source's.
    tokens, source_tokens: [pair][position], the tokens of base and source as text, for labels.
    exhaustive: these are all the pairs there are, so no interval is owed.
    independent: the pairs were drawn independently of each other, so each is its own cluster.
    families: [pair], a name for what pairs have in common, such as their template; then a family is a cluster.

    Raises WrongPairs if base and source differ in number, or differ where they should not.
    """

    base: Any
    source: Any
    varies: tuple[str, ...] = ()
    targets: Any = None
    answers: Tensor | None = None
    tokens: tuple[tuple[str, ...], ...] | None = None
    exhaustive: bool = False
    independent: bool = False
    swapped_targets: Any = None
    source_tokens: tuple[tuple[str, ...], ...] | None = None
    families: Any = None

    def __post_init__(self) -> None:
        names = (self.varies,) if isinstance(self.varies, str) else tuple(self.varies)
        object.__setattr__(self, "varies", names)
        if self.answers is not None:
            object.__setattr__(self, "answers", torch.as_tensor(self.answers))
        if self.families is not None:
            object.__setattr__(self, "families", list(self.families))
        _check_counts(
            count(self.base),
            source=self.source,
            targets=self.targets,
            answers=self.answers,
            tokens=self.tokens,
            families=self.families,
        )
        if names:
            _check_varies(self.base, self.source, names)

    # -- made from a causal model ------------------------------------------------------------------

    @classmethod
    def varying(cls, model: Any, *names: str, n: int | None = None, seed: int | random.Random = 0) -> Pairs:
        """Pairs in which the input variables `names` differ, each of them, and nothing else does.

        model: a causal model whose input variables have domains; its output for the source is the target.
        n: how many pairs to draw, uniformly and with replacement; None enumerates every pair there is.
        seed: an int, or a `random.Random` to go on drawing from. The same seed gives the same pairs in any process.
        Raises UnknownPlace for a name that is no input, NoDomain, or Unsatisfiable where nothing can vary.
        """
        return cls(**varied(model, names, n, seed))

    @classmethod
    def sample(cls, model: Any, *, n: int, seed: int | random.Random = 0) -> Pairs:
        """Pairs of two settings drawn independently, so that anything may vary. They carry no targets."""
        rng = seed if isinstance(seed, random.Random) else random.Random(seed)
        settings = model.sample(2 * n, seed=rng)
        return cls(settings[::2], settings[1::2], independent=True)

    # -- made from text ----------------------------------------------------------------------------

    @classmethod
    def from_prompts(
        cls,
        lm: Any,
        *,
        base: Sequence[str],
        source: Sequence[str],
        answers: Sequence[tuple[str, str]],
        families: Sequence[Any] | None = None,
        positions: Mapping[str, Any] | None = None,
        first_tokens: bool = False,
    ) -> Pairs:
        """Prompts with the next token each should get, checked token by token.

        lm: a language model with a tokenizer; base, source: one prompt a pair; answers: (base's, source's) a pair;
        families: what counts as one observation, such as the word that varies where all pairs have the same source.
        positions: names for words that stand at other positions in base and source, {"city": (of the bases, of the
        sources)}, a text a prompt each; a site at position "{city[-1]}" is then at its last token in either.
        first_tokens: answers of several tokens are told apart by their first.
        Raises WrongPairs if the prompts of a pair differ in their number of tokens and have no names for positions,
        WrongAnswers if an answer is not one token or both are the same; warns ShiftedWords where words moved.
        """
        _check_counts(len(base), source=source, answers=answers)
        base, source = list(base), list(source)
        if positions is not None:
            sides = ({name: both[k] for name, both in two_sided(positions).items()} for k in (0, 1))
            base, source = (
                marked(texts, places, side=side)
                for texts, places, side in zip((base, source), sides, ("base", "source"), strict=True)
            )
        tokens, others = lined_up(lm, base, source)
        return cls(
            base,
            source,
            answers=answer_ids(lm, answers, first_tokens=first_tokens),
            tokens=tokens,
            source_tokens=others,
            families=families,
        )

    @classmethod
    def from_template(
        cls,
        lm: Any,
        template: str,
        *,
        base: Sequence[Any],
        source: Sequence[Any],
        answers: Sequence[tuple[str, str]],
        families: Sequence[Any] | None = None,
        first_tokens: bool = False,
    ) -> Pairs:
        """Prompts made of a template, "The city of {city} is in", whose parts are positions with a name.

        base, source: the values of the parts, [{"city": "Paris"}, ...], or ["Paris", ...] where there is one part.
        They may have any number of tokens: lm.residual(positions=["{city[-1]}", -1]) is at the last of each city's, and
        at the last of the prompt. The other arguments are those of `from_prompts`.
        """
        return cls.from_prompts(
            lm,
            base=[prompt_of(template, values) for values in base],
            source=[prompt_of(template, values) for values in source],
            answers=answers,
            families=families,
            first_tokens=first_tokens,
        )

    @classmethod
    def from_file(cls, lm: Any, file: Any) -> Pairs:
        """Pairs of prompts from a .jsonl or .csv file, a saved data set, or any rows with named columns.

        Columns: base, source, answers (in CSV answer and source_answer), and family if named. Raises WrongPairs or
        WrongAnswers with the number of the wrong line, before anything is run.
        """
        return cls(**parts_of(lm, file))

    @classmethod
    def from_tokens(cls, *, base: Any, source: Any, answers: Any, positions: Mapping[str, Any] | None = None) -> Pairs:
        """Token ids, for models without a tokenizer: base and source [pair, token], answers [pair, 2].

        positions: names for positions, {"subject": (of the bases, of the sources)}, one or several a pair; then the two
        of a pair may differ in length.
        """
        rows = token_columns(base, source, positions if positions is None else two_sided(positions))
        return cls(*rows, answers=token_answers(answers, len(base)))

    @classmethod
    def joined(cls, several: Sequence[Pairs]) -> Pairs:
        """The pairs of several data sets, one after the other; what only some of them carry is left out."""

        def column(name: str) -> Any:
            found = [getattr(pairs, name) for pairs in several]
            if any(part is None for part in found):
                return None
            return tuple(itertools.chain(*found)) if name in WORDS else reduce(join, found)

        varies = {pairs.varies for pairs in several}
        return cls._made(
            varies=varies.pop() if len(varies) == 1 else (),
            **{name: column(name) for name in (*PARTS, *WORDS)},
            exhaustive=False,
            independent=all(pairs.independent for pairs in several),
        )

    # -- what one does with pairs ------------------------------------------------------------------

    def __len__(self) -> int:
        return count(self.base)

    def __getitem__(self, rows: int | slice | Sequence[int] | Sequence[bool]) -> Pairs:
        """Some of the pairs, also by a mask; a single number gives one pair."""
        size = len(self)
        index = rows_of(rows, size)
        if index == list(range(size)):
            return self
        return self._each(
            lambda part: take(part, index),
            lambda words: tuple(words[i] for i in index),
            exhaustive=self.exhaustive and sorted(index) == list(range(size)),
            independent=self.independent and len(set(index)) == len(index),
        )

    def repeated(self, times: int) -> Pairs:
        """All the pairs so many times, one set after the other."""
        return self._each(
            lambda part: repeat(part, times), lambda words: words * times, exhaustive=False, independent=False
        )

    def __iter__(self) -> Iterator[Pairs]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        how_many = f"{len(self)} pair{'s' * (len(self) != 1)}"
        names = " and ".join(self.varies)
        what = f" in which {names} {'varies' if len(self.varies) == 1 else 'vary'}" if names else ""
        first = f": {_shown(self.base)} -> {_shown(self.source)}" if len(self) else ""
        return f"<{how_many}{what}{first}{', ...' if len(self) > 1 else ''}>"

    def batches(self, size: int) -> Iterator[Pairs]:
        """The pairs in their order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def inputs(self, size: int) -> Iterator[Any]:
        """The bases and the sources, at most `size` at a time: bases of some pairs, sources of these, and so on."""
        for batch in self.batches(size):
            yield from (batch.base, batch.source)

    def swapped(self) -> Pairs:
        """Base and source exchanged, with their answers and targets."""
        return Pairs(
            self.source,
            self.base,
            self.varies,
            targets=self.swapped_targets,
            answers=None if self.answers is None else self.answers.flip(1),
            tokens=self.source_tokens,
            source_tokens=self.tokens,
            exhaustive=self.exhaustive,
            independent=self.independent,
            swapped_targets=self.targets,
            families=self.families,
        )

    def split(self, *, parts: int = 2, seed: int = 0) -> Split:
        """Parts that share no input, of about one size: to discover on one and confirm on another, say.

        Pairs that share an input stay together where they can; where nearly all hang together, inputs are parted, and
        the pairs between two parts are left out, as many as `.dropped` says.
        Raises Unsatisfiable where a part would be empty.
        """
        if parts < 2:
            raise WrongInput(f"parts={parts}: a split has at least two.")
        base, source = map(keys, (self.base, self.source))
        found = parted(base, source, parts=parts, seed=seed)
        if not all(found):
            raise Unsatisfiable(
                f"These {len(self)} pairs share their inputs and cannot be split into {parts}. Draw more pairs, or "
                "samples from different inputs."
            )
        return Split((self[index] for index in found), dropped=len(self) - sum(map(len, found)))

    def _each(self, change: Callable[[Any], Any], relabel: Callable[[Any], Any], **said: bool) -> Pairs:
        """Other rows of the same pairs, which need no check."""
        parts = {name: None if (part := getattr(self, name)) is None else change(part) for name in PARTS}
        words = {name: None if (rows := getattr(self, name)) is None else relabel(rows) for name in WORDS}
        return self._made(varies=self.varies, **parts, **words, **said)

    @staticmethod
    def _made(**parts: Any) -> Pairs:
        """Pairs of parts that are known to be right."""
        made = object.__new__(Pairs)
        for name, value in parts.items():
            object.__setattr__(made, name, value)
        return made

    def clusters(self) -> np.ndarray:
        """[pair], which pairs count as one observation.

        Pairs of one family, where families are given; none, where pairs were drawn independently; otherwise those that
        share a base, and where sources repeat as well, those that hang together by bases or sources.
        """
        if self.families is not None:
            names: dict[Any, int] = {}
            return np.array([names.setdefault(name, len(names)) for name in keys(self.families)], dtype=int)
        if self.independent:
            return np.arange(len(self))
        base, source = map(keys, (self.base, self.source))
        repeated = len(set(source)) < len(source)
        ends = [("source", one) for one in source] if repeated else [("pair", i) for i in range(len(self))]
        found = np.empty(len(self), dtype=int)
        for number, together in enumerate(components([("base", one) for one in base], ends)):
            found[together] = number
        return found

    def where_correct(self, model: Any, *, by: Literal["first", "preferred"] = "first") -> Selected:
        """The pairs of which a language model answers both base and source right, beside all: one is another question.

        by: whether an answer is right that comes first of all tokens, or is preferred to the other answer. The result
        says how many were kept and why, and goes into `scan`. Raises WrongPairs for pairs without answers.
        """
        return where_correct(self, model, by)

    def audit(self) -> tuple[str, ...]:
        """What these pairs cannot show, in sentences: variables that never vary, or always agree."""
        rows = [*examples(self.base), *examples(self.source)]
        if not rows or not all(isinstance(row, Mapping) for row in rows):
            return ()
        columns = {name: tuple(key(row[name]) for row in rows) for name in rows[0]}
        still = [f"{name} never varies." for name, values in columns.items() if len(set(values)) == 1]
        agree = [
            f"{a} and {b} always agree."
            for a, b in itertools.combinations(columns, 2)
            if columns[a] == columns[b] and len(set(columns[a])) > 1
        ]
        return tuple(still + agree)


class Split(tuple[Pairs, ...]):
    """Parts of a data set that share no input; dropped: how many pairs lay between two of them."""

    dropped: int

    def __new__(cls, parts: Iterable[Pairs], *, dropped: int) -> Split:
        made = super().__new__(cls, parts)
        made.dropped = dropped
        return made


# -- checks ----------------------------------------------------------------------------------------


def _check_counts(size: int, **parts: Any) -> None:
    for name, part in parts.items():
        n = None if part is None else len(part) if name in ("tokens", "answers") else count(part)
        if n not in (None, size):
            raise WrongPairs(f"There are {size} base inputs but {n} of {name}. Each pair needs one of each.")


def _shown(inputs: Any) -> str:
    """The first example, or of tensors its shape."""
    (first,) = examples(take(inputs, [0]))
    if isinstance(first, Mapping) and any(isinstance(value, Tensor | np.ndarray) for value in first.values()):
        return "{" + ", ".join(f"{name}: {tuple(np.shape(value))}" for name, value in first.items()) + "}"
    if isinstance(first, Tensor | np.ndarray) and np.prod(np.shape(first)) > 12:
        return f"tensor {tuple(first.shape)}"
    return str(first.tolist() if isinstance(first, Tensor | np.ndarray) else first)


def _check_varies(base: Any, source: Any, names: tuple[str, ...]) -> None:
    for i, (ours, theirs) in enumerate(zip(examples(base), examples(source), strict=True)):
        if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
            raise WrongPairs(
                f"varies={names} cannot be checked: the inputs have no named variables. Give dicts, such as "
                f"{{{names[0]!r}: ...}}."
            )
        if ours.keys() != theirs.keys():
            raise WrongPairs(f"Pair {i}: the base has {list(ours)} and the source {list(theirs)}.")
        differ = [name for name in ours if key(ours[name]) != key(theirs[name])]
        if set(differ) != set(names):
            raise WrongPairs(
                f"Pair {i} should differ in {', '.join(names)} alone, but differs in {', '.join(differ) or 'nothing'}: "
                f"{dict(ours)} -> {dict(theirs)}."
            )
