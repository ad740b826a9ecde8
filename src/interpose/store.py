"""A folder that keeps every finished batch of pairs, so that a measurement that was stopped goes on where it was.

One file a batch, and a manifest that says which question they answer. A file is written beside its place and then put
there in one step: it is whole or not there. Results merge as sets do: in any order, and twice is once.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .errors import WrongInput, WrongStore
from .identity import Question
from .model import FourRuns, Work
from .portable import write_whole

FORMAT = 1
"""How the files are laid out."""

AGREE = 1e-5
"""The same pair measured twice may differ by this share of the largest value, beside 10 x the noise."""

RUNS = ("ybb", "yss", "ybs", "ysb")
WORDS = {
    "weights": "the weights or the structure of the model differ",
    "inputs": "the inputs differ",
    "answers": "the answers differ",
    "targets": "the targets differ",
    "labels": "what is said of the pairs differs",
    "parameters": "what the metric does differs, or the Python that runs it",
    "lenses": "the featurizers differ",
}


@dataclass(frozen=True, eq=False)
class Block(FourRuns):
    """What was measured of some pairs; index: [pair], their numbers."""

    index: Any

    def __len__(self) -> int:
        return len(self.index)

    def part(self, start: int, end: int) -> Block:
        """The rows from start to end, numbered from 0; the work is that of all of them."""
        runs = {name: array[start:end] for name, array in self.arrays.items() if name != "index"}
        return Block(**runs, index=np.arange(end - start), work=self.work)

    @property
    def arrays(self) -> dict[str, Any]:
        """All that is [pair, ...], by name."""
        return {name: getattr(self, name) for name in (*RUNS, "index", "response", "unreachable")}


def merged(blocks: Iterable[Block], noise: float) -> Block:
    """Blocks as one, in the order of the pairs; of a pair that was measured twice, the first block's values.

    Raises WrongStore where two measurements of a pair disagree by more than rounding and 10 x the noise.
    """
    blocks = list(blocks)
    if len(blocks) == 1 and (np.diff(blocks[0].index) > 0).all():
        return blocks[0]
    ordered = sorted(blocks, key=lambda block: (block.index.tolist(), _checksum(block.arrays, {})))
    seen: dict[int, tuple[Block, int]] = {}
    used, fresh = [], []
    for block in ordered:
        again = [(row, *seen[i]) for row, i in enumerate(block.index.tolist()) if i in seen]
        _check_agreement(block, again, 10 * max(noise, block.work.noise))
        new = [row for row, i in enumerate(block.index.tolist()) if i not in seen]
        seen |= {int(block.index[row]): (block, row) for row in new}
        if new:
            used.append(block)
            fresh.append({name: array[new] for name, array in block.arrays.items()})
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in fresh]) for name in fresh[0]}
    order = np.argsort(columns["index"], kind="stable")
    work = sum((block.work for block in used), Work())
    return Block(**{name: column[order] for name, column in columns.items()}, work=work)


def remaining(size: int, batch_size: int, blocks: Iterable[Block]) -> list[list[int]]:
    """The batches of all the pairs, without the pairs that blocks hold, and without those that are then empty."""
    known = {i for block in blocks for i in block.index.tolist()}
    batches = [range(start, min(start + batch_size, size)) for start in range(0, size, batch_size)]
    left = [[i for i in batch if i not in known] for batch in batches]
    return [batch for batch in left if batch]


class Store:
    """The folder, opened for one question. Nothing is written before `begin`.

    noise, checks: the noise floor, and the work of finding it, where that was done before; None otherwise.
    Raises WrongStore if the folder keeps the answers to another question, or cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], question: Question) -> None:
        self.folder, self.question = Path(folder), question
        self.key = question.key
        if self.folder.exists() and not self.folder.is_dir():
            raise WrongStore(f"{str(self.folder)!r} is a file. A store is a folder: choose another name.")
        self.noise: float | None = None
        self.checks = Work()
        if self._manifest.exists():
            known = self._read_manifest()
            if known["key"] != self.key:
                raise WrongStore(
                    f"{str(self.folder)!r} keeps another measurement: {_difference(known['question'], question.parts)}."
                    " Ask what it was begun with, or choose another folder."
                )
            self.noise, self.checks = float(known["noise"]), _work(known["checks"])

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.json"

    def begin(self, noise: float, checks: Work) -> tuple[float, Work]:
        """Write the manifest if there is none; the noise floor and the work of the checks, over all sessions."""
        if self.noise is not None:
            return max(noise, self.noise), self.checks
        known = {
            "format": FORMAT,
            "key": self.key,
            "question": dict(self.question.parts),
            "noise": noise,
            "checks": _plain(checks),
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("interpose", "torch", "numpy")},
            },
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._manifest, json.dumps(known, indent=1).encode())
        self.noise, self.checks = noise, checks
        return noise, checks

    def keep(self, block: Block) -> None:
        """Write a finished block."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(array) for name, array in block.arrays.items()}
        told = {"key": self.key, "work": _plain(block.work)}
        told |= {"checksum": _checksum(arrays, told)}
        numbers = hashlib.sha256(arrays["index"].tobytes()).hexdigest()[:12]
        path = self.folder / f"pairs-{int(block.index[0]):08}-{numbers}.safetensors"
        write_whole(path, save(arrays, {"interpose": json.dumps(told)}))

    def blocks(self) -> list[Block]:
        """Every whole block there is; files that are cut short or changed are passed over, to be measured again.

        Raises WrongStore for a whole file that belongs to another question.
        """
        found = [self._read(path) for path in sorted(self.folder.glob("pairs-*.safetensors"))]
        return [block for block in found if block is not None]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """An interrupt that passes through says what is kept, and how to go on."""
        try:
            yield
        except KeyboardInterrupt as stop:
            count = len({i for block in self.blocks() for i in block.index.tolist()})
            stop.add_note(
                f"{count} of {self.question.parts['pairs']} pairs are kept in {str(self.folder)!r}. The same call goes "
                "on from there."
            )
            raise

    def _read(self, path: Path) -> Block | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as file:
                told = json.loads(file.metadata()["interpose"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            checksum = told.pop("checksum")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None
        if checksum != _checksum(arrays, told):
            return None
        if told["key"] != self.key:
            raise WrongStore(f"{str(path)!r} belongs to another measurement than its folder. Take it out of there.")
        return Block(**arrays, work=_work(told["work"]))

    def _read_manifest(self) -> Any:
        try:
            known = json.loads(self._manifest.read_text())
            current = known["format"] == FORMAT and {"key", "question", "noise", "checks"} <= known.keys()
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise WrongStore(
                f"{str(self._manifest)!r} cannot be read: {error}. Choose another folder, or delete that file: the "
                "pairs beside it are kept."
            ) from None
        if not current:
            raise WrongStore(
                f"{str(self._manifest)!r} is of format {known['format']}, and this version reads {FORMAT}. Choose "
                "another folder."
            )
        return known


# -- small things ----------------------------------------------------------------------------------


def check_folder(store: Any, key: str | None) -> None:
    """Raise WrongInput for a store that is no folder's name, or a key without a store."""
    if store is None and key is not None:
        raise WrongInput(f"key={key!r} names what a store keeps. Give the folder too: store='...'.")
    if store is not None and not isinstance(store, str | os.PathLike):
        raise WrongInput(f"store={store!r}: give the name of a folder.")
    if key is not None and not isinstance(key, str):
        raise WrongInput(f"key={key!r}: give a text.")


def _check_agreement(block: Block, again: Sequence[tuple[int, Block, int]], noise: float) -> None:
    for name in RUNS if again else ():
        ours = np.stack([getattr(block, name)[row] for row, _, _ in again])
        theirs = np.stack([getattr(other, name)[row] for _, other, row in again])
        gap = float(np.abs(ours - theirs).max())
        if gap > noise + AGREE * float(np.abs(theirs).max()):
            pair = int(block.index[again[0][0]])
            raise WrongStore(
                f"Pairs from {pair} on were measured twice, and their {name} differ by {gap:.3g}, which is no "
                f"rounding: the noise floor is {noise / 10:.2g}. Something that the key does not tell has changed "
                "between. Measure them again in another folder."
            )


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """What differs between two questions, in words."""
    said = []
    for name in dict.fromkeys((*theirs, *ours)):
        before, now = theirs.get(name), ours.get(name)
        if before == now or (name == "parameters" and theirs.get("metric") != ours.get("metric")):
            continue
        if name == "places" and isinstance(before, list) and isinstance(now, list):
            apart = [place for place in (*now, *before) if (place in now) != (place in before)]
            said.append(
                f"it has {len(before)} places, and now there are {len(now)}"
                + (f"; {apart[0]} is in one of them only" if apart else ", in another order")
            )
        else:
            said.append(WORDS.get(name) or f"the {name} was {before}, and is {now}")
    return "; ".join(said) or "nothing that its manifest tells of differs"


def _checksum(arrays: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """SHA-256 over names, kinds, shapes and bytes, and over what is told beside them."""
    sha = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    sha.update(json.dumps(told, sort_keys=True).encode())
    return sha.hexdigest()


def _plain(work: Work) -> dict[str, Any]:
    return {name: value for name, value in asdict(work).items() if name != "unreachable"}


def _work(plain: Mapping[str, Any]) -> Work:
    told: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    return Work(**told)
