"""Encodings: how the variables of a program are written into neurons. Each draws its constants anew for every seed."""

from __future__ import annotations

from dataclasses import dataclass

from .codes import Code, affine, pair, piecewise, plain, thermometer
from .decoys import ALL_KINDS, Decoy, blank
from .rewrites import Rewrite, cancelling, finer, longer, with_backup


@dataclass(frozen=True)
class Encoding:
    """How a program becomes a network.

    codes: what a variable's code is drawn from, wherever the next layer reads only the number itself.
    drawn: whether constants are drawn; otherwise slopes are 1. permuted: whether neurons and inputs change places.
    rewrites: of which one is applied first. copies: the least and greatest number of copies of a code that share its
    readers. unread: copies that nothing reads. decoys: kinds of dead neurons; pads: how many a layer, least and most.
    rotated: whether one layer is mixed by a random orthogonal matrix. noise: by how many tolerances random weights,
    added everywhere, move the output. tol: what outputs are told apart by, at float64.
    """

    name: str
    codes: tuple[Code, ...] = (affine,)
    drawn: bool = True
    permuted: bool = True
    rewrites: tuple[Rewrite, ...] = ()
    copies: tuple[int, int] = (1, 1)
    unread: int = 0
    decoys: tuple[Decoy, ...] = ()
    pads: tuple[int, int] = (0, 0)
    rotated: bool = False
    noise: float = 0.0
    tol: float = 1e-6


CODES = (affine, pair, thermometer, piecewise)
ENCODINGS: dict[str, Encoding] = {
    encoding.name: encoding
    for encoding in (
        Encoding("plain", codes=(plain,), drawn=False, permuted=False),
        Encoding("affine", permuted=False),
        Encoding("permuted"),
        Encoding("padded", decoys=(blank,), pads=(1, 4)),
        Encoding("dead", decoys=ALL_KINDS, pads=(2, 4)),
        Encoding("copies", copies=(2, 3)),
        Encoding("unread copy", unread=1),
        Encoding("backup", rewrites=(with_backup,)),
        Encoding("copies at several depths", rewrites=(longer,), copies=(1, 3)),
        Encoding("pairs", codes=(pair,)),
        Encoding("thermometer", codes=(thermometer,)),
        Encoding("piecewise", codes=(piecewise,)),
        Encoding("finer", rewrites=(finer,)),
        Encoding("cancelling", rewrites=(cancelling,)),
        Encoding("rotated", decoys=ALL_KINDS, pads=(0, 2), rotated=True),
        Encoding("noise below", decoys=ALL_KINDS, pads=(1, 2), noise=0.02, tol=0.004),
        Encoding("noise above", decoys=ALL_KINDS, pads=(1, 2), noise=15.0, tol=0.004),
        Encoding(
            "mixed",
            codes=CODES,
            rewrites=(longer, with_backup, finer, cancelling),
            copies=(1, 2),
            decoys=ALL_KINDS,
            pads=(0, 3),
        ),
    )
}
"""Every tier of encodings, by name."""
