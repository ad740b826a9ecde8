"""Networks with a planted algorithm: each computes its function exactly, and is the same everywhere."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
import torch

import interpose as ip
from interpose import errors
from interpose.tasks.planted import (
    CONTROLS,
    ENCODINGS,
    PROGRAMS,
    Encoding,
    Program,
    addition,
    control,
    planted,
    positive,
    step,
    suite,
)
from interpose.tasks.planted.codes import affine, pair, piecewise, plain, readout, thermometer
from interpose.tasks.planted.rewrites import cancelling, finer, longer, with_backup

NOISY = ("noise below", "noise above")


def outputs(instance):
    """What the network gives for every setting, and what the program does."""
    given = instance.network.run(instance.settings).output.double().numpy()
    return given, np.array([instance.program.run(setting) for setting in instance.settings], float)


# -- programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_is_a_causal_model_whose_variables_are_its_steps(program):
    settings = program.settings()
    model = program.causal_model()
    assert settings == list(model.settings())
    assert list(model.run(settings).output) == [program.run(setting) for setting in settings]
    steps = {one.name for level in program.levels for one in level}
    assert set(model.variables) == {*program.inputs, *steps, "Y"}
    assert 1 <= program.depth <= 4 and 2 <= len(program.inputs) <= 5 and len(settings) <= 4000


def test_programs_of_one_function_agree_everywhere():
    """So that the outputs never tell which of them a network runs."""
    families = defaultdict(dict)
    for program in PROGRAMS.values():
        families[program.function][program.name] = tuple(map(program.run, program.settings()))
    assert all(len(set(family.values())) == 1 for family in families.values())
    assert sum(len(family) > 1 for family in families.values()) >= 12


def test_writing_down_what_is_carried_along_changes_nothing():
    for program in PROGRAMS.values():
        full = program.completed()
        assert [*map(full.run, full.settings())] == [*map(program.run, program.settings())]
        below = set(full.inputs)
        for level in (*full.levels, (full.output,)):
            assert all(set(one.reads) <= below for one in level)
            below = {one.name for one in level}


@pytest.mark.parametrize("rewrite", [longer, with_backup, finer, cancelling])
def test_a_rewritten_program_computes_the_same(rewrite):
    for seed, program in itertools.product(range(3), PROGRAMS.values()):
        other = rewrite(program, np.random.default_rng(seed))
        assert [*map(other.run, other.settings())] == [*map(program.run, program.settings())], program
        assert other.levels != program.completed().levels


def test_a_step_reads_what_is_computed_below_it():
    with pytest.raises(errors.UnknownPlace, match=r"Y reads 'A\+B', which no level below it computes. There are A, B."):
        Program("wrong", "A+B", {"A": range(2), "B": range(2)}, ((),), step("Y", ["A+B"]))
    with pytest.raises(errors.UnknownPlace, match="has no level, so that nothing could be stored"):
        Program("empty", "A+B", {"A": range(2), "B": range(2)}, (), step("Y", "AB"))


# -- codes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [plain, affine, pair, thermometer, piecewise])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 3), (0, 7), (2, 4)])
def test_a_code_tells_all_numbers_apart_and_can_be_read(code, low, high):
    rng = np.random.default_rng(7)
    units, grid = code(low, high, rng), np.arange(low, high + 1)
    offsets = [40.0 if unit.kink is None else -unit.slope * unit.kink for unit in units]
    stored = np.maximum(
        np.array([[unit.slope * v + c for unit, c in zip(units, offsets, strict=True)] for v in grid]), 0
    )
    assert len(np.unique(stored.round(9), axis=0)) == len(grid)
    weights, constant = readout(stored, grid.astype(float), [True] * len(units))
    assert np.abs(stored @ weights + constant - grid).max() < 1e-9 and weights.any()


# -- networks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_program_is_computed_exactly_in_every_encoding(encoding):
    """On every input, to 1e-9 in double precision and 1e-4 of the largest output in single."""
    for program, (seed, dtype, near) in itertools.product(
        PROGRAMS, [(0, torch.float64, 1e-9), (1, torch.float64, 1e-9), (2, torch.float32, 1e-4)]
    ):
        instance = planted(program, encoding, seed, dtype=dtype)
        given, wanted = outputs(instance)
        if instance.program.classes:
            assert given.shape == (len(wanted), instance.program.classes)
            assert (given.argmax(-1) == wanted).all(), program
        elif encoding in NOISY:
            off = np.abs(given - wanted).max() / instance.encoding.tol
            assert off < 0.1 if encoding == "noise below" else 12 < off < 16, (program, off)
        else:
            assert np.abs(given - wanted).max() <= near * max(1, np.abs(wanted).max()), program


def test_a_network_is_an_ordinary_module_of_named_layers():
    instance = planted("max(max(A,B),C)", "mixed", 3)
    module = instance.network.module
    assert {type(part) for part in module.children()} <= {torch.nn.Linear, torch.nn.ReLU}
    linear = [name for name, part in module.named_children() if isinstance(part, torch.nn.Linear)]
    assert linear == [f"l{n}" for n in range(1, len(linear) + 1)] == list(instance.network.layers())
    assert not any(parameter.requires_grad for parameter in module.parameters()) and not module.training
    assert set(instance.network.inputs) == {"A", "B", "C"} == set(instance.inputs)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float64}


def test_constants_are_drawn_anew_for_every_seed_and_inputs_change_places():
    weights = [planted("A+(B+C)", "permuted", seed).network.module.l1.weight for seed in range(20)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(weights, 2))
    orders = {planted("A+(B+C)", "permuted", seed).network.inputs for seed in range(20)}
    assert len(orders) >= 4
    assert planted("A+(B+C)", "affine", 0).network.inputs == ("A", "B", "C")


def test_an_encoding_of_ones_own_and_a_larger_domain():
    wide = Encoding("wide", codes=(pair, piecewise), copies=(2, 2), permuted=False)
    given, wanted = outputs(planted(addition("A", "C", "B", digits=10), wide, 5))
    assert len(wanted) == 1000 and np.abs(given - wanted).max() < 1e-9
    own = Program(
        "own", "A if A>B", {"A": range(3), "B": range(3)}, ((positive("gap", {"A": 1, "B": -1}),),), step("Y", ["gap"])
    )
    given, wanted = outputs(planted(own, "thermometer", 1))
    assert np.abs(given - wanted).max() < 1e-9


def test_wrong_names_and_precisions_are_refused():
    with pytest.raises(errors.UnknownPlace, match=r"There is no program 'majority'\. Did you mean 'majority by"):
        planted("majority")
    with pytest.raises(errors.UnknownPlace, match=r"There is no encoding 'rotate'\. Did you mean 'rotated'"):
        planted("and", "rotate")
    with pytest.raises(errors.OutsideDomain, match=r"dtype=torch.float16: a planted network is exact at torch.float64"):
        planted("and", dtype=torch.float16)
    with pytest.raises(errors.WrongInput, match="A suite needs at least one seed"):
        suite([])


# -- puzzles -------------------------------------------------------------------------------------------


def test_a_puzzle_does_not_give_its_answer_away():
    puzzle = planted("A+(B+C)", "dead", 3)
    text = repr(puzzle) + repr(puzzle.network) + repr(puzzle.key)
    assert "A in 0..3" in text and ".key.explain() tells" in text
    assert "B+C" not in text and "sum" not in text and "dead" not in text


def test_the_key_tells_the_answer_in_sentences():
    lines = planted("A+(B+C)", "unread copy", 3).key.explain().splitlines()
    assert lines[0] == "The network computes A+B+C, by the program 'A+(B+C)', encoded as 'unread copy'."
    assert sum("holds B+C (7 classes), computed from" in line for line in lines) == 1
    assert sum("is inert: it responds to the inputs, but nothing reads it." in line for line in lines) == 3
    assert lines[-1] == "The right verdict is 'exact'."
    assert control("memory", "max + min").key.explain().startswith("Nothing was planted here (memory)")
    rotated = planted("A+(B+C)", "rotated", 3).key.explain()
    assert "is distributed: no neuron holds a variable" in rotated and "The right verdict is 'partial'." in rotated


# -- instances -----------------------------------------------------------------------------------------


def fingerprint(instance):
    content = [instance.network.inputs, *(p.numpy().tobytes() for p in instance.network.module.parameters())]
    return hashlib.sha256(repr(content).encode()).hexdigest(), instance.key.hash


def test_the_same_words_give_the_same_network_and_key_in_every_process():
    program = (
        "from tests.test_planted import fingerprint; from interpose.tasks.planted import planted, control;"
        "print(fingerprint(planted('product by squares', 'mixed', 4)), fingerprint(control('memory', 'max + min', 4)))"
    )
    here = f"{fingerprint(planted('product by squares', 'mixed', 4))} {fingerprint(control('memory', 'max + min', 4))}"
    elsewhere = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=elsewhere, check=False)
    assert out.stdout.strip() == here, out.stderr


def test_a_suite_spans_everything_and_disjoint_seeds_give_other_networks():
    first, second = list(suite(range(7, 8))), list(suite(range(8, 9), programs=["and", "A+B", "max - min"]))
    assert len(first) == 735 and len(second) == 3 * 17 + 21
    assert len({(one.program.name, one.encoding.name) for one in first}) == 735
    drawn = {name for name, encoding in ENCODINGS.items() if encoding.drawn}
    assert {one.encoding.name for one in first} == drawn | {f"control: {kind}" for kind in CONTROLS}
    assert set(PROGRAMS) <= {one.program.name for one in first}
    ours = {(one.program.name, one.encoding.name): one for one in first}
    for theirs in second:
        same = ours[theirs.program.name, theirs.encoding.name]
        weights = ([p.numpy() for p in one.network.module.parameters()] for one in (same, theirs))
        assert any(x.shape != y.shape or (x != y).any() for x, y in zip(*weights, strict=False))
    some = list(suite([1, 2], programs=["and"], encodings=["plain", "dead"], controls=False))
    assert [(one.program.name, one.encoding.name, one.seed) for one in some] == [
        ("and", "plain", 1),
        ("and", "dead", 1),
        ("and", "plain", 2),
        ("and", "dead", 2),
    ]


def test_making_a_network_runs_nothing_and_a_key_takes_few_rows():
    instance = planted("sum in a chain", "mixed", 2)
    assert "key" not in vars(instance)
    assert 0 < instance.key.truth.rows_run < 500_000 and "key" in vars(instance)


@pytest.mark.parametrize("kind", CONTROLS)
def test_controls_hold_nothing(kind):
    instance = control(kind, "A+(B+C)", 3)
    key = instance.key
    assert key.control and key.verdicts == ("none", "partial") and len(key.settings) == 64
    assert isinstance(instance.network, ip.Network)
    if kind == "all inputs apart":
        assert {len(set(cell.classes)) for cell in key.cells} == {64} and len(key.inert) == len(key.layers)
    if kind == "memory":
        given, wanted = outputs(instance)
        assert np.abs(given - wanted).max() < 1e-6 and len(key.layers) == 1
