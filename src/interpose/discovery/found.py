"""What was discovered of a network: the algorithm, where it is held, how that is known, and what it cannot tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..abstraction import Alignment
from ..causal_model import CausalModel
from ..drawing import draw_alignment
from ..errors import UnknownPlace, WrongInput, suggest
from ..interventions import Set
from ..model import NOTHING, Run
from ..network import Network
from ..plots.picture import Picture
from ..sites import Site
from ..tables import Table, Tabled, some
from .decoding import Decoded
from .graph import OUTPUT
from .holdings import Held, Layer, layer_name
from .kernels import count
from .modelling import Formula
from .responses import Domain
from .verification import Check
from .wiring import Node, Wire

PARENTS = 4
"""How many parents of a variable a table shows."""

Verdict = Literal["exact", "verified", "approximate", "partial", "none"]
SURE = ("exact", "verified")
"""The verdicts of which it may be said that the network implements the algorithm."""


@dataclass(frozen=True)
class Inert:
    """A site that nothing needs: how that is known, and why in words.

    grade: "constant", "certified", "no effect", or "small effect" for what is below a tolerance larger than asked for.
    """

    site: Site
    grade: str
    reason: str


@dataclass(frozen=True, eq=False)
class Made:
    """A model; the same, which says `UNSAID` of what it does not know; formulas; and where its variables are held."""

    model: CausalModel
    careful: CausalModel
    formulas: Mapping[str, Formula]
    alignment: Alignment
    sites: Mapping[str, tuple[Site, ...]]


@dataclass(frozen=True)
class AtTolerance:
    """What was found where outputs no further apart than tol count as the same.

    graded: how many sites have no classes; unnamed: how many variables have no simple name; named: those that have, and
    their sites. worst: the largest distance of the network from the algorithm in any check, None without one.
    """

    tol: float
    verdict: str
    graded: int
    unnamed: int
    named: tuple[tuple[str, str], ...]
    worst: float | None

    def __str__(self) -> str:
        named = some([f"{name} at {sites}" for name, sites in self.named], 3)
        counts = [f"{self.graded} sites graded"] * (self.graded > 0)
        counts += [f"{self.unnamed} without a simple name"] * (self.unnamed > 0)
        counts += [f"never off by more than {self.worst:.2g}"] if self.worst is not None else []
        verdict = "everything holds" if self.verdict in SURE else self.verdict
        return ", ".join([verdict, *counts]) + (f"; {named}" if named else "")


@dataclass(frozen=True, eq=False, repr=False)
class Found(Tabled):
    """What was discovered: see `discover`.

    made: the algorithm, as `model`, `formulas` and `alignment`; rules: how each variable is written.
    layers: what each layer holds, silent, graded and distributed sites included; inert: sites that nothing needs.
    wires: parents, with the table of every combination; unwired: variables of which no parents were found.
    checks: what was tried; verdict: "exact" (every input there is was tried, and everything held), "verified" (a
        sample was), "approximate" (something failed), "partial" (a part is not explained) or "none".
    limits: what all this cannot tell, in sentences. tol: what counts as the same output here; asked: what should have;
        curve: what was found at each tolerance that was tried. runs: how many rows of the network were run.
    """

    network: Network
    model_name: str
    domain: Domain
    layers: tuple[Layer, ...]
    nodes: tuple[Node, ...]
    wires: Mapping[str, Wire]
    unwired: tuple[str, ...]
    made: Made | None
    rules: Mapping[str, Decoded]
    inert: Mapping[Site, Inert]
    checks: tuple[Check, ...]
    verdict: Verdict
    limits: tuple[str, ...]
    tol: float
    runs: int
    seed: int = 0
    asked: float = 0.0
    curve: tuple[AtTolerance, ...] = ()
    noise: float = 0.0
    seconds: float = 0.0

    # -- the algorithm ---------------------------------------------------------------------------------------

    @property
    def model(self) -> CausalModel | None:
        """The algorithm as a causal model, which runs alone; None where the output is not explained."""
        return self.made.model if self.made is not None else None

    @property
    def formulas(self) -> Mapping[str, Formula]:
        """How each variable is computed from its parents."""
        return self.made.formulas if self.made is not None else {}

    @property
    def alignment(self) -> Alignment | None:
        """Which sites hold which variable."""
        return self.made.alignment if self.made is not None else None

    # -- what one asks -----------------------------------------------------------------------------------

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that are held somewhere, in causal order."""
        return tuple(dict.fromkeys(node.name for node in self.nodes))

    def decode(self, place: Any) -> Decoded:
        """How the variable that a place holds is written there. Raises UnknownPlace for a place that holds none."""
        site = self.network.place(place)
        for name, rule in self.rules.items():
            if site in rule.sites:
                return rule
            if any(node.name == name and node.held is not None and site in node.held.group for node in self.nodes):
                raise UnknownPlace(f"{site} carries {name} on from {' + '.join(map(str, rule.sites))}: decode that.")
        why = self.inert.get(site)
        raise UnknownPlace(
            f"{site} holds no variable that was found"
            + (f": {why.grade}." if why is not None else f". Those that do: {', '.join(map(str, self._sites()))}.")
        )

    def do(self, **values: Any) -> Acting:
        """The network with variables set, by writing at their sites: found.do(A=2).run([1, 2, 3]).

        Names that are no identifiers go in a dict: found.do(**{"B+C": 9}).
        Raises UnknownPlace for no variable that is held, WrongInput for a value that no rule says how to write.
        """
        write: dict[Site, Any] = {}
        for name, value in values.items():
            if name not in self.rules:
                raise UnknownPlace(f"No variable {name!r} was found. {suggest(name, self.rules)}")
            rule = self.rules[name]
            write |= dict(zip(rule.sites, rule.encode(value), strict=True))
        if not write:
            raise WrongInput("Say what to set: found.do(A=2).")
        return Acting(self.network, write)

    def failures(self) -> list[dict[str, Any]]:
        """Every interchange that went otherwise than the model says, as far as kept: each can be run again."""
        return [{"check": check.name, **failure} for check in self.checks for failure in check.failures]

    # -- to read -----------------------------------------------------------------------------------------

    def table(self) -> Table:
        """One row a site that holds something, layer by layer, and one for each that holds nothing."""
        rows: list[tuple[str, ...]] = []
        for layer in self.layers:
            rows += [self._row(layer, held) for held in layer.held]
            rows += [
                (layer.name, str(held.group[0]), "graded", "", "rows shade into one another") for held in layer.graded
            ]
            if layer.distributed:
                sites = " + ".join(map(str, layer.distributed))
                rows.append((layer.name, sites, "distributed", "", "every site keeps all inputs apart"))
            alike: dict[str, list[str]] = {}
            for site, why in self.inert.items():
                if layer_name(site) == layer.name:
                    alike.setdefault(f"{why.grade}: {why.reason}", []).append(str(site))
            rows += [(layer.name, some(sites), "inert", "", how) for how, sites in alike.items()]
        if OUTPUT in self.wires:
            wire, formula = self.wires[OUTPUT], self.formulas.get(OUTPUT)
            rows.append(("output", OUTPUT, formula.text if formula else "", ", ".join(wire.parents), ""))
        columns = ("layer", "site", "holds", "from", "how")
        return Table(
            f"{self.model_name}, on {self._inputs()}: {self.verdict}", columns, tuple(rows), tuple(self._notes())
        )

    def explain(self) -> str:
        """What was found in a few sentences, made from the numbers, and what it cannot tell."""
        said = " ".join(self.sentences())
        return said + ("\n\nWhat this cannot tell: " + " ".join(self.limits) if self.limits else "")

    def sentences(self) -> list[str]:
        """What was found, sentence by sentence."""
        said = [self._opening()]
        unnamed = self._unnamed()
        said += [self._said(name) for name in self.variables if name not in unnamed]
        said += _without_names(unnamed.values())
        if OUTPUT in self.formulas:
            said.append(f"The output is {self.formulas[OUTPUT].text}.")
        if self.inert:
            said.append(f"Nothing needs {some([str(site) for site in self.inert])}.")
        return [*said, *self._tested()]

    def draw(self) -> Picture:
        """Network and algorithm side by side, with lines from sites to the variables they hold."""
        if self.alignment is None:
            raise WrongInput(
                f"No algorithm was found that explains the output ({self.verdict}), so there is none to draw."
            )
        return draw_alignment(self.network, self.alignment)

    # -- inside ------------------------------------------------------------------------------------------

    def _sites(self) -> list[Site]:
        return [site for rule in self.rules.values() for site in rule.sites]

    def _row(self, layer: Layer, held: Held) -> tuple[str, ...]:
        node = next(node for node in self.nodes if node.held is held)
        first = next(other for other in self.nodes if other.name == node.name)
        wire = self.wires.get(node.name)
        if first is not node:
            return (layer.name, " + ".join(held.labels), node.name, node.name, "carried on")
        known = node.name if node.name in self.domain.names else "?"
        parents = some(wire.parents, PARENTS) if wire is not None else known
        name = node.name if held.is_named else f"no simple name ({count(held.classes)} kinds)"
        return (layer.name, " + ".join(held.labels), name, parents, str(self.rules[node.name]))

    def _notes(self) -> list[str]:
        notes = [f"{check}." for check in self.checks]
        notes += [f"No parents were found for {some(self.unwired)}."] if self.unwired else []
        for said, alike in itertools.groupby(self.curve[1:], key=str):
            tols = [f"{one.tol:.2g}" for one in alike]
            notes.append(f"At a tolerance of {' to '.join(dict.fromkeys((tols[0], tols[-1])))}: {said}.")
        notes += [f"{self.runs:,} rows were run in {self.seconds:.1f} seconds."]
        return [*notes, *self.limits]

    def _opening(self) -> str:
        verb = {
            "exact": "implements this algorithm, exactly: every input there is was tried",
            "verified": "implements this algorithm, as far as a sample of inputs shows",
            "approximate": "comes near this algorithm" + self._nearness(),
            "partial": "is explained in part",
            "none": "is not explained by any algorithm in these sites",
        }[self.verdict]
        return f"On {self._inputs()}, {self.model_name} {verb}."

    def _unnamed(self) -> dict[str, Held]:
        """The variables without a simple name, at their first places."""
        held = {node.name: node.held for node in reversed(self.nodes) if node.held is not None}
        return {name: held[name] for name in self.variables if not held[name].is_named}

    def _nearness(self) -> str:
        """How near, of what holds at a larger tolerance than was asked for."""
        if self.tol <= self.asked:
            return ""
        worst = max((check.worst for check in self.checks if check.decides), default=0.0)
        return (
            f", never off by more than {worst:.2g} where outputs up to {self.tol:.2g} apart count as the same "
            f"(asked was {self.asked:.2g}, at which it is {self.curve[0].verdict})"
        )

    def _said(self, name: str) -> str:
        """One variable in a sentence: where it is held, how it is computed, how it is written."""
        rule, formula = self.rules[name], self.formulas.get(name)
        where, holds = " and ".join(map(str, rule.sites)), "holds" if len(rule.sites) == 1 else "together hold"
        how = "" if formula is None or formula.text == name else f", computed as {formula.text}"
        if formula is not None and formula.table:
            how = f", computed from {' and '.join(formula.parents)} by a table"
        return f"{where} {holds} {name}{how}{self._written(rule)}."

    def _tested(self) -> list[str]:
        """How the hypothesis stood the test, in sentences."""
        tried = [check for check in self.checks if check.decides and check.n]
        failed = [check for check in tried if not check.holds]
        n = sum(check.n for check in tried)
        said = (
            [f"Put to the test in {n:,} runs of {len(tried)} kinds, it never failed."] if tried and not failed else []
        )
        said += [f"The test failed in part: {check}." for check in failed]
        beyond = [check for check in self.checks if not check.decides and not check.holds]
        names = " and ".join(check.name.removesuffix(" set to values beyond those") for check in beyond)
        return [*said, f"Beyond the values that inputs give, it does not hold of {names}."] if beyond else said

    def _written(self, rule: Decoded) -> str:
        return f" ({rule})" if rule.slope is not None else ""

    def _inputs(self) -> str:
        return f"{'all ' if self.domain.exhaustive else ''}{len(self.domain):,} inputs"


@dataclass(frozen=True, eq=False)
class Acting:
    """A network with variables set: `run` writes what they are written as."""

    network: Network
    write: Mapping[Site, Any]

    def run(self, inputs: Any, *, read: Sequence[Any] = (), write: Mapping[Any, Any] = NOTHING) -> Run[Site]:
        """One forward pass with the variables set; more may be read and written."""
        own = {site: Set(value, broadcast=True) for site, value in self.write.items()}
        return self.network.run(inputs, read=read, write={**own, **write})


def _without_names(unnamed: Iterable[Held]) -> list[str]:
    """What is said of variables without a simple name: how many kinds of inputs they tell apart."""
    several = [(" and ".join(one.labels), len(one.group), count(one.classes)) for one in unnamed]
    said = "something without a simple name, which tells"
    if len(several) < 4:
        return [
            f"{where} {'holds' if sites == 1 else 'together hold'} {said} {kinds} kinds of inputs apart."
            for where, sites, kinds in several
        ]
    least, most = min(kinds for *_, kinds in several), max(kinds for *_, kinds in several)
    kinds = f"{least} to {most}" if least < most else f"{most}"
    return [f"{some([where for where, *_ in several])} each hold {said} {kinds} kinds of inputs apart."]


def at_tolerance(found: Found) -> AtTolerance:
    """What was found, in short."""
    held = {node.name: node.held for node in found.nodes if node.held is not None}
    named = [(name, " + ".join(one.labels)) for name, one in held.items() if one.is_named]
    return AtTolerance(
        found.tol,
        found.verdict,
        sum(len(layer.graded) for layer in found.layers),
        len(held) - len(named),
        tuple(named),
        max((check.worst for check in found.checks if check.decides and check.n), default=None),
    )


# -- what is said of the whole -----------------------------------------------------------------------------------


def verdict_of(
    layers: Sequence[Layer], unwired: Sequence[str], checks: Sequence[Check], domain: Domain, nodes: Sequence[Node]
) -> Verdict:
    """The verdict: exact and verified only where everything that was tried held, and everything is explained.

    A place that tells all inputs apart is not: on few inputs any such place has a name, and the name says nothing.
    """
    if not nodes:
        return "none"
    unexplained = any(layer.graded or layer.distributed for layer in layers) or any(
        node.held is None or not node.held.is_named or node.held.all_apart for node in nodes
    )
    if all(node.held is not None and node.held.all_apart for node in nodes):
        return "none"
    if unwired or unexplained or not checks:
        return "partial"
    if not all(check.holds for check in checks if check.decides and check.n):
        return "approximate"
    return "exact" if domain.exhaustive else "verified"


def limits_of(layers: Sequence[Layer], domain: Domain, nodes: Sequence[Node]) -> tuple[str, ...]:
    """What the result cannot tell, of what applies to it."""
    said = []
    if nodes:
        said.append("Variables are known up to a renaming of their values, and by the inputs looked at alone.")
        said.append("The variables are statements about these sites: other directions may hold other ones.")
    if not domain.exhaustive:
        said.append("Only a sample of inputs was looked at: with more, a site may be found to tell more of them apart.")
    if any(layer.distributed for layer in layers):
        said.append("Some layers are distributed over their sites; a learned subspace may carry what no neuron does.")
    if any(layer.graded for layer in layers):
        said.append("Some sites are graded: what they hold has no classes at this tolerance.")
    if any(node.held is not None and node.held.name is not None and not node.held.name.exact for node in nodes):
        said.append("Some variables have no name in the grammar; they are tables.")
    if any(not layer.cut for layer in layers):
        said.append("Some layers are passed by on other paths, so that they do not carry everything.")
    return tuple(said)
