"""Prompts in pairs: tokens that must line up, and answers that must be one token each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import WrongAnswers, WrongInput, WrongPairs

Words = tuple[tuple[str, ...], ...]
"""[pair][position]: tokens as text."""


def lined_up(lm: Any, base: Sequence[str], source: Sequence[str]) -> tuple[Words, Words]:
    """The tokens of base and source prompts as text. Raises WrongPairs where two of them differ in number."""
    tokens, others = ([tuple(lm.tokens(prompt)) for prompt in prompts] for prompts in (base, source))
    for i, (ours, theirs) in enumerate(zip(tokens, others, strict=True)):
        if len(ours) != len(theirs):
            pairs = enumerate(zip(ours, theirs, strict=False))
            at = next((t for t, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
            raise WrongPairs(
                f"Pair {i}: the base has {len(ours)} tokens and the source {len(theirs)}; they part at position "
                f"{at}: {list(ours[at:])} against {list(theirs[at:])}. A position must mean the same in both: choose "
                "words of as many tokens."
            )
    lengths = sorted({len(row) for row in tokens})
    if len(lengths) > 1:
        raise WrongPairs(
            f"The prompts have {lengths} tokens. One map needs prompts of one length: make one Pairs a length."
        )
    return tuple(tokens), tuple(others)


def overlapping(lm: Any, prompt: str, text: str, occurrence: int | None) -> list[int]:
    """The positions of all tokens of a prompt that overlap a part of its text, special tokens counted.

    Raises WrongInput for a part that is empty, is not there, or is there several times where none is chosen.
    """
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
    found = [i for i, (a, b) in enumerate(_spans(lm, prompt)) if a < start + len(text) and b > start and a < b]
    if not found:
        raise WrongInput(f"No token of {prompt!r} holds {text!r}: the tokenizer leaves it out.")
    return found


def _spans(lm: Any, prompt: str) -> list[tuple[int, int]]:
    """[token]: from which character to which it goes; nowhere for special tokens."""
    if getattr(lm.tokenizer, "is_fast", False):
        return list(lm.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"])
    spans, at = [], 0
    for token in lm.tokens(prompt):
        start = prompt.find(token, at)
        start = prompt.find(token.strip(), at) if start < 0 and token.strip() else start
        spans.append((start, start + len(token.strip() or token)) if start >= 0 else (0, 0))
        at = max(at, spans[-1][1])
    return spans


def answer_ids(lm: Any, answers: Sequence[tuple[str, str]]) -> Tensor:
    """[pair, 2]: the tokens of the base's answer and the source's. Raises WrongAnswers unless they are two tokens."""
    for i, answer in enumerate(answers):
        if isinstance(answer, str) or len(answer) != 2:
            raise WrongAnswers(f"Pair {i}: answers are (base's, source's), two words, not {answer!r}.")
    ids = [[_token(lm, text, i) for text in answer] for i, answer in enumerate(answers)]
    return _told_apart(torch.tensor(ids).reshape(-1, 2), answers)


def token_columns(base: Any, source: Any) -> tuple[Tensor, Tensor]:
    """Token ids of base and source, [pair, token] each. Raises WrongPairs where their shapes differ."""
    base, source = torch.as_tensor(base), torch.as_tensor(source)
    if base.shape != source.shape or base.ndim != 2:
        raise WrongPairs(
            f"base is {tuple(base.shape)} and source {tuple(source.shape)}; both should be [pair, token], of one shape."
        )
    return base, source


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


def _token(lm: Any, text: str, pair: int) -> int:
    pieces = lm.tokens(text, special=False)
    if len(pieces) == 1:
        (token,) = lm.token_ids(text, special=False)
        if token == getattr(lm.tokenizer, "unk_token_id", None):
            raise WrongAnswers(f"Pair {pair}: the answer {text!r} is unknown to the tokenizer. Choose another word.")
        return int(token)
    other = text[1:] if text.startswith(" ") else " " + text
    hint = f" {other!r} is one token." if len(lm.tokens(other, special=False)) == 1 else ""
    raise WrongAnswers(
        f"Pair {pair}: the answer {text!r} is {len(pieces)} tokens, {pieces}, and a next token is one.{hint} "
        "Choose answers of one token each."
    )


def _told_apart(ids: Tensor, shown: Iterable[Any]) -> Tensor:
    for i, ((ours, theirs), words) in enumerate(zip(ids.tolist(), shown, strict=True)):
        if ours == theirs:
            raise WrongAnswers(
                f"Pair {i}: both answers, {words[0]!r} and {words[1]!r}, are token {ours}. Nothing could tell them "
                "apart."
            )
    return ids
