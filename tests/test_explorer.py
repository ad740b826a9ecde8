"""Figures to try out: what the page is given computes what the model computes."""

import itertools
import json

import pytest
import torch
from torch import nn

import interpose as ip
from interpose import errors
from interpose.reports.abstraction import abstraction
from interpose.reports.explorer import explorer
from interpose.reports.mechanisms import MOST_ENTRIES, levels_and_tables, weights
from interpose.tasks import adder

from known import OR, Residual, backup, mlp, numbers, opposed, seeded

BASE = [1, 2, 3]


def relu_mlp():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), nn.LeakyReLU(0.2), nn.Linear(3, 2))


def skipping():
    """Layers that read the input beside other layers, in an order of their own."""

    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.out = nn.Linear(3, 2), nn.Linear(5, 2), nn.Linear(2, 1, bias=False)

        def forward(self, x):
            hidden = torch.cat([torch.sigmoid(self.first(x)), x], -1)
            return torch.relu(self.out(nn.functional.silu(self.second(hidden)))).squeeze(-1)

    return Skipping()


def summed(data, given):
    """The values of every node of a network, as the page computes them, in plain Python."""
    through = {
        "": lambda v: v,
        "tanh": lambda v: torch.tanh(torch.tensor(v, dtype=torch.float64)).item(),
        "sigmoid": lambda v: torch.sigmoid(torch.tensor(v, dtype=torch.float64)).item(),
        "silu": lambda v: nn.functional.silu(torch.tensor(v, dtype=torch.float64)).item(),
    }
    nodes, values = data["graph"]["nodes"], dict(zip(data["graph"]["inputs"], given, strict=True))
    for k in data["order"]:
        if k not in values:
            unit = nodes[k]["sum"]
            values[k] = unit["bias"] + sum(
                (unit["above"] if values[p] > 0 else unit["below"])[i] * through[unit["through"][i]](values[p])
                for i, p in enumerate(nodes[k]["parents"])
            )
    return {nodes[k]["name"]: value for k, value in values.items()}


NETWORKS = {
    "adder": lambda: ip.Network(adder.Adder().double(), inputs="ABC", names=adder.NAMES),
    "relu": lambda: ip.Network(seeded(relu_mlp), inputs="ABC"),
    "tanh": lambda: ip.Network(seeded(lambda: mlp(3, 4, 3, 1)), inputs="ABC"),
    "skipping": lambda: ip.Network(seeded(skipping), inputs="ABC"),
    "residual": lambda: ip.Network(seeded(Residual), inputs="ABCD"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_computed_from_its_own_weights(name):
    net = NETWORKS[name]()
    rows = 5 * numbers(20, len(net.inputs))
    data = json.loads(json.dumps(explorer(net, rows[0].tolist()).data, allow_nan=False))
    assert data["numbers"] and data["precision"] == torch.finfo(torch.float64).eps
    graph = net.as_causal_model()
    for row in rows.tolist():
        expected = graph.run(dict(zip(net.inputs, row, strict=True))).values
        assert summed(data, row) == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_weights_are_the_modules_own_to_the_last_bit():
    module = adder.Adder()
    found = weights(ip.Network(module, inputs="ABC", names=adder.NAMES).as_causal_model())
    for layer, names in (("l1", ("h11", "h12", "h13")), ("l2", ("h21", "h22", "h23")), ("l3", ("Y",))):
        for unit, name in enumerate(names):
            own = module.get_submodule(layer)
            assert found[name]["above"] == found[name]["below"] == own.weight[unit].double().tolist()
            assert found[name]["bias"] == own.bias[unit].double().item()
    single = explorer(adder.network(), BASE).data
    assert single["precision"] == torch.finfo(torch.float32).eps


def test_what_is_no_sum_of_the_parents_is_not_read_as_one():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.out = nn.Linear(2, 2), nn.Linear(1, 1)

        def forward(self, x):
            return self.out(self.first(x).prod(-1, keepdim=True))

    net = ip.Network(seeded(Product), inputs="AB")
    with pytest.raises(errors.WrongInput) as error:
        explorer(net, [1, 2])
    assert str(error.value) == (
        "out[0] is computed otherwise than by a linear layer of units that pass through ReLU, tanh, sigmoid, silu or "
        "nothing, so that the page must hold tables. Say what values A takes: domains={'A': range(10)}."
    )
    bits = {"A": (0, 1), "B": (0, 1)}
    data = explorer(net, [1, 0], domains=bits).data
    assert not data["numbers"]
    assert looked_up(data) == {
        (a, b): pytest.approx(net.run([a, b]).output.item(), rel=1e-5) for a, b in itertools.product((0, 1), repeat=2)
    }


def looked_up(data):
    """The output of every setting by the tables, in plain Python: the slow and obvious way."""
    nodes, inputs = data["graph"]["nodes"], data["graph"]["inputs"]
    (output,) = data["graph"]["outputs"]
    text = lambda code: float(data["values"][code]["full"])
    found = {}
    for setting in itertools.product(*(nodes[k]["levels"] for k in inputs)):
        values = dict(zip(inputs, setting, strict=True))
        for k in data["order"]:
            if k not in values:
                entry = 0
                for parent in nodes[k]["parents"]:
                    levels = nodes[parent]["levels"]
                    entry = entry * len(levels) + levels.index(values[parent])
                values[k] = nodes[k]["levels"][nodes[k]["table"][entry]]
        found[tuple(text(code) for code in setting)] = text(values[output])
    return found


@pytest.mark.parametrize(
    "model", [adder.hypothesis(), OR, backup(), opposed()], ids=["adder", "or", "backup", "opposed"]
)
def test_tables_give_every_output_of_the_model(model):
    data = json.loads(json.dumps(explorer(model, next(model.settings())).data, allow_nan=False))
    assert looked_up(data) == {tuple(setting.values()): model.run(setting).output for setting in model.settings()}


def test_tables_hold_what_no_input_gives_but_an_intervention_does():
    model = backup()
    levels, tables = levels_and_tables(model, {})
    assert levels["Y"] == [0, 1] and tables["Y"] == [0, 1, 1, 1]  # a = 0, b = 1 needs an intervention


def test_equal_values_of_other_kinds_are_one_choice_where_they_are_inputs():
    data = explorer(adder.hypothesis(), {"A": 1.0, "B": True, "C": 3}).data
    assert all(len(node["levels"]) == 10 for node in data["graph"]["nodes"][:3])
    assert [data["values"][code]["full"] for code in data["panels"][0]] == ["1", "1", "3"]


def test_values_of_any_kind_are_shown_in_their_own_words():
    model = ip.CausalModel(
        word=ip.Variable(["yes", "no", None]),
        said=ip.Variable(lambda word: (word, True)),
        Y=ip.Variable(lambda said: said[0]),
    )
    data = explorer(model, {"word": "no"}).data
    assert [value["full"] for value in data["values"]] == [
        "yes", "no", "None", "('yes', True)", "('no', True)", "(None, True)",
    ]  # fmt: skip


def test_a_value_outside_its_domain_has_no_entry():
    model = ip.CausalModel(A=ip.Variable(range(4)), Y=ip.Variable(lambda A: A * A, domain=range(5)))
    levels, tables = levels_and_tables(model, {})
    assert levels["Y"] == [0, 1, 2, 3, 4] and tables["Y"] == [0, 1, 4, None]


def test_what_a_mechanism_refuses_has_no_entry():
    def known(A, B):
        if (A, B) == (1, 1):
            raise errors.OutsideDomain("never seen")
        return A + B

    model = ip.CausalModel(A=ip.Variable(range(2)), B=ip.Variable(range(2)), Y=ip.Variable(known))
    levels, tables = levels_and_tables(model, {})
    assert levels["Y"] == [0, 1] and tables["Y"] == [0, 1, 1, None]


def test_an_input_of_a_network_may_have_values_to_choose_from():
    data = explorer(adder.network(), BASE, {"A": [5, 2, 3]}, domains={"A": range(4)}).data
    assert [node.get("choices") for node in data["graph"]["nodes"][:2]] == [[0, 1, 2, 3, 5], None]


def test_the_figure_opens_as_the_still_picture_shows_it():
    net = adder.network()
    forced = explorer(net, BASE, write={"l2[2]": -100, "h12": ip.Add(4)})
    assert [(forced.data["graph"]["nodes"][w["node"]]["name"], w["value"]) for w in forced.data["writes"]] == [
        ("h23", -100.0),
        ("h12", pytest.approx(12.1)),
    ]
    assert forced.still == ip.draw(net, BASE, write={"l2[2]": -100, "h12": ip.Add(4)}).svg()
    taken = explorer(net, BASE, {"h12": [4, 2, 3], "h22": ([4, 2, 3], "h12"), "A": [5, 5, 5]})
    assert taken.data["panels"] == [[1, 2, 3], [4, 2, 3], [5, 5, 5]]
    assert taken.data["writes"] == [
        {"node": 4, "panel": 1, "from": 4},
        {"node": 7, "panel": 1, "from": 4},
        {"node": 0, "panel": 2, "from": 0},
    ]
    assert (
        taken.still
        == ip.draw_interchange(net, BASE, {"h12": [4, 2, 3], "h22": ([4, 2, 3], "h12"), "A": [5, 5, 5]}).svg()
    )
    assert (taken.kind, taken.needs) == ("explorer", ("graph",))


def test_the_graph_is_laid_out_as_it_is_drawn():
    data = explorer(adder.network(), BASE).data
    at = {node["name"]: (node["x"], node["y"]) for node in data["graph"]["nodes"]}
    assert at["A"] == (-1.25, 0) and at["h12"] == (0, 1.5) and at["Y"] == (0, 4.5)
    assert len(data["graph"]["edges"]) == 9 + 9 + 3


def many(values):
    """A model whose output is any of 99 values for every two inputs."""
    scrambled = lambda A, B: (A * 7919 + B * 104729) % 99
    return ip.CausalModel(A=ip.Variable(range(values)), B=ip.Variable(range(values)), Y=ip.Variable(scrambled))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: explorer(adder.network(), BASE, {"h12": BASE}, write={"h23": 0}),
            errors.WrongInput,
            "A figure opens with sources or with writes, not both: the other can be tried on the page.",
        ),
        (
            lambda: explorer(adder.network(), BASE, domains={"D": range(3)}),
            errors.UnknownPlace,
            "The graph has no input 'D'. There are A, B, C.",
        ),
        (
            lambda: explorer(many(200), {"A": 1, "B": 1}),
            errors.WrongInput,
            "The tables of this model need 40,000 entries up to Y, and a page holds 20,000: its variables have too "
            "many values to be tabulated. Give smaller domains.",
        ),
        (
            lambda: levels_and_tables(ip.CausalModel(A=ip.Variable(), Y=ip.Variable(lambda A: A)), {}),
            errors.NoDomain,
            "A has no values to choose from. Give it some: domains={'A': range(10)}.",
        ),
        (
            lambda: explorer(ip.CausalModel(A=ip.Variable(range(2)), Y=ip.Variable(lambda A: {A})), {"A": 1}),
            errors.WrongInput,
            "Y takes the value {0}, which is not hashable: use tuples, not lists.",
        ),
        (
            lambda: abstraction(adder.network()),
            errors.WrongInput,
            "Say which places hold which variables: abstraction(network, Alignment(model, {...})).",
        ),
    ],
)
def test_refusals_say_what_to_do(make, error, words):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value) == words


def test_an_error_of_a_mechanism_passes_through_with_what_it_was_asked():
    model = ip.CausalModel(A=ip.Variable(range(3)), Y=ip.Variable(lambda A: 6 // A))
    with pytest.raises(ZeroDivisionError) as raised:
        explorer(model, {"A": 1})
    assert raised.value.__notes__ == ["Y was asked for a table of all its values, of {'A': 0} among them."]


def test_the_limit_is_what_fits_a_page():
    assert MOST_ENTRIES == 20_000
    assert len(json.dumps(explorer(many(140), {"A": 1, "B": 1}).data)) < 200_000


# -- abstractions -----------------------------------------------------------------------------------


def test_every_variable_has_its_neurons_and_its_rule():
    data = abstraction(adder.network(), adder.alignment()).data
    low, high = ([node["name"] for node in data[side]["nodes"]] for side in ("low", "high"))
    assert [(high[c["variable"]], [low[k] for k in c["nodes"]], c["rule"]) for c in data["held"]] == [
        ("A", ["h12"], "h12 = 4 A + 4.1, exact"),
        ("B+C", ["h13"], "h13 = 2 (B+C) + 2.3, exact"),
        ("A+B+C", ["h22"], "h22 = 0.5 (A+B+C) + 0.705, exact"),
    ]


def test_a_wrong_claim_has_no_rule_that_fits():
    claim = ip.Alignment(adder.hypothesis(), {"A": "h11", "B+C": ["h21", "h23"]})
    rules = [held["rule"] for held in abstraction(adder.network(), claim).data["held"]]
    assert rules[0].startswith("h11 = 1.3 A") and "R squared 0.2" in rules[0]
    assert rules[1] == "h21 + h23 varies where B+C does not: no rule"


def test_what_is_written_in_several_neurons_is_told_by_its_values():
    claim = ip.Alignment(adder.hypothesis(), {"A": ["h12"], "B+C": ["h13", "h23"]})
    rules = [held["rule"] for held in abstraction(adder.network(), claim).data["held"]]
    assert rules[1] == "h13 + h23: one value for each of the 19 of B+C"


def test_what_was_discovered_brings_its_own_rules_and_says_what_is_inert():
    found = ip.discover(adder.network(), {name: range(4) for name in "ABC"})
    data = abstraction(found).data
    assert [held["rule"] for held in data["held"]] == [str(rule) for rule in found.rules.values()]
    low = [node["name"] for node in data["low"]["nodes"]]
    assert {low[note["node"]] for note in data["notes"]} == {"h11", "h21", "h23"}
    assert explorer(found, {"A": 1, "B": 2, "C": 3}).data["graph"]["outputs"]


def test_what_explains_nothing_has_no_figure():
    noise = ip.Network(seeded(lambda: mlp(2, 3, 1), seed=3), inputs="AB")
    found = ip.discover(noise, {"A": range(3), "B": range(3)})
    assert found.model is None
    with pytest.raises(errors.WrongInput) as raised:
        explorer(found, [0, 0])
    assert str(raised.value) == "No algorithm was found that explains the output (none), so there is none to explore."
    with pytest.raises(errors.WrongInput) as raised:
        abstraction(found)
    assert str(raised.value) == (
        "No algorithm was found that explains the output, so there is none to show beside the network."
    )
