"""Graphs of nodes in layers, several side by side, with lines between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .picture import STYLE, Picture, new_figure, plain

RADIUS = 0.34
EDGE, FAINT = "#8C93A0", "#E3E5EA"
TEXT, PALE = "#20242C", "#B4BAC4"


@dataclass(frozen=True)
class Node:
    """A circle: its name above, its value or a note inside, and more under the pointer."""

    name: str
    value: str = ""
    fill: str = "#FFFFFF"
    hover: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Graph:
    """Nodes at places, and the edges between them."""

    title: str
    nodes: Mapping[str, Node]
    at: Mapping[str, tuple[float, float]]
    edges: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Link:
    """A line from a node of one graph to a node of another: (graph, node) to (graph, node)."""

    start: tuple[int, str]
    end: tuple[int, str]
    colour: str = "#EC3B82"
    arrow: bool = True


def layered(parents: Mapping[str, Sequence[str]], *, keep_order: bool = False) -> dict[str, tuple[float, float]]:
    """A place for each node: parents below their children, neighbours close to what they are connected with.

    keep_order: leave each layer in the order given, as for the units of a network; otherwise layers are sorted by the
    mean place of their neighbours, up and down a few times.
    """
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(parents)
    graph.add_edges_from((parent, child) for child, those in parents.items() for parent in those)
    rank = {name: i for i, name in enumerate(parents)}
    layers = [sorted(layer, key=rank.__getitem__) for layer in networkx.topological_generations(graph)]
    wide = max(1.25, 0.2 + 0.082 * max(len(str(name)) for name in parents))  # names stand side by side
    at = _spread(layers, wide)
    for sweep in range(0 if keep_order else 6):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            near = graph.pred if sweep % 2 == 0 else graph.succ
            centre = {n: sum(at[m][0] for m in near[n]) / len(near[n]) if near[n] else at[n][0] for n in layer}
            layer.sort(key=lambda name: (round(centre[name], 6), rank[name]))
        at = _spread(layers, wide)
    return at


def draw_graphs(
    graphs: Sequence[Graph], *, links: Sequence[Link] = (), legend: Mapping[str, str] | None = None, title: str
) -> Picture:
    """Graphs from left to right on one canvas, linked, with a legend of colours under them."""
    import matplotlib

    gap = 1.4
    shifts, left = [], 0.0
    for graph in graphs:
        xs = [x for x, _ in graph.at.values()]
        span = max(xs) - min(xs)
        beside = max(0.0, 0.1 * len(graph.title) + 0.3 - span - gap) / 2  # titles stand side by side
        shifts.append(left + beside - min(xs))
        left += span + gap + 2 * beside
    width, height = left - gap, max(y for graph in graphs for _, y in graph.at.values())
    top = height + (1.2 if any(graph.title for graph in graphs) else 0.8)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(0.95 * (width + 1.6), 0.95 * (top + 1.2))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(-0.8, width + 0.8), ylim=(-0.9 if legend else -0.6, top), aspect="equal")
        ax.axis("off")
        hover: dict[str, str] = {}
        for k, (graph, shift) in enumerate(zip(graphs, shifts, strict=True)):
            at = {name: (x + shift, y) for name, (x, y) in graph.at.items()}
            hover |= _draw(ax, graph, at, k)
            centre = (min(x for x, _ in at.values()) + max(x for x, _ in at.values())) / 2
            ax.text(
                centre, top - 0.1, plain(graph.title), ha="center", va="top", fontsize=10, weight="bold", color=TEXT
            )
        for link in links:
            _link(ax, [_shifted(graphs[g].at[name], shifts[g]) for g, name in (link.start, link.end)], link)
        if legend:
            _legend(ax, legend)
    return Picture(figure, title=title, hover=hover)


def _draw(ax: Any, graph: Graph, at: Mapping[str, tuple[float, float]], k: int) -> dict[str, str]:
    from matplotlib.patches import Circle, FancyArrowPatch
    from matplotlib.path import Path

    for a, b in graph.edges:
        arrow = FancyArrowPatch(
            path=Path(way(at, a, b), [Path.MOVETO, Path.CURVE3, Path.CURVE3]),
            arrowstyle="-|>",
            mutation_scale=8,
            shrinkA=0,
            shrinkB=0,
            color=EDGE,
            linewidth=0.9,
            zorder=2,
            clip_on=False,
        )
        ax.add_patch(arrow)
    hover: dict[str, str] = {}
    for i, (name, node) in enumerate(graph.nodes.items()):
        x, y = at[name]
        gid = f"node-{k}-{i}"
        circle = Circle(
            (x, y), RADIUS, facecolor=node.fill, edgecolor=FAINT if node.faint else EDGE, linewidth=1.0, zorder=3
        )
        circle.set_gid(gid)
        hover[gid] = node.hover or name
        ax.add_patch(circle)
        colour = PALE if node.faint else TEXT
        size = 9 if len(node.value) < 6 else 8 if len(node.value) < 8 else 7
        ax.text(x, y, plain(node.value), ha="center", va="center", fontsize=size, color=colour, zorder=5)
        halo = {"boxstyle": "square,pad=0.3", "facecolor": "white", "edgecolor": "none"}
        ax.text(
            x,
            y + RADIUS + 0.125,
            plain(node.name),
            ha="center",
            va="center",
            fontsize=9,
            color=colour,
            zorder=2.5,
            bbox=halo,
        )
    return hover


def _link(ax: Any, ends: Sequence[tuple[float, float]], link: Link) -> None:
    """A line between two nodes; along a row, a curve above the nodes that stand between them."""
    from matplotlib.patches import FancyArrowPatch

    (x0, y0), (x1, y1) = ends
    start, end, bend = *_between(ends[0], ends[1], RADIUS + 0.04), 0.08
    if abs(y1 - y0) < 0.5:
        side, up = (1 if x1 > x0 else -1) * 0.62 * (RADIUS + 0.04), 0.78 * (RADIUS + 0.04)
        start, end, bend = (x0 + side, y0 + up), (x1 - side, y1 + up), min(0.3, 1.5 / max(abs(x1 - x0), 1e-9))
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle=f"arc3,rad={bend if x1 < x0 else -bend:.4f}",
            arrowstyle="-|>" if link.arrow else "-",
            mutation_scale=13,
            shrinkA=0,
            shrinkB=0,
            color=link.colour,
            linewidth=1.8 if link.arrow else 1.2,
            linestyle="-" if link.arrow else (0, (4, 3)),
            zorder=6,
        )
    )


def _legend(ax: Any, legend: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=8, markerfacecolor=fill, markeredgecolor=EDGE, label=label)
        for label, fill in legend.items()
    ]
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.04),
        ncols=min(len(handles), 5),
        frameon=False,
        fontsize=8,
        handletextpad=0.2,
        columnspacing=1.2,
    )


def _spread(layers: Sequence[Sequence[str]], wide: float) -> dict[str, tuple[float, float]]:
    step = 1.5 if len(layers) > 1 else 1.0
    return {
        name: ((i - (len(layer) - 1) / 2) * wide, depth * step)
        for depth, layer in enumerate(layers)
        for i, name in enumerate(layer)
    }


def _between(
    a: tuple[float, float], b: tuple[float, float], shorten: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The part of a line that lies outside the circles at its ends."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    share = shorten / max((dx**2 + dy**2) ** 0.5, 1e-9)
    return (a[0] + share * dx, a[1] + share * dy), (b[0] - share * dx, b[1] - share * dy)


def way(at: Mapping[str, tuple[float, float]], a: str, b: str) -> list[tuple[float, float]]:
    """Start, control point and end of an edge: straight, or bent as little as goes round the nodes between its ends."""
    (x0, y0), (x1, y1) = at[a], at[b]
    others = [(x, y) for x, y in at.values() if y0 < y < y1]
    ways = []
    for bend in sorted((k / 20 for k in range(-24, 25)), key=lambda bend: (abs(bend), -bend)):
        control = (x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)
        start, end = _between(at[a], control, RADIUS + 0.02)[0], _between(control, at[b], RADIUS + 0.02)[1]
        met = sum(_passes(start, control, end, other) for other in others)
        if not met:
            return [start, control, end]
        ways.append((met, [start, control, end]))
    return min(ways, key=lambda way: way[0])[1]


def _passes(
    start: tuple[float, float], control: tuple[float, float], end: tuple[float, float], node: tuple[float, float]
) -> bool:
    """Whether a curve of three points touches a node."""
    for k in range(33):
        t = k / 32
        x, y = ((1 - t) ** 2 * p + 2 * t * (1 - t) * q + t**2 * r for p, q, r in zip(start, control, end, strict=True))
        if (x - node[0]) ** 2 + (y - node[1]) ** 2 < (RADIUS + 0.06) ** 2:
            return True
    return False


def _shifted(at: tuple[float, float], shift: float) -> tuple[float, float]:
    return at[0] + shift, at[1]
