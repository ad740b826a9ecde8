"""From a result of any kind to the section of a page that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..ablations import Ablated
from ..accuracy import Accuracy
from ..causal_model import CausalModel
from ..circuits import Circuit
from ..comparison import Comparison
from ..discovery.found import Found
from ..errors import WrongInput
from ..identity import model_digest
from ..maps import Mediators, Scan, Scans
from ..network import Network
from ..plots.picture import Picture
from ..results import Effects
from ..rivals import Rivalry
from ..tables import Table
from . import origins
from .graphs import found_parts, model_parts, widget_title
from .measured import section_of_effects, section_of_scan, section_of_scans
from .pictures import picture_widget
from .sections import Part, Section
from .sentences import of_accuracy, of_circuit, of_comparison
from .tables import table_widget
from .widgets import Widget
from .words import capital, counted, named, shown

MOST = 50
"""How many failures are listed."""


def section_of(result: Any) -> Section:
    """The section that shows a result. Raises WrongInput for what is none."""
    for kind, made in KINDS.items():
        if isinstance(result, kind):
            return made(result)
    kinds = named([kind.__name__ for kind in KINDS], len(KINDS))
    raise WrongInput(f"{type(result).__name__} is no kind of result that a page shows. There are {kinds}.")


def _accuracy(found: Accuracy) -> Section:
    table = found.table()
    sizes = list(dict.fromkeys(counted(row.size, "pair") for row in found.rows))
    return Section(
        kind="Interchange intervention accuracy",
        title="Does the network do what the hypothesis says?",
        asked=(
            "The values of variables were interchanged, in the network at the places that are said to hold them, in "
            f"the hypothesis at the variables themselves, in {counted(len(found.rows), 'way')}; and the outputs of the "
            "two were held against each other.",
        ),
        answer=tuple(of_accuracy(found)),
        parts=(
            Part("Each way of interchanging", table_widget(table, file="accuracy")),
            _failures("accuracy-failures", found.failures(), found.smallest),
        ),
        origin=(
            ("Interchanges", f"{len(found.rows)} ways, each of {named(sizes)}"),
            ("Counts as the same", f"outputs at most {found.tol:.3g} apart"),
            ("Not recorded by this result", "the model, its weights, and the seed of the interchanges"),
        ),
    )


def _found(found: Found) -> Section:
    table = found.table()
    return Section(
        kind="A discovered algorithm",
        title=f"Which algorithm does {found.model_name} follow?",
        model=found.model_name,
        asked=(
            f"The network was run on {'all ' * found.domain.exhaustive}{counted(len(found.domain), 'input')} of "
            f"{named(found.domain.names)}, with values of its neurons interchanged, and variables were looked for that "
            "explain what each neuron holds and what that does.",
        ),
        answer=(*found.sentences(), f"The verdict: {found.verdict}."),
        parts=(
            *found_parts(found),
            Part("What each place holds", table_widget(table, file="found")),
            Part("What was tried", table_widget(_checks(found), file="checks")),
            _failures("found-failures", found.failures()),
        ),
        notes=found.limits,
        origin=(
            ("Model", found.model_name),
            (f"Weights as they are now{origins.HASHED}", origins.short(model_digest(found.network))),
            ("Inputs", f"{len(found.domain):,}, {'all there are' if found.domain.exhaustive else 'a sample'}"),
            ("Counts as no difference", f"at most {found.tol:.3g} (asked was {found.asked:.3g})"),
            ("Noise floor", f"{found.noise:.3g}"),
            ("Work", f"{counted(found.runs, 'row')} of the network were run"),
            ("Seed", str(found.seed)),
        ),
    )


def _checks(found: Found) -> Table:
    rows = tuple(
        (
            check.name,
            f"{check.n}",
            f"{check.failed}",
            ("-" if not check.n else "exact" if check.exhaustive else f"{100 * check.bound:.2g} %"),
            "yes" if check.decides else "no",
        )
        for check in found.checks
    )
    return Table("What was tried, and how it went", ("what", "tried", "failed", "at most fail (95 %)", "decides"), rows)


def _circuit(found: Circuit) -> Section:
    table = found.table()
    names = named([" + ".join(map(str, group)) for group in found.kept])
    return Section(
        kind=f"A circuit of {counted(len(found.kept), 'place')}",
        title=f"Are {names} enough, and all of them needed?" if len(found.kept) > 1 else f"Is {names} enough?",
        model=found.model,
        asked=(
            f"On {counted(len(found.pairs), 'input')}, the places of {found.model} that are not in the circuit "
            f"({len(found.among) - len(found.kept)} of {len(found.among)}) were given values of random other inputs.",
        ),
        answer=tuple(of_circuit(found)),
        parts=(Part("Faithful, complete, minimal", table_widget(table, file="circuit")),),
        notes=table.notes,
        origin=(
            ("Model", found.model),
            ("Metric", found.metric),
            ("Inputs", origins.pairs_line(found.pairs)),
            (f"Data{origins.HASHED}", origins.data_hash(found.pairs)),
            ("Noise floor", f"{found.noise:.3g}"),
            ("Not recorded by this result", "the weights, and the seed of the resampling"),
        ),
    )


def _comparison(found: Comparison) -> Section:
    one, other = found.names
    return Section(
        kind=f"A comparison at {counted(len(found.labels), 'place')}",
        title=f"Where do {one} and {other} differ?",
        asked=(
            f"The {found.quantity} of both, on {'the same pairs' if found.paired else 'pairs of their own'}; the "
            "interval is of the difference itself.",
        ),
        answer=tuple(of_comparison(found)),
        parts=(Part("Place by place", table_widget(found.table(), file="comparison")),),
        origin=(("Not recorded by this result", "the models, weights and data of the two: see their own sections"),),
    )


def _rivalry(found: Rivalry) -> Section:
    one, other = found.names
    rows = tuple((shown(case["base"]), *map(shown, case["expected"])) for case in found.cases)
    cases = Table(f"The first {len(rows)} inputs on which they disagree", ("base", one, other), rows)
    return Section(
        kind="Two hypotheses",
        title=f"Which is right, {one} or {other}?",
        asked=(
            f"Of {found.tried:,} interchanges at the places that both claim, the network ran those of which the two "
            "expect different outputs.",
        ),
        answer=(f"{capital(found.verdict)}.",),
        parts=(
            Part("Where they disagree", table_widget(found.table(), file="rivals")),
            *([Part("Cases", table_widget(cases, file="cases"))] if rows else []),
        ),
        notes=found.table().notes,
        origin=(("Not recorded by this result", "the model, its weights, and the seed"),),
    )


def _ablated(found: Ablated) -> Section:
    table = found.table(most=1000)
    largest = found.labels[int(found.size.estimate.argmax())]
    return Section(
        kind=f"An ablation of {counted(len(found.places), 'place')}",
        title=f"What is lost where places are {found.by}?",
        model=found.model,
        asked=(f"In {counted(len(found.pairs), 'base input')}, each place of {found.model} was {found.by}.",),
        answer=(f"{largest} changes {found.metric} most: by {found.size.estimate.max():.3g} on average, up or down.",),
        parts=(Part("Place by place", table_widget(table, file="ablation")),),
        notes=tuple(map(str, found.notes())),
        origin=(
            ("Model", found.model),
            ("Metric", found.metric),
            (f"Data{origins.HASHED}", origins.data_hash(found.pairs)),
            ("Noise floor", f"{found.noise:.3g}"),
            ("Mechanisms of the engine", ", ".join(found.work.mechanisms) or "not recorded"),
        ),
    )


def _model(model: CausalModel) -> Section:
    rows = tuple(
        (name, ", ".join(v.parents) or "an input", shown(list(v.domain)) if v.domain is not None else "")
        for name, v in model.variables.items()
    )
    columns = ("variable", "computed from", "domain")
    table = Table(f"{counted(len(rows), 'variable')}, each with its parents", columns, rows)
    computed = [f"{name} from {named(v.parents)}" for name, v in model.variables.items() if v.parents]
    return Section(
        kind="A causal model",
        title=f"How {named(model.outputs)} is computed from {named(model.inputs)}",
        answer=(f"It computes {named(computed, 12)}.",) if computed else (),
        parts=(*model_parts(model), Part("Its variables", table_widget(table, file="variables"))),
    )


def _network(network: Network) -> Section:
    name = type(network.module).__name__
    return Section(
        kind="A network",
        title=f"The neurons of {name}",
        model=name,
        parts=model_parts(network),
        origin=((f"Weights as they are now{origins.HASHED}", origins.short(model_digest(network))),),
    )


def _picture(picture: Picture) -> Section:
    return Section(kind="A picture", title=picture.title, parts=(Part("", picture_widget(picture)),))


def _widget(widget: Widget) -> Section:
    kind = widget_title(widget)
    return Section(kind=kind, title=widget.title or kind, parts=(Part("", widget),))


def _table(table: Table) -> Section:
    return Section(kind="A table", title=table.title, parts=(Part("", table_widget(table)),), notes=table.notes)


def _mediators(found: Mediators) -> Section:
    return _table(found.table(most=1000))


def _failures(file: str, failed: list[dict[str, Any]], smallest: Any = ()) -> Part:
    """What went otherwise, as a table; the smallest first, where it is known."""
    if not failed:
        return Part("What failed", None, ("Nothing that was tried.",))
    first = [one for one in smallest if one]
    rest = failed[: MOST - len(first)]
    keys = list(dict.fromkeys(key for one in (*first, *rest) for key in one))
    rows = tuple(tuple(shown(one.get(key, "")) for key in keys) for one in (*first, *rest))
    lead = ", the smallest of each way first" if first else ""
    title = f"{len(failed):,} went otherwise{lead}"
    return Part("What failed", table_widget(Table(title, tuple(keys), rows), file=file))


KINDS: Mapping[type, Callable[[Any], Section]] = {
    Scans: section_of_scans,
    Scan: section_of_scan,
    Effects: section_of_effects,
    Accuracy: _accuracy,
    Found: _found,
    Circuit: _circuit,
    Comparison: _comparison,
    Rivalry: _rivalry,
    Ablated: _ablated,
    Mediators: _mediators,
    CausalModel: _model,
    Network: _network,
    Picture: _picture,
    Table: _table,
    Widget: _widget,
}
"""Every kind of result, and what makes its section."""
