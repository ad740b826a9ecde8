"""From a network to its algorithm: what DISCOVERY asks of it, on networks whose answer is known by construction."""

import numpy as np
import pytest
import torch
from torch import nn

import interpose as ip
from interpose import errors
from interpose.discovery.grammar import expressions, named, variable
from interpose.discovery.kernels import alike, common, count, kernel, rand_index, refines, violations
from interpose.tasks import adder
from interpose.tasks.planted import answer_of, control, planted, score

DIGITS = {name: range(10) for name in "ABC"}


@pytest.fixture(scope="module")
def found():
    return ip.discover(adder.network(), DIGITS)


# -- the adder, line by line -------------------------------------------------------------------------------


def test_the_adders_algorithm_is_found_exactly(found):
    assert found.verdict == "exact" and found.domain.exhaustive and len(found.domain) == 1000
    assert found.variables == ("A", "B+C", "A+B+C")
    assert {name: [str(site) for site in places] for name, places in found.alignment.items()} == {
        "A": ["h12"],
        "B+C": ["h13"],
        "A+B+C": ["h22"],
    }
    assert {name: set(wire.parents) for name, wire in found.wires.items()} == {
        "B+C": {"B", "C"},
        "A+B+C": {"A", "B+C"},
        "Y": {"A+B+C"},
    }
    assert {str(site): why.grade for site, why in found.inert.items()} == {
        "h11": "certified",
        "h21": "certified",
        "h23": "constant",
    }
    assert all(check.holds for check in found.checks) and found.failures() == []


@pytest.mark.parametrize(
    ("place", "name", "slope", "intercept"),
    [("h12", "A", 4, 4.1), ("h13", "B+C", 2, 2.3), ("h22", "A+B+C", 0.5, 0.705)],
)
def test_rules_say_how_a_variable_is_written_as_seen_and_as_acted_upon(found, place, name, slope, intercept):
    rule = found.decode(place)
    assert rule.name == name and rule.exact
    assert (rule.slope, rule.intercept) == pytest.approx((slope, intercept), abs=1e-4)
    assert rule.acted == pytest.approx((slope, intercept), abs=1e-3)


def test_the_network_is_acted_upon_through_its_variables(found):
    acting = found.do(A=2)
    assert float(acting.run([1, 2, 3]).output) == pytest.approx(7, abs=1e-4)
    (value,) = acting.write.values()
    assert float(value) == pytest.approx(12.1, abs=1e-5)
    assert float(found.do(**{"B+C": 9}).run([1, 2, 3]).output) == pytest.approx(10, abs=1e-4)
    with pytest.raises(errors.UnknownPlace, match="No variable 'D' was found"):
        found.do(D=1)
    with pytest.raises(errors.UnknownPlace, match="h11 holds no variable that was found: certified"):
        found.decode("h11")


def test_the_model_that_was_found_runs_and_is_the_hypothesis(found):
    assert found.model.run({"A": 4, "B": 2, "C": 3}).output == 9
    truth = adder.hypothesis()
    inputs = truth.sample(200, seed=3)
    assert list(found.model.run(inputs).output) == list(truth.run(inputs).output)
    assert ip.interchange_accuracy(adder.network(), found.alignment, n=200).score == 1.0
    assert found.model.run({"A": 1, "B": 2, "C": 3}, write={"B+C": 9}).output == 10


def test_it_is_told_in_a_table_in_sentences_and_in_a_picture(found):
    said = found.explain()
    assert said.startswith("On all 1,000 inputs, Adder implements this algorithm, exactly")
    assert "h13 holds B+C" in said and "A+B+C, computed as A+(B+C)" in said and "renaming" in said
    assert any(row[1] == "h13" and row[2] == "B+C" for row in found.table().rows)
    assert "B+C" in found.draw().svg()


# -- names ------------------------------------------------------------------------------------------------


def test_a_name_is_neither_too_coarse_nor_too_fine():
    a, b = (np.array(column) for column in zip(*[(i, j) for i in range(5) for j in range(5)], strict=True))
    atoms = [variable("A", a), variable("B", b)]
    assert named(kernel(a + b), expressions(atoms)).best.text == "A+B"
    assert named(kernel(np.maximum(a, b)), expressions(atoms)).best.text == "max(A, B)"
    assert named(kernel(abs(a - b)), expressions(atoms)).best.text == "|A-B|"
    assert (
        named(kernel((a + b) % 3), expressions(atoms)).best.text == "A+B mod 3"
        or "mod 3" in named(kernel((a + b) % 3), expressions(atoms)).best.text
    )
    assert not named(
        kernel(np.random.default_rng(0).permutation(25)[a * 5 + b] % 4), expressions(atoms), most=3000
    ).exact
    assert violations(kernel(a), kernel(a + b))[0] > 0 and violations(kernel(a * 5 + b), kernel(a + b))[0] is None
    assert violations(kernel(a * 5 + b), kernel(a + b))[1] > 0 and violations(kernel(a + b), kernel(a + b)) == (0, 0)


def test_kernels_are_partitions():
    rng = np.random.default_rng(1)
    for _ in range(20):
        one, other = rng.integers(4, size=30), rng.integers(3, size=30)
        both = common([kernel(one), kernel(other)], 30)
        assert refines(both, kernel(one)) and refines(both, kernel(other))
        assert count(both) == len(set(zip(one.tolist(), other.tolist(), strict=True)))
        assert np.array_equal(kernel(one), kernel((one * 7 + 3) % 29)) and rand_index(both, both) == 1
        assert refines(kernel(one), kernel(other)) == all(
            len(set(other[one == v].tolist())) == 1 for v in set(one.tolist())
        )
    assert alike(np.array([[0.0], [1e-4], [1.0], [1.0 + 1e-4]]), 1e-3).tolist() == [0, 0, 1, 1]


# -- planted networks -------------------------------------------------------------------------------------


SOME = [
    ("A+(B+C)", "permuted"),
    ("C+(A+B)", "dead"),
    ("max + min", "affine"),
    ("two of three copies", "affine"),
    ("majority by count", "affine"),
    ("xor by gates", "copies"),
    ("|A-B| in two parts", "pairs"),
    ("|A-B| looked up", "backup"),
    ("or by gates", "finer"),
    ("parity by gates", "noise below"),
    ("max(max(A,B),C)", "thermometer"),
]


@pytest.mark.parametrize(("program", "encoding"), SOME)
def test_what_was_planted_is_found(program, encoding):
    puzzle = planted(program, encoding, seed=1)
    found = ip.discover(puzzle.network, puzzle.inputs, tol=puzzle.tol)
    result = score(answer_of(found, puzzle), puzzle.key)
    assert result.recovered and not result.contradictions and not result.false_inert


@pytest.mark.parametrize(("kind", "shape"), [("random weights", "A+(B+C)"), ("all inputs apart", "max + min")])
def test_where_nothing_was_planted_nothing_is_claimed(kind, shape):
    puzzle = control(kind, shape, seed=1)
    found = ip.discover(puzzle.network, puzzle.inputs, tol=puzzle.tol)
    assert found.verdict in ("none", "partial") and not score(answer_of(found, puzzle), puzzle.key).contradictions
    assert "implements" not in found.explain()


@pytest.mark.parametrize("encoding", ["rotated", "noise above"])
def test_a_distributed_or_noisy_network_is_claimed_to_be_nothing_it_is_not(encoding):
    puzzle = planted("A+(B+C)", encoding, seed=2)
    found = ip.discover(puzzle.network, puzzle.inputs, tol=puzzle.tol)
    assert not score(answer_of(found, puzzle), puzzle.key).contradictions


def test_a_model_of_another_network_fails_the_test(found):
    """The same hypothesis, frozen, on a network of which one weight was changed."""
    net = adder.network()
    with torch.no_grad():
        net.module.l2.weight[1, 2] *= 1.5
    accuracy = ip.interchange_accuracy(net, found.alignment, n=100)
    assert accuracy.score < 0.6 and accuracy.failures()


def test_the_order_of_neurons_and_of_values_changes_nothing():
    net = adder.network()
    shuffled = adder.network().module
    with torch.no_grad():
        order = torch.tensor([2, 0, 1])
        shuffled.l1.weight[:], shuffled.l1.bias[:] = net.module.l1.weight[order], net.module.l1.bias[order]
        shuffled.l2.weight[:] = net.module.l2.weight[:, order]
    found = ip.discover(ip.Network(shuffled, inputs=tuple("ABC")), {name: [3, 1, 0, 2] for name in "ABC"})
    assert found.verdict == "exact" and found.variables == ("B+C", "A", "A+B+C")


# -- what may go wrong --------------------------------------------------------------------------------------


def test_a_sample_is_verified_and_not_exact():
    found = ip.discover(adder.network(), {name: range(40) for name in "ABC"}, budget=400_000, seed=1)
    assert found.verdict == "verified" and not found.domain.exhaustive
    assert "Only a sample of inputs was looked at" in found.explain()


def test_wrong_inputs_are_refused_before_anything_runs():
    net = adder.network()
    with pytest.raises(errors.WrongInput, match="The network has the inputs A, B, C"):
        ip.discover(net, {"A": range(3), "B": range(3)})
    with pytest.raises(errors.WrongInput, match="inputs says which values"):
        ip.discover(net, [1, 2, 3])
    with pytest.raises(errors.WrongInput, match="The values of A should be numbers"):
        ip.discover(net, {"A": ["x"], "B": range(3), "C": range(3)})
    with pytest.raises(errors.WrongInput, match="is no network"):
        ip.discover(3, DIGITS)


def test_any_module_of_a_few_numbers_will_do():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        module[0].weight[:], module[0].bias[:] = torch.tensor([[1.0, 1], [1, 1], [0, 0]]), torch.tensor([0.0, -1, 0])
        module[2].weight[:], module[2].bias[:] = torch.tensor([[1.0, -2, 0]]), torch.tensor([0.0])
    found = ip.discover(module, {"A": (0, 1), "B": (0, 1)})
    assert found.verdict == "exact" and found.model.run({"A": 1, "B": 1}).output == 0


# -- what holds at a larger tolerance ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "seed"), [("A+(B+C)", 2), ("C+(A+B)", 1), ("max(max(A,B),C)", 2), ("or by gates", 1)]
)
def test_noise_above_the_tolerance_leaves_an_approximate_algorithm_and_says_how_near(program, seed):
    puzzle = planted(program, "noise above", seed)
    found = ip.discover(puzzle.network, puzzle.inputs, tol=puzzle.tol)
    assert found.verdict == "approximate" and score(answer_of(found, puzzle), puzzle.key).recovered
    assert found.asked == pytest.approx(puzzle.tol) and found.tol > found.asked
    assert [one.tol for one in found.curve] == sorted(one.tol for one in found.curve)
    assert found.curve[0].verdict not in ("exact", "verified") and found.curve[-1].worst < found.tol
    said = found.explain()
    assert "comes near this algorithm" in said and "implements" not in said and f"{found.tol:.2g}" in said


def test_what_has_an_effect_below_a_larger_tolerance_is_not_called_without_effect():
    puzzle = planted("A+(B+C)", "noise above", 2)
    found = ip.discover(puzzle.network, puzzle.inputs, tol=puzzle.tol)
    grades = {str(site): why.grade for site, why in found.inert.items()}
    assert "small effect" in grades.values()
    base = puzzle.network.run(found.domain.settings)
    for site, why in found.inert.items():
        changed = [
            float(
                (
                    puzzle.network.run(found.domain.settings, write={site: ip.Set(value, broadcast=True)}).output
                    - base.output
                )
                .abs()
                .max()
            )
            for value in puzzle.network.run(found.domain.settings, read=[site])[site]
        ]
        assert (max(changed) <= found.asked) == (why.grade == "no effect")


class Slope(nn.Module):
    """An output that rises in steps too small to tell apart, and far in all."""

    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(2, 2)
        self.l2 = nn.Linear(2, 1)
        with torch.no_grad():
            self.l1.weight.copy_(torch.eye(2))
            self.l2.weight.copy_(torch.tensor([[1.0, 1e-3]]))
            self.l1.bias.zero_()
            self.l2.bias.zero_()

    def forward(self, x):
        return self.l2(self.l1(x.float())).squeeze(-1)


def test_effects_that_add_up_from_steps_below_the_tolerance_are_not_inert():
    """Neighbouring rows of l1[1] are within 0.002 of each other, and the first and the last 0.02 apart."""
    network = ip.Network(Slope(), inputs=("A", "B"))
    found = ip.discover(network, {"A": range(3), "B": range(21)}, tol=2e-3)
    assert found.verdict != "exact" and "l1[1]" not in {
        str(site) for site, why in found.inert.items() if why.grade == "no effect"
    }


def test_no_tolerance_makes_an_algorithm_of_a_network_without_one():
    puzzle = control("all inputs apart", "max + min", 3)
    found = ip.discover(puzzle.network, puzzle.inputs, tol=puzzle.tol)
    assert found.verdict in ("partial", "none") and len(found.curve) > 3
    assert "comes near" not in found.explain()


def test_a_place_that_tells_all_inputs_apart_is_no_explanation_though_it_has_a_name():
    """On four inputs A+2*B is a name of whatever tells them apart, as noise does."""
    puzzle = planted("xor by differences", "noise above", 200)
    found = ip.discover(puzzle.network, puzzle.inputs, tol=puzzle.tol)
    assert any(node.held.all_apart for node in found.nodes) or found.verdict == "approximate"
    assert (
        found.verdict in ("partial", "approximate") and not score(answer_of(found, puzzle), puzzle.key).contradictions
    )
