"""Which class the value of a place belongs to: by the value where inputs give it, by its effect where none does."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..statistics import Floats
from .kernels import Kernel, kernel, representatives, spread
from .responses import Prober, Responses

SAME = 1e-4
"""Values of a place nearer than this share of their range count as one that is known."""

EFFECTS = 256
"""In how many inputs the effect of a value that no input gives is looked at."""


def classes_at(
    known: Responses, classes: Kernel, values: Floats, prober: Prober, *, by_effect: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[row]: the class of each value of a place, [row, unit]; and whether inputs give the value.

    known: what the place holds in every input, and classes: of each. Values that no input gives are of the class whose
    effect on the output they have; those with none of these effects, or if not by_effect, are of classes of their own,
    with numbers beyond those that inputs give. A value counts as given if it is as near to one that is as those of one
    class may be, by their effects.
    """
    within = 4 * known.within / known.farthest if known.live else 0.0
    same = max(SAME, within) * (float(np.ptp(known.values, axis=0).max(initial=0.0)) or 1.0)
    found = _nearest(values, known.values, classes, same)
    natural = found >= 0
    unknown = np.flatnonzero(~natural)
    if len(unknown) and by_effect:
        found[unknown] = _by_effect(known, classes, values[unknown], prober)
    elif len(unknown):
        found[unknown] = int(classes.max()) + 1 + _clusters(values[unknown], same)
    return found, natural


def _by_effect(of: Responses, classes: Kernel, values: Floats, prober: Prober) -> NDArray[np.int64]:
    number = kernel(np.round(values / (SAME * max(float(np.abs(values).max()), 1e-12))))
    distinct = values[representatives(number)]
    like = prober.read(of.group)
    widths = [like[site][:1].numel() for site in of.group]
    parts = np.split(distinct, np.cumsum(widths)[:-1], axis=1)
    forced = {
        site: torch.from_numpy(part).to(like[site].dtype).reshape(len(distinct), *like[site].shape[1:])
        for site, part in zip(of.group, parts, strict=True)
    }
    width = prober.domain.outputs.shape[1]
    some = spread(len(prober.bases), EFFECTS)
    columns = (some[:, None] * width + np.arange(width)).reshape(-1)
    rows = prober.forced(forced, len(distinct), bases=prober.bases[some])
    first = representatives(classes)
    known = of.rows[of.number[first]][:, columns]
    return known_or_new(rows, known, np.arange(len(first)), prober.tol)[number]


def known_or_new(seen: Floats, known: Floats, classes: Kernel, most: float) -> NDArray[np.int64]:
    """[row]: the class of the known row that each is near to; rows near none are of new classes, newly numbered."""
    found = _nearest(seen, known, classes, most)
    new = np.flatnonzero(found < 0)
    if len(new):
        found[new] = int(classes.max(initial=-1)) + 1 + _clusters(seen[new], most)
    return found


def _clusters(rows: Floats, most: float) -> NDArray[np.int64]:
    """[row]: numbers of rows that are near each other, by the first number in which they differ."""
    order = np.lexsort(rows.T[::-1]) if rows.shape[1] < 8 else np.argsort(rows.sum(1), kind="stable")
    number, found = -1, np.empty(len(rows), dtype=np.int64)
    last: list[int] = []
    for i in order.tolist():
        near = next((k for k in reversed(last[-4:]) if np.abs(rows[i] - rows[k]).max() <= most), None)
        if near is None:
            number += 1
            last.append(i)
            found[i] = number
        else:
            found[i] = found[near]
    return found


def _nearest(seen: Floats, known: Floats, classes: Kernel, most: float) -> NDArray[np.int64]:
    """[row]: the class of the known row that each is nearest to; -1 where none is near."""
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    first = np.unique(kernel(np.round(known / max(most, 1e-12))), return_index=True)[1]
    if known.shape[1] <= 8:
        distance, index = KDTree(known[first]).query(seen, p=np.inf)
    else:
        apart = np.concatenate(
            [cdist(part, known[first], "chebyshev") for part in np.array_split(seen, -(-len(seen) // 512))]
        )
        index = apart.argmin(1)
        distance = apart[np.arange(len(seen)), index]
    return np.where(distance <= most, classes[first][index], -1)
