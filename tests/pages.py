"""Results to make pages of, without a language model; and pages, read as a browser would."""

import json
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np

import interpose as ip
from interpose.maps import Scan
from interpose.tasks import adder

EVIL = "</script><img src=x onerror=\"alert('x')\">&\u202e"
VOID = {"meta", "img", "link", "br", "input", "hr"}


@dataclass(frozen=True)
class Place:
    """A place of a map of layers and positions."""

    layer: int
    position: int

    @property
    def coordinates(self):
        return (("layer", self.layer, self.layer), ("position", self.position, self.position))

    def __str__(self):
        return f"layer {self.layer} @ {self.position}"


def flow(layers=4, positions=3, pairs=8, *, tokens=("a", "city", "is"), seed=0, said="text {}"):
    """A map of a language model that never was: the first position carries everything early, the last one late."""
    rng = np.random.default_rng(seed)
    places = [Place(layer, position) for layer in range(layers) for position in range(positions)]
    early = np.array([place.layer < layers / 2 for place in places])
    first, last = (np.array([place.position == p for place in places]) for p in (0, positions - 1))
    share = np.where(early & first | ~early & last, 0.9, 0.0)
    ybb, yss = -1 - rng.random(pairs), 1 + rng.random(pairs)
    te = (yss - ybb)[:, None]
    noise = 0.02 * rng.normal(size=(2, pairs, len(places)))
    row = tuple(tokens[p % len(tokens)] for p in range(positions))
    base, source = ([said.format(side + i) for i in range(pairs)] for side in (0, pairs))
    return Scan(
        model="Flow",
        metric="logit_difference",
        binary=False,
        pairs=ip.Pairs(base, source, tokens=(row,) * pairs),
        places=tuple((place,) for place in places),
        ybb=ybb,
        yss=yss,
        ybs=ybb[:, None] + te * share + noise[0],
        ysb=yss[:, None] - te * share + noise[1],
        response=np.ones((pairs, len(places))),
        tol=1e-3,
        noise=0.0,
    )


def scans(n=50):
    """The adder's three maps."""
    net = adder.network()
    return ip.scan(net, adder.pairs(n=n), net.neurons("l1", "l2"), metric=ip.matches)


class Read(HTMLParser):
    """A page in parts: its elements with their attributes, and the text and data in them."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.data = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data.append(data)
        else:
            self.texts.append(data)

    def tags(self, *names):
        return [tag for tag, _ in self.elements if tag in names]

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def widgets(self):
        """What each figure's script is given, with its kind."""
        kinds = [attributes["data-kind"] for attributes in self.all("figure")]
        return list(zip(kinds, map(json.loads, self.data[: len(kinds)]), strict=True))
