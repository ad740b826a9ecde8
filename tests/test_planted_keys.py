"""Answer keys: held against tables that are made here, run by run, and against what is known of each construction."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import interpose as ip
from interpose.tasks import adder
from interpose.tasks.planted import ENCODINGS, OUTPUT, PROGRAMS, Truth, addition, planted, suite
from interpose.tasks.planted.instance import from_plan
from interpose.tasks.planted.measure import layer_keys
from interpose.tasks.planted.partitions import kernel, rand_index, refines
from interpose.tasks.planted.plan import Group


def of(key, function):
    """The kernel of a function of the inputs."""
    return kernel(function(**setting) for setting in key.settings)


def cells(key, layer):
    """Of one layer: the variable of every cell, and its sites."""
    return {cell.variable: set(cell.sites) for cell in key.layer(layer).cells}


def site(*names):
    return frozenset(names)


# -- a second opinion ----------------------------------------------------------------------------------


def classes_by_running(network, settings, names, tol):
    """The classes of a group of neurons of one layer, from one run of the network for every source and all bases."""
    layer, units = names[0].split("[")[0], tuple(int(name.split("[")[1][:-1]) for name in names)
    place = network.site(layer, units=units)
    held = network.run(settings, read=[place])[place]
    rows = []
    for value in held:
        out = network.run(settings, write={place: ip.Set(value.expand(len(settings), -1))}).output
        rows.append(out.reshape(-1))
    near = (torch.stack(rows)[:, None] - torch.stack(rows)[None]).abs().amax(-1) <= tol
    return kernel(int(row.int().argmax()) for row in near)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_kernels_agree_with_runs_of_the_network(encoding):
    for program in ("|A-B| looked up", "xor by gates", "two of three copies", "max + min", "A+B as a class"):
        instance = planted(program, encoding, 11)
        key = instance.key
        groups = [[name] for layer in key.layers for name in sorted(layer.live | layer.inert.keys())]
        groups += [list(key.truth.in_order(cell.sites)) for cell in key.cells if len(cell.sites) > 1]
        for names in groups:
            expected = classes_by_running(instance.network, instance.settings, names, key.truth.resolution)
            assert key.truth.seen(frozenset(names)) == expected, (program, names)


@pytest.mark.parametrize("encoding", ["dead", "copies", "cancelling", "backup"])
def test_edges_agree_with_runs_of_the_network(encoding):
    """A group feeds another if patching it changes the row that the other's value gives, put into every base."""
    instance = planted("majority as a carry", encoding, 5)
    key, net, settings = instance.key, instance.network, instance.settings
    groups = [group for level in key.groups[1:] for group in level]

    def place(group):
        layer = next(iter(group)).split("[")[0]
        return net.site(layer, units=tuple(int(s.split("[")[1][:-1]) for s in key.truth.in_order(group)))

    for parent, child in itertools.product(groups, groups):
        if key.truth.find(child)[0] != key.truth.find(parent)[0] + 1:
            continue
        up, down = place(parent), place(child)
        natural = net.run(settings, read=[down])[down]
        changed = False
        for value in net.run(settings, read=[up])[up]:
            patched = net.run(settings, read=[down], write={up: ip.Set(value.expand(len(settings), -1))})[down]
            for before, after in zip(natural, patched, strict=True):
                rows = [
                    net.run(settings, write={down: ip.Set(one.expand(len(settings), -1))}).output
                    for one in (before, after)
                ]
                changed = changed or bool((rows[0] - rows[1]).abs().max() > key.tol)
        assert changed == ((parent, child) in key.edges), (parent, child)


# -- the adder -----------------------------------------------------------------------------------------

DIGITS = [dict(zip("ABC", values, strict=True)) for values in itertools.product(range(10), repeat=3)]


def test_the_tutorials_adder_has_the_key_of_the_tutorial():
    inputs = np.array([[one[name] for name in "ABC"] for one in DIGITS], float)
    truth = Truth(adder.Adder(), adder.INPUTS, inputs, tol=1e-3, grain=1e-4, coarse=1e-3)
    each = tuple(tuple(Group(f"unit {unit}", (unit,)) for unit in range(3)) for _ in range(2))
    (first, second), doubts = layer_keys(truth, each, {})
    assert not doubts and not first.distributed
    found = {cell.sites: cell.classes for cell in (*first.cells, *second.cells)}
    assert found == {
        site("l1[1]"): kernel(one["A"] for one in DIGITS),
        site("l1[2]"): kernel(one["B"] + one["C"] for one in DIGITS),
        site("l2[1]"): kernel(sum(one.values()) for one in DIGITS),
    }
    inert = {name: (one.why, one.responds) for layer in (first, second) for name, one in layer.inert.items()}
    assert inert == {"l1[0]": ("zero path", True), "l2[0]": ("unread", True), "l2[2]": ("constant", False)}
    fed = {child: {parent for parent in found if truth.find(parent)[0] == truth.find(child)[0] - 1
                   and truth.feeds(parent, child)} for child in (site("l2[1]"), OUTPUT)}  # fmt: skip
    assert fed == {site("l2[1]"): {site("l1[1]"), site("l1[2]")}, OUTPUT: {site("l2[1]")}}


def test_the_planted_adder_has_the_same_key():
    instance = planted(addition("B", "C", "A", digits=10), "dead", 1)
    key = instance.key
    assert key.settings == tuple(DIGITS) and key.verdicts == ("exact", "verified") and not key.ambiguous
    one, two = (key.layer(name) for name in ("l1", "l2"))
    assert {cell.variable: len(set(cell.classes)) for cell in one.cells} == {"A": 10, "B+C": 19}
    assert {cell.variable: len(set(cell.classes)) for cell in two.cells} == {"A+B+C": 28}
    (a,), (pair,) = ([cell.sites for cell in one.cells if cell.variable == name] for name in ("A", "B+C"))
    (whole,) = (cell.sites for cell in two.cells)
    assert key.parents(whole) == sorted([a, pair], key=key.truth.in_order) and key.parents(OUTPUT) == [whole]
    table = key.child_table(whole)
    order = key.parents(whole)
    for combination, made in table.items():
        by = dict(zip(order, combination, strict=True))
        assert made == by[a] + by[pair]  # classes are numbered from the least value up
    assert len(key.inert) >= 2 and all(len(cell.minimal) == 1 for cell in key.cells)


# -- constructions whose keys are known ------------------------------------------------------------------


def test_gates_are_live_and_hold_what_is_read():
    either = planted("or by gates", "permuted", 1).key
    assert {cell.variable: cell.classes for cell in either.layer("l1").cells} == {
        "A+B": of(either, lambda A, B: A + B),
        "A and B": of(either, lambda A, B: A and B),
    }
    neither = planted("or by neither", "permuted", 1).key
    assert [cell.classes for cell in neither.cells] == [of(neither, lambda A, B: A or B)]
    both = planted("and", "permuted", 1).key
    assert [cell.classes for cell in both.cells] == [of(both, lambda A, B: A and B)]
    xor = planted("xor by differences", "permuted", 1).key
    assert {cell.classes for cell in xor.cells} == {of(xor, lambda A, B: A > B), of(xor, lambda A, B: B > A)}
    assert len(xor.layer("l1").live) == 2 and not xor.inert


def test_what_is_stored_counts_only_as_far_as_it_is_read():
    """The sum is stored, and only its excess, its parity or its remainder is read: that is what the site holds."""
    key = planted("excess of the sum", "affine", 2).key
    assert [cell.classes for cell in key.layer("l1").cells] == [of(key, lambda A, B, C: max(A + B + C, 3))]
    key = planted("parity by count", "affine", 2).key
    (cell,) = key.layer("l1").cells
    assert cell.classes == of(key, lambda A, B, C: (A + B + C) % 2) and not cell.whole
    for seed in range(5):
        key = planted("A+(B+C)", "finer", seed).key
        stored = next(cell for cell in key.cells if cell.variable.startswith("4("))
        values = key.truth.values(stored.sites)
        assert len(np.unique(values.round(6), axis=0)) > len(set(stored.classes))
        assert stored.classes in (
            of(key, lambda A, B, C: A),
            of(key, lambda A, B, C: B + C),
            of(key, lambda A, B, C: A + B + C),
        )


def test_copies_are_one_variable_on_the_group_and_no_copy_alone_carries_it():
    key = planted("A+(B+C)", "copies", 3).key
    for cell in key.cells:
        assert cell.whole and len(cell.sites) in (2, 3) and cell.minimal == (cell.sites,)
        for one in cell.sites:
            assert key.truth.kernel(site(one)) == cell.classes
            assert key.truth.differ(site(one), cell.sites) > 0.1
    assert not key.inert


def test_an_unread_copy_is_inert_though_it_holds_the_variable():
    key = planted("A+(B+C)", "unread copy", 3).key
    assert [len(layer.inert) for layer in key.layers] == [2, 1]
    assert all(inert.why == "unread" and inert.responds for inert in key.inert.values())


def test_a_backup_is_found_with_what_it_backs_up():
    for seed in range(5):
        key = planted("A+B", "backup", seed).key
        (pair,) = key.layer("l1").cells
        assert len(pair.sites) == 2 and pair.minimal == (pair.sites,) and pair.classes == of(key, lambda A, B: A + B)
        for one in pair.sites:  # each alone acts upwards only
            out = key.truth.output[:, 0]
            assert np.abs(key.truth.table(site(one)).full()[..., 0] - np.maximum(out[:, None], out)).max() < 1e-9
        assert [inert.why for inert in key.layer("l2").inert.values()] == ["constant"]


def test_three_copies_that_vote_are_silent_alone_and_any_two_suffice():
    key = planted("two of three copies", "permuted", 2).key
    cell = next(cell for cell in key.layer("l1").cells if cell.variable == "A")
    assert all(key.truth.effect(site(one)) < key.tol for one in cell.sites)
    assert set(cell.minimal) == {frozenset(two) for two in itertools.combinations(cell.sites, 2)}
    assert cell.sites <= key.live and not cell.sites & key.inert.keys()


def test_cancelling_readers_are_live_though_nothing_comes_of_them_together():
    hidden = 0
    for seed in range(12):
        key = planted("sum in a chain", "cancelling", seed).key
        (cell,) = [cell for cell in key.cells if "cancelled" in cell.variable and len(cell.sites) == 2]
        assert len(set(cell.classes)) == 1 and cell.sites <= key.live and not cell.whole
        assert all(key.truth.effect(site(one)) > 0.5 for one in cell.sites)
        hidden += len(key.cancelling)
    assert hidden  # a unit below both, whose effects cancel
    key = planted("max + min", "affine", 0).key
    assert len(key.cancelling) == 1  # max(A-B,0) is added to one and taken from the other
    first, *others = PROGRAMS["max + min"].levels
    key = planted(replace(PROGRAMS["max + min"], levels=(first, (), *others)), "affine", 0).key
    assert {one.split("[")[0] for one in key.cancelling} == {"l1", "l2"}  # the same, carried along


@pytest.mark.parametrize("encoding", ["pairs", "thermometer", "piecewise"])
def test_a_code_over_several_units_is_one_variable(encoding):
    key = planted("A+(B+C)", encoding, 4).key
    assert {cell.variable: len(set(cell.classes)) for cell in key.cells} == {"A": 4, "B+C": 7, "A+B+C": 10}
    assert all(cell.whole and len(cell.sites) >= 2 for cell in key.cells)
    assert any(not refines(key.truth.kernel(site(one)), cell.classes) for cell in key.cells for one in cell.sites)


def test_a_rotated_layer_has_no_cells_and_needs_all_its_live_sites():
    for seed in range(6):
        key = planted("sum of pairs", "rotated", seed).key
        (layer,) = [layer for layer in key.layers if layer.distributed]
        assert not layer.cells and len(layer.live) >= 2 and key.verdicts == ("partial",) and not key.ambiguous
        assert key.truth.short_of_swap(layer.live) < key.tol
        for n in range(1, len(layer.live)):
            for some in itertools.combinations(sorted(layer.live), n):
                assert key.truth.short_of_swap(frozenset(some)) > key.tol


def test_noise_below_the_tolerance_leaves_the_key_and_noise_above_it_makes_it_approximate():
    for seed in range(3):
        below, above = (planted("A+(B+C)", f"noise {side}", seed).key for side in ("below", "above"))
        assert below.verdicts == ("exact", "verified") and above.verdicts == ("approximate",)
        assert 0 < below.error < below.tol < above.error
        for key in (below, above):
            assert {cell.variable: len(set(cell.classes)) for cell in key.cells} == {"A": 4, "B+C": 7, "A+B+C": 10}
            assert "zero path" not in {inert.why for inert in key.inert.values()}
        assert any(above.truth.graded(cell.sites, above.truth.resolution)[1] > above.tol for cell in above.cells)


def test_dead_neurons_of_every_kind_are_inert_with_their_reason():
    found = set()
    for program, seed in itertools.product(("sum in a chain", "max - min"), range(6)):
        key = planted(program, "dead", seed).key
        found |= {(inert.why, inert.responds) for inert in key.inert.values() if inert.why != "cancels downstream"}
        for name, inert in key.inert.items():
            assert key.truth.effect(site(name)) <= key.tol
            assert (inert.why in ("unread", "zero path")) == (not key.truth.has_path(name) and inert.responds)
    assert found == {("constant", False), ("unread", True), ("zero path", True), ("no effect", True)}


def test_what_is_carried_along_is_a_chain():
    key = planted("sum in a chain", "affine", 1).key
    chains = [[next(iter(group)).split("[")[0] for group in chain] for chain in key.chains]
    assert ["C", "l1"] in chains and ["D", "l1", "l2"] in chains


def test_writing_what_the_key_says_acts_as_a_source_would():
    for encoding in ("affine", "pairs", "copies"):
        instance = planted("A+(B+C)", encoding, 6)
        cell = next(cell for cell in instance.key.cells if cell.variable == "B+C")
        names = instance.key.truth.in_order(cell.sites)
        written = dict(zip(names, cell.encoder[5], strict=True))  # B + C = 5
        assert instance.network.run({"A": 2, "B": 0, "C": 1}, write=written).output.item() == pytest.approx(7)
    cell = planted("A+(B+C)", "affine", 6).key.cells[0]
    assert cell.margin > 0


# -- what may not matter -------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["dead", "copies", "mixed", "rotated"])
def test_other_places_for_neurons_and_inputs_only_rename_the_key(encoding):
    instance = planted("max - min", encoding, 3)
    plan, key, rng = instance.plan, instance.key, np.random.default_rng(0)
    sizes = [len(plan.inputs), *(len(layer.bias) for layer in plan.layers[:-1])]
    orders = [rng.permutation(size).tolist() for size in sizes]
    moved = from_plan(plan.permuted(orders), instance.program, instance.encoding, 3, torch.float64).key
    names = {
        f"l{level}[{old}]": f"l{level}[{new}]"
        for level, order in enumerate(orders[1:], 1)
        for new, old in enumerate(order)
    }
    names |= {name: name for name in (*plan.inputs, "output")}

    def renamed(sites):
        return frozenset(names[one] for one in sites)

    assert {renamed(cell.sites): (cell.classes, cell.whole) for cell in key.cells} == {
        cell.sites: (cell.classes, cell.whole) for cell in moved.cells
    }
    assert {names[one]: inert for one, inert in key.inert.items()} == moved.inert
    assert {(renamed(parent), renamed(child)) for parent, child in key.edges} == moved.edges
    assert key.verdicts == moved.verdicts and renamed(key.live) == moved.live


def test_other_constants_and_codes_hold_the_same_variables():
    for program in ("A+(B+C)", "max(max(A,B),C)", "product by squares", "majority by pairs"):
        found = {
            frozenset((cell.variable, cell.classes) for cell in planted(program, encoding, seed).key.cells)
            for encoding in ("plain", "affine", "permuted", "padded", "dead", "copies", "unread copy")
            for seed in range(3)
        }
        assert len(found) == 1, program


def test_ambiguous_keys_are_rare():
    keys = [instance.key for instance in suite(range(40, 41), controls=False)]
    share = sum(bool(key.ambiguous) for key in keys) / len(keys)
    assert share <= 0.01 and not any(key.ambiguous for key in keys if key.encoding not in ("mixed", "cancelling"))
    assert {key.program for key in keys} == set(PROGRAMS)


def test_partitions():
    assert kernel("abca") == (0, 1, 2, 0)
    assert refines((0, 1, 2, 0), (0, 1, 1, 0)) and not refines((0, 1, 1, 0), (0, 1, 2, 0))
    assert rand_index((0, 0, 1, 1), (1, 1, 0, 0)) == 1 and abs(rand_index((0, 0, 1, 1), (0, 1, 0, 1)) + 0.5) < 1e-9
