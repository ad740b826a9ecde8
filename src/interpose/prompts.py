"""Prompts in pairs: tokens that must line up, and answers that must be one token each."""

from __future__ import annotations

import difflib
import string
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import ShiftedWords, WrongAnswers, WrongInput, WrongPairs
from .named import Prompt, Span, Tokens, check_used, filled, numbered

Words = tuple[tuple[str, ...], ...]
"""[pair][position]: tokens as text."""


def lined_up(lm: Any, base: Sequence[str], source: Sequence[str]) -> tuple[Words, Words]:
    """The tokens of base and source prompts as text.

    Raises WrongPairs where the two of a pair differ in number and have no parts by which positions could be named.
    Warns ShiftedWords where they are as many, and the same words stand at other positions.
    """
    tokens, others = ([tuple(lm.tokens(prompt)) for prompt in prompts] for prompts in (base, source))
    for i, (ours, theirs) in enumerate(zip(tokens, others, strict=True)):
        if _parts(base[i]) and _parts(base[i]) == _parts(source[i]):
            continue
        if len(ours) != len(theirs):
            pairs = enumerate(zip(ours, theirs, strict=False))
            at = next((t for t, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
            raise WrongPairs(
                f"Pair {i}: the base has {len(ours)} tokens and the source {len(theirs)}; they part at position "
                f"{at}: {list(ours[at:])} against {list(theirs[at:])}. A position must mean the same in both: choose "
                "words of as many tokens, or name positions, with Pairs.from_template or positions={...}."
            )
        if moved := _moved(ours, theirs):
            start, other, size = moved
            warnings.warn(
                f"Pair {i}: {list(ours[start : start + size])} stands at position {start} of the base and {other} of "
                "the source, so that one position holds different words. Name positions, with Pairs.from_template or "
                "positions={...}, or choose words of as many tokens.",
                ShiftedWords,
                stacklevel=4,
            )
    return tuple(tokens), tuple(others)


def _parts(prompt: Any) -> frozenset[str]:
    return frozenset(getattr(prompt, "parts", ()))


def _moved(ours: Sequence[str], theirs: Sequence[str]) -> tuple[int, int, int] | None:
    """The first two words or more that stand together in both, at different positions; and how many."""
    if ours == theirs:
        return None
    blocks = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    return next(((a, b, size) for a, b, size in blocks if a != b and size > 1), None)


def marked(prompts: Sequence[str], places: Mapping[str, Any], *, side: str) -> list[Prompt]:
    """Prompts whose parts are found by their text; places: name -> one text a prompt, or one for all.

    Raises WrongInput for a text that is not there, or is there several times.
    """
    columns = {name: [of] * len(prompts) if isinstance(of, str) else list(of) for name, of in places.items()}
    for name, of in columns.items():
        if len(of) != len(prompts) or not all(isinstance(text, str) for text in of):
            raise WrongInput(
                f"positions[{name!r}] should hold a text of each of the {len(prompts)} {side} prompts, such as the "
                f"word that is meant; it is {places[name]!r}."
            )
    return [
        Prompt.marked(
            prompt,
            {**getattr(prompt, "parts", {}), **{name: _span(prompt, of[i], None) for name, of in columns.items()}},
            special=getattr(prompt, "special", True),
        )
        for i, prompt in enumerate(prompts)
    ]


def two_sided(positions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Named positions as they are. Raises WrongInput unless each is two, of the bases and of the sources."""
    for name, both in positions.items():
        if isinstance(both, str) or len(both) != 2:
            raise WrongInput(f"positions[{name!r}] should be two, of the bases and of the sources; it is {both!r}.")
    return positions


def prompt_of(template: str, values: Any) -> Prompt:
    """A template with the values of its parts by name, or with the one value of its one part."""
    if isinstance(values, Mapping):
        return Prompt(template, **values)
    names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if len(names) != 1:
        raise WrongInput(
            f"{template!r} has the parts {', '.join(sorted(names))}; give each prompt's values by name, not {values!r}."
        )
    return Prompt(template, **{names.pop(): values})


def overlapping(lm: Any, prompt: str, text: str, occurrence: int | None) -> list[int]:
    """The positions of all tokens of a prompt that overlap a part of its text, special tokens counted.

    Raises WrongInput for a part that is empty, is not there, or is there several times where none is chosen.
    """
    return tokens_in(lm, prompt, _span(prompt, text, occurrence))


def tokens_in(lm: Any, prompt: str, span: Span) -> list[int]:
    """The positions of all tokens that overlap some characters of a prompt. Raises WrongInput where there are none."""
    start, end = span
    if start == end:
        raise WrongInput(f"A part of {str(prompt)!r}, at character {start}, is empty: no token is its own.")
    found = [i for i, (a, b) in enumerate(_spans(lm, prompt)) if a < end and b > start and a < b]
    if not found:
        raise WrongInput(f"No token of {str(prompt)!r} holds {prompt[start:end]!r}: the tokenizer leaves it out.")
    return found


def _span(prompt: str, text: str, occurrence: int | None) -> Span:
    """The characters of a part of a text: the one there is, or the one that is chosen."""
    starts = [i for i in range(len(prompt)) if prompt.startswith(text, i)] if text else []
    if not starts:
        raise WrongInput(f"{text!r} is not in {prompt!r}." if text else "A part of a text has a character at least.")
    if occurrence is None and len(starts) > 1:
        raise WrongInput(
            f"{text!r} is {len(starts)} times in {prompt!r}. Say which one is meant: occurrence=0 to {len(starts) - 1}."
        )
    if occurrence is not None and not -len(starts) <= occurrence < len(starts):
        raise WrongInput(f"{text!r} is {len(starts)} times in {prompt!r}, so that there is no occurrence {occurrence}.")
    start = starts[occurrence or 0]
    return start, start + len(text)


def _spans(lm: Any, prompt: str) -> list[Span]:
    """[token]: from which character to which it goes; nowhere for special tokens."""
    if getattr(lm.tokenizer, "is_fast", False):
        special = getattr(prompt, "special", True)
        found = lm.tokenizer(str(prompt), return_offsets_mapping=True, add_special_tokens=special)
        return list(found["offset_mapping"])
    spans, at = [], 0
    for token in lm.tokens(prompt):
        start = prompt.find(token, at)
        start = prompt.find(token.strip(), at) if start < 0 and token.strip() else start
        spans.append((start, start + len(token.strip() or token)) if start >= 0 else (0, 0))
        at = max(at, spans[-1][1])
    return spans


def conversation(lm: Any, messages: Sequence[Mapping[str, str]], values: Mapping[str, Any]) -> Prompt:
    """A conversation as the one text that a model's template makes of it: see `LanguageModel.chat`."""
    if not getattr(lm.tokenizer, "chat_template", None):
        raise WrongInput("This language model's tokenizer has no chat template. Write the prompt as a text.")
    if not messages or not all(isinstance(one, Mapping) and {"role", "content"} <= set(one) for one in messages):
        raise WrongInput('A conversation is a list of messages: [{"role": "user", "content": "..."}].')
    said = [filled(one["content"], values) if values else (one["content"], []) for one in messages]
    check_used(values, [span for _, spans in said for span in spans], " / ".join(one["content"] for one in messages))
    open_end = messages[-1]["role"] == "assistant"
    text = lm.tokenizer.apply_chat_template(
        [{**one, "content": content} for one, (content, _) in zip(messages, said, strict=True)],
        tokenize=False,
        add_generation_prompt=not open_end,
        continue_final_message=open_end,
    )
    found, at = [], 0
    for content, spans in said:
        core = content.strip()  # templates strip what is around
        start = text.find(core, at)
        if start < 0 and spans:
            raise WrongInput(f"The chat template changes {content!r}, so that its parts cannot be found in the prompt.")
        before = start - content.find(core)
        found += [(name, (before + a, before + b)) for name, (a, b) in spans]
        at = max(at, start + len(core))
    return Prompt.marked(text, numbered(found), special=False)


def answer_ids(lm: Any, answers: Sequence[tuple[str, str]], *, first_tokens: bool = False) -> Tensor:
    """[pair, 2]: the tokens of the base's answer and the source's. Raises WrongAnswers unless they are two tokens.

    first_tokens: take the first token of an answer that has several.
    """
    for i, answer in enumerate(answers):
        if isinstance(answer, str) or len(answer) != 2:
            raise WrongAnswers(f"Pair {i}: answers are (base's, source's), two words, not {answer!r}.")
    ids = [[_token(lm, text, i, first_tokens) for text in answer] for i, answer in enumerate(answers)]
    return _told_apart(torch.tensor(ids).reshape(-1, 2), answers)


def token_columns(base: Any, source: Any, positions: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Token ids of base and source, [pair, token] each, or lists with their named positions.

    Raises WrongPairs where their shapes differ and nothing says which positions belong together.
    """
    if positions is not None:
        sides = [[torch.as_tensor(row).tolist() for row in rows] for rows in (base, source)]
        return tuple(_placed(rows, positions, k) for k, rows in enumerate(sides))  # type: ignore[return-value]
    try:
        base, source = torch.as_tensor(base), torch.as_tensor(source)
    except (ValueError, TypeError):
        base, source = ([list(row) for row in rows] for rows in (base, source))
        for i, (ours, theirs) in enumerate(zip(base, source, strict=False)):
            if len(ours) != len(theirs):
                raise WrongPairs(
                    f"Pair {i}: the base has {len(ours)} tokens and the source {len(theirs)}. A position must mean the "
                    "same in both: give sequences of one length, or positions={...}."
                ) from None
        return base, source
    if base.shape != source.shape or base.ndim != 2:
        raise WrongPairs(
            f"base is {tuple(base.shape)} and source {tuple(source.shape)}; both should be [pair, token], of one shape."
        )
    return base, source


def _placed(rows: Sequence[Sequence[int]], positions: Mapping[str, Any], side: int) -> list[Tokens]:
    """Token ids with their named positions; positions: name -> (of the bases, of the sources), [pair] each."""
    made = []
    for i, row in enumerate(rows):
        parts = {}
        for name, both in positions.items():
            if len(both) != 2 or len(both[side]) != len(rows):
                raise WrongInput(
                    f"positions[{name!r}] should be two lists of {len(rows)} positions, of the bases and the sources."
                )
            found = both[side][i]
            parts[name] = tuple(found) if isinstance(found, Iterable) else (int(found),)
            if wrong := [p for p in parts[name] if not 0 <= p < len(row)] or ([None] if not parts[name] else []):
                raise WrongInput(
                    f"positions[{name!r}], pair {i}: {wrong[0]} is no position of {len(row)} tokens, from 0."
                )
        made.append(Tokens(row, parts))
    return made


def token_answers(answers: Any, size: int) -> Tensor:
    """Token ids of answers, [pair, 2]. Raises WrongAnswers for anything else."""
    answers = torch.as_tensor(answers)
    if answers.shape != (size, 2):
        raise WrongAnswers(
            f"answers is {tuple(answers.shape)}; it should be ({size}, 2): the base's answer and the source's, for "
            "each pair."
        )
    if answers.is_floating_point() or bool((answers < 0).any()):
        raise WrongAnswers(
            f"Answers are token ids, whole numbers from 0; these are {answers.dtype}: {answers[0].tolist()}, ..."
        )
    return _told_apart(answers, answers.tolist())


def _token(lm: Any, text: str, pair: int, first: bool) -> int:
    pieces = lm.tokens(text, special=False)
    if len(pieces) == 1 or (first and pieces):
        token = lm.token_ids(text, special=False)[0]
        if token == getattr(lm.tokenizer, "unk_token_id", None):
            raise WrongAnswers(f"Pair {pair}: the answer {text!r} is unknown to the tokenizer. Choose another word.")
        return int(token)
    other = text[1:] if text.startswith(" ") else " " + text
    hint = f" {other!r} is one token." if len(lm.tokens(other, special=False)) == 1 else ""
    raise WrongAnswers(
        f"Pair {pair}: the answer {text!r} is {len(pieces)} tokens, {pieces}, and a next token is one.{hint} "
        "Choose answers of one token each, or take the first of each: first_tokens=True."
    )


def _told_apart(ids: Tensor, shown: Iterable[Any]) -> Tensor:
    for i, ((ours, theirs), words) in enumerate(zip(ids.tolist(), shown, strict=True)):
        if ours == theirs:
            raise WrongAnswers(
                f"Pair {i}: both answers, {words[0]!r} and {words[1]!r}, are token {ours}. Nothing could tell them "
                "apart."
            )
    return ids
