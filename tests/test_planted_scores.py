"""Scores of answers: the key's own answer is right everywhere, and every kind of mistake is caught by its rate."""

import itertools
from dataclasses import replace
from functools import cache

import pytest

from interpose import errors
from interpose.tasks.planted import (
    CONTROLS,
    ENCODINGS,
    OUTPUT,
    PROGRAMS,
    Answer,
    Claim,
    by_accuracy_alone,
    by_guessing,
    by_single_variables,
    control,
    planted,
    score,
    suite,
    table,
)
from interpose.tasks.planted.partitions import is_trivial, kernel, refines, size
from interpose.tasks.planted.wiring import wired

SEED = 60
EXACT = [name for name in ENCODINGS if name not in ("rotated", "noise above")]
SOME = ("A+(B+C)", "xor by gates", "product by squares", "sum, then remainder", "count in a chain", "max - min")


@cache
def key_of(program, encoding="dead", seed=SEED):
    return planted(program, encoding, seed).key


def changed(answer, old, **parts):
    """The answer with other parts of one claim, and the same change of its edges."""
    new = replace(old, **parts)
    layers = {name: tuple(new if claim is old else claim for claim in claims) for name, claims in answer.layers.items()}
    edges = frozenset(tuple(new.sites if end == old.sites else end for end in edge) for edge in answer.edges)
    return replace(answer, layers=layers, edges=edges)


def keys(encodings=EXACT):
    """Of some programs in every encoding whose variables have neurons, where there is no doubt about the key."""
    found = (key_of(program, encoding) for program in SOME for encoding in encodings)
    return [key for key in found if not key.ambiguous]


# -- right answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_keys_own_answer_is_right_on_every_instance(encoding):
    for program in PROGRAMS:
        key = key_of(program, encoding)
        result = score(key.answer(), key)
        assert result.recovered is (None if key.ambiguous else True), (program, result.contradictions)
        assert result.verdict_right and not result.contradictions and not result.false_inert, program
        assert result.precision == result.recall == result.agreement == result.edges == 1, program
        assert result.decode_error is None or result.decode_error <= key.truth.resolution, program
        assert result.abstained == (encoding == "rotated") or encoding == "noise above"


@pytest.mark.parametrize("kind", CONTROLS)
def test_on_a_control_the_right_answer_is_that_nothing_is_found(kind):
    key = control(kind, "max + min", 2).key
    result = score(key.answer(), key)
    assert result.recovered and result.verdict_right and result.abstained and result.control
    live = sorted(key.live)[0]
    honest = Claim(frozenset({live}), key.truth.kernel(frozenset({live})))
    unnamed = Answer({"l1": (honest,)}, verdict="none")
    assert not score(unnamed, key).contradictions  # that a site tells some inputs apart is true
    named = Answer({"l1": (replace(honest, name="A+B"),)}, verdict="partial")
    assert score(named, key).false_abstraction == (not is_trivial(honest.classes))
    assert not score(Answer({}, verdict="exact"), key).recovered
    if kind != "all inputs apart":
        some = next(cell for cell in key.cells if not is_trivial(cell.classes))
        claims = {key.truth.names[key.truth.find(some.sites)[0] - 1]: (Claim(some.sites, some.classes),)}
        assert score(Answer(claims, verdict="exact"), key).false_abstraction


def test_names_and_numbers_of_classes_do_not_matter():
    for key in keys(["affine", "copies"]):
        answer = key.answer()
        renumbered = {
            name: tuple(replace(one, name="x", classes=tuple(40 - 3 * c for c in one.classes)) for one in claims)
            for name, claims in answer.layers.items()
        }
        assert score(replace(answer, layers=renumbered, decode={}), key).recovered


def test_what_is_equivalent_is_accepted():
    key = key_of("two of three copies", "affine")  # any two of the copies
    answer = key.answer()
    claim = next(one for one in answer.layers["l1"] if len(one.sites) == 3)
    assert score(changed(answer, claim, sites=frozenset(sorted(claim.sites)[:2])), key).recovered
    assert not score(changed(answer, claim, sites=frozenset(sorted(claim.sites)[:1])), key).recovered

    key = key_of("|A-B| looked up", "affine")  # a gadget, or its parts
    answer = key.answer()
    (claim,) = answer.layers["l1"]
    parts = [frozenset({one}) for one in claim.sites]
    assert len(parts) > 1 and not key.cells[0].whole
    claims = tuple(Claim(part, key.truth.kernel(part)) for part in parts)
    inputs = [frozenset({name}) for name in key.inputs]
    groups = [inputs, parts, [one.sites for one in answer.layers["l2"]]]
    apart = Answer({**answer.layers, "l1": claims}, answer.inert, wired(key.truth, groups))
    assert score(apart, key).recovered
    assert not score(replace(apart, layers={**apart.layers, "l1": claims[1:]}), key).recovered

    key = key_of("sum in a chain", "affine")  # an edge from where a variable is first stored
    answer = key.answer()
    chain = next(chain for chain in key.chains if len(chain) == 3)  # D, its first neuron, its second
    direct = {(chain[1], child) if parent == chain[2] else (parent, child) for parent, child in answer.edges}
    assert direct != answer.edges and score(replace(answer, edges=frozenset(direct)), key).recovered
    without = frozenset(edge for edge in answer.edges if not edge[0] <= set(key.inputs))
    assert score(replace(answer, edges=without), key).recovered  # those from inputs may be left out, all together


def test_parts_that_may_be_of_either_variable_are_accepted_in_either():
    """On bits the unit relu(A+B-1) of a pair is the gate itself: both descriptions have as few classes."""
    key = key_of("xor by gates", "pairs")
    layer = key.layer("l1")
    assert layer.loose and score(key.answer(), key).recovered
    total, gate = (next(c.sites for c in layer.cells if c.variable == name) for name in ("A+B", "A and B"))
    (shared,) = [part for part, _ in layer.loose if key.truth.kernel(part) == key.truth.kernel(gate)]
    groups = [total - shared, gate | shared]
    answer = key.answer()
    claims = tuple(Claim(group, key.truth.kernel(group)) for group in groups)
    edges = wired(key.truth, [key.groups[0], groups, *key.groups[2:]])
    assert score(Answer({**answer.layers, "l1": claims}, answer.inert, edges), key).recovered
    each = [frozenset({one}) for one in total | gate]
    claims = tuple(Claim(one, key.truth.kernel(one)) for one in each)
    edges = wired(key.truth, [key.groups[0], each, *key.groups[2:]])
    assert not score(Answer({**answer.layers, "l1": claims}, answer.inert, edges), key).recovered


# -- mistakes ------------------------------------------------------------------------------------------


def test_a_wrong_kernel_is_a_false_abstraction_in_either_direction():
    for key in keys():
        answer = key.answer()
        claim = max(answer.claims, key=lambda one: size(one.classes))
        coarser = tuple(min(c, size(claim.classes) - 2) for c in claim.classes)
        finer = tuple(range(len(key.settings)))
        for classes in (coarser, finer):
            result = score(changed(answer, claim, classes=classes), key)
            assert not result.recovered and result.false_abstraction and result.agreement < 1
            hedged = score(changed(answer, claim, classes=classes, label="approximate"), key)
            assert not hedged.recovered and not hedged.false_abstraction


def test_swapped_sites_are_a_false_abstraction():
    for key in keys():
        answer = key.answer()
        for name, claims in answer.layers.items():
            different = [(a, b) for a in claims for b in claims if a.classes != b.classes]
            if different:
                a, b = different[0]
                swapped = tuple(
                    replace(one, sites=b.sites) if one is a else replace(one, sites=a.sites) if one is b else one
                    for one in claims
                )
                result = score(replace(answer, layers={**answer.layers, name: swapped}), key)
                assert not result.recovered and result.false_abstraction
                break


def test_a_variable_named_at_an_inert_site_is_a_false_abstraction():
    for key in keys(["dead", "padded", "unread copy"]):
        dead = next(iter(key.inert.keys() - key.cancelling), None)
        if dead:
            name = dead.split("[")[0]
            answer = key.answer()
            claim = Claim(frozenset({dead}), kernel(setting["A"] for setting in key.settings), "A")
            more = {**answer.layers, name: (*answer.layers[name], claim)}
            result = score(replace(answer, layers=more), key)
            assert not result.recovered and result.false_abstraction and result.precision < 1
            old = answer.layers[name][0]
            joined = score(changed(answer, old, sites=old.sites | {dead}), key)
            assert not joined.recovered and joined.false_abstraction


def test_a_wrong_edge_is_a_false_abstraction_and_a_missing_one_is_too_where_the_verdict_is_exact():
    wrong = missing = 0
    for key in keys():
        answer = key.answer()
        levels = [*key.groups, (OUTPUT,)]
        for above, below in itertools.pairwise(levels):
            absent = [(a, b) for a in above for b in below if (a, b) not in answer.edges]
            if absent:
                result = score(replace(answer, edges=answer.edges | {absent[0]}), key)
                assert not result.recovered and result.false_abstraction and result.edges < 1
                wrong += 1
        inside = [(a, b) for a, b in answer.edges if len(key.parents(b)) > 1 and a not in key.groups[0]]
        if inside:
            fewer = replace(answer, edges=answer.edges - {inside[0]})
            result = score(fewer, key)
            assert not result.recovered and result.false_abstraction and result.edges < 1
            assert not score(replace(fewer, verdict="partial"), key).false_abstraction
            missing += 1
        backwards = replace(answer, edges=answer.edges | {(OUTPUT, next(iter(answer.claims)).sites)})
        assert score(backwards, key).false_abstraction
    assert wrong > 20 and missing > 20


def test_the_other_association_of_a_sum_is_not_accepted():
    """(A+B)+C in a network that computes A+(B+C): the outputs are the same."""
    key = key_of("A+(B+C)")
    answer = key.answer()
    pair = next(one for one in answer.layers["l1"] if one.name == "B+C")
    other = kernel(setting["A"] + setting["B"] for setting in key.settings)
    result = score(changed(answer, pair, classes=other, name="A+B"), key)
    assert not result.recovered and result.false_abstraction


def test_inert_sites_must_be_known_and_live_ones_not_called_inert():
    for key in keys(["dead", "padded", "backup"]):
        answer = key.answer()
        known = [one for one in answer.inert if one not in key.cancelling]
        if known:
            fewer = {one: grade for one, grade in answer.inert.items() if one != known[0]}
            result = score(replace(answer, inert=fewer), key)
            assert not result.recovered and not result.false_abstraction and not result.false_inert
            unsure = score(replace(answer, inert={**answer.inert, known[0]: "undetermined"}), key)
            assert unsure.abstained and not unsure.recovered and not unsure.false_inert
        alive = sorted(key.live)[0]
        for grade in ("certified", "does not mediate"):
            result = score(replace(answer, inert={**answer.inert, alive: grade}), key)
            assert result.false_inert == (alive,) and not result.recovered
        assert not score(replace(answer, inert={**answer.inert, alive: "undetermined"}), key).false_inert


def test_what_cancels_may_be_said_not_to_mediate_but_not_be_certified():
    key = key_of("max + min", "affine")
    (hidden,) = key.cancelling
    answer = key.answer()
    assert score(answer, key).recovered and answer.inert[hidden] == "does not mediate"
    without = replace(answer, inert={one: g for one, g in answer.inert.items() if one != hidden})
    assert score(without, key).recovered
    assert score(replace(answer, inert={**answer.inert, hidden: "certified"}), key).false_inert == (hidden,)
    excess = Claim(frozenset({hidden}), kernel(max(s["A"] - s["B"], 0) for s in key.settings), "max(A-B,0)")
    told = replace(without, layers={**answer.layers, "l1": (*answer.layers["l1"], excess)})
    assert score(told, key).recovered  # it does hold that, and it feeds both
    nonsense = replace(excess, classes=kernel(s["A"] for s in key.settings))
    assert score(replace(told, layers={**answer.layers, "l1": (*answer.layers["l1"], nonsense)}), key).false_abstraction


def test_a_distributed_layer_gets_no_names():
    key = key_of("sum of pairs", "rotated")
    (layer,) = [layer for layer in key.layers if layer.distributed]
    answer = key.answer()
    assert answer.verdict == "partial" and not answer.layers[layer.name]
    one = frozenset({sorted(layer.live)[0]})
    truth = key.truth.kernel(one)
    for name, false in ((None, False), ("A+B", not is_trivial(truth))):
        claimed = replace(answer, layers={**answer.layers, layer.name: (Claim(one, truth, name),)})
        result = score(claimed, key)
        assert not result.recovered and result.false_abstraction == false
    whole = Claim(layer.live, key.truth.kernel(layer.live), "A+B+C+D")
    assert score(replace(answer, layers={**answer.layers, layer.name: (whole,)}), key).recovered
    assert not score(replace(answer, verdict="exact"), key).recovered


def test_where_noise_exceeds_the_tolerance_exact_is_false_and_approximate_right():
    for seed in range(4):
        key = key_of("A+(B+C)", "noise above", seed)
        answer = key.answer()
        assert {one.label for one in answer.claims} == {"approximate"} and score(answer, key).recovered
        exact = {name: tuple(replace(c, label="exact") for c in claims) for name, claims in answer.layers.items()}
        assert score(replace(answer, layers=exact, verdict="exact"), key).false_abstraction
        assert score(replace(answer, verdict="exact"), key).false_abstraction
        assert not score(replace(answer, layers=exact), key).recovered


def test_what_is_written_is_held_against_a_source_and_only_within_the_margin():
    key = key_of("A+(B+C)", "affine")
    answer = key.answer()
    sites, written = next(iter(answer.decode.items()))
    off = {one: (value[0] + 0.1,) for one, value in written.items() if one < 2}
    assert score(replace(answer, decode={sites: off}), key).decode_error > 0.01
    far = {0: (max(value[0] for value in written.values()) + 100,)}
    cell = next(cell for cell in key.cells if cell.sites == sites)
    assert cell.margin < 100 or cell.margin == float("inf")
    assert (score(replace(answer, decode={sites: far}), key).decode_error is None) == (cell.margin < 100)
    assert score(replace(answer, decode={}), key).decode_error is None


def test_claims_about_nothing_are_false_and_classes_of_other_lengths_refused():
    key = key_of("A+(B+C)")
    answer = key.answer()
    nowhere = Claim(frozenset({"l7[0]"}), answer.claims[0].classes, "A")
    assert score(replace(answer, layers={**answer.layers, "l7": (nowhere,)}), key).false_abstraction
    across = Claim(frozenset({"l1[0]", "l2[0]"}), answer.claims[0].classes, "A")
    assert score(replace(answer, layers={**answer.layers, "l2": (across,)}), key).false_abstraction
    short = replace(answer.claims[0], classes=(0, 1))
    with pytest.raises(errors.WrongShape, match="has classes of 2 settings; there are 64, in the order of"):
        score(replace(answer, layers={"l1": (short,)}), key)


def test_abstaining_costs_only_recovery():
    for key in keys(["dead", "mixed"]):
        nothing = score(Answer({}, verdict="none"), key)
        assert not nothing.recovered and not nothing.false_abstraction and not nothing.false_inert
        assert nothing.abstained and nothing.recall == 0 and nothing.agreement == 0
        graded = {name: tuple(replace(c, classes=None) for c in claims) for name, claims in key.answer().layers.items()}
        result = score(replace(key.answer(), layers=graded, decode={}), key)
        assert result.abstained and not result.recovered and not result.false_abstraction


# -- baselines, and a method that knows nothing of the key ---------------------------------------------


def test_the_tuple_of_all_inputs_is_never_right_where_something_coarser_is():
    for key in keys([*EXACT, "rotated", "noise above"]):
        result = score(by_accuracy_alone(key), key)
        assert not result.recovered and result.false_abstraction and result.agreement < 0.5


def test_scans_of_single_variables_find_copies_of_inputs_and_nothing_else():
    assert score(by_single_variables(key_of("A+B+C at once", "dead")), key_of("A+B+C at once", "dead")).recovered
    for key in keys():
        assert not score(by_single_variables(key), key).recovered


def test_guesses_are_hardly_ever_right():
    results = [score(by_guessing(key), key) for key in keys()]
    assert sum(bool(one.recovered) for one in results) <= 0.02 * len(results)
    assert sum(one.false_abstraction for one in results) > 0.9 * len(results)


def from_tables(key):
    """An answer from intervention tables alone, not from what was meant: groups are merged greedily, copies first."""
    truth, layers, inert, groups = key.truth, {}, {}, [list(key.groups[0])]
    for level, name in enumerate(truth.names[:-1], 1):
        live = [frozenset({s}) for s in truth.in_order(truth.sites(level)) if truth.effect(frozenset({s})) > key.tol]
        while merges := [
            (truth.kernel(a) != truth.kernel(b), size(both) / size(truth.kernel(a)) / size(truth.kernel(b)), a | b)
            for i, a in enumerate(live)
            for b in live[:i]
            for both in [truth.kernel(a | b)]
            if all(refines(both, truth.kernel(one)) for one in (a, b))
            and size(both) < size(truth.kernel(a)) * size(truth.kernel(b))
        ]:
            best = min(merges, key=lambda merge: merge[:2])[2]
            live = [one for one in live if not one <= best] + [best]
        layers[name] = tuple(Claim(group, truth.kernel(group)) for group in live)
        inert |= {s: "does not mediate" for s in truth.sites(level) if not any(s in group for group in live)}
        groups.append(live)
    return Answer(layers, inert, wired(truth, groups))


def test_keys_can_be_found_without_knowing_what_was_meant():
    """Where several groupings are true, the key accepts what a method that sees only tables finds."""
    results = [score(from_tables(key), key) for key in keys() if key.encoding != "mixed"]
    assert sum(bool(one.recovered) for one in results) >= 0.95 * len(results)
    assert not any(one.contradictions for one in results)


# -- the table -----------------------------------------------------------------------------------------


def test_the_table_tells_tiers_and_programs_apart_with_intervals():
    instances = list(suite([3], programs=["and", "A+B"], encodings=["affine", "dead", "rotated"]))
    right = [score(one.key.answer(), one.key) for one in instances]
    wrong = [score(by_accuracy_alone(one.key), one.key) for one in instances if not one.control]
    shown = table(right)
    rows = {row[0]: row[1:] for row in shown.rows}
    assert rows["all with a program"][:5] == ("6", "1.00", "[0.61, 1.00]", "0/6", "<= 0.393")
    assert rows["all without"][0] == "21" and rows["affine"][0] == "2" and rows["and"][0] == "3"
    assert "control: memory" in rows and len(rows) == 2 + 3 + 3 + 2
    assert "Clopper and Pearson's upper limit" in str(shown)
    rows = {row[0]: row[1:] for row in table(wrong).rows}
    assert rows["dead"][:5] == ("2", "0.00", "[0.00, 0.66]", "2/2", "<= 1.000")
    doubtful = [replace(right[0], recovered=None, contradictions=("something",)), right[1]]
    rows = {row[0]: row[1:] for row in table(doubtful).rows}
    assert rows["affine"][:4] == ("2", "1.00", "[0.21, 1.00]", "0/1")
