"""Networks: any module, any input and output, read and written anywhere, and left as they were."""

import copy
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import interpose as ip
from interpose import errors
from interpose.tasks import adder

from known import Outcome, Twice, Wrapped, mlp, numbers, seeded


@pytest.fixture
def net():
    return adder.network()


# -- inputs of any form --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        [1, 2, 3],
        (1, 2, 3),
        torch.tensor([1.0, 2, 3]),
        torch.tensor([1, 2, 3]),
        {"A": 1, "B": 2, "C": 3},
        {"C": 3, "B": 2, "A": 1},
    ],
)
def test_named_inputs_come_in_any_form(net, inputs):
    assert net.run(inputs).output.item() == pytest.approx(6)


@pytest.mark.parametrize(
    "inputs",
    [
        [[1, 2, 3], [4, 5, 6]],
        torch.tensor([[1, 2, 3], [4, 5, 6]]),
        [{"A": 1, "B": 2, "C": 3}, {"A": 4, "B": 5, "C": 6}],
        {"A": [1, 4], "B": [2, 5], "C": torch.tensor([3, 6])},
    ],
)
def test_batches_of_named_inputs_come_in_any_form(net, inputs):
    assert net.run(inputs).output.tolist() == pytest.approx([6, 15])


def test_named_inputs_serve_modules_that_take_tensors_in_their_own_precision():
    net = ip.Network(seeded(lambda: mlp(3, 4, 1)), inputs=("A", "B", "C"))
    assert net.run([[1, 2, 3]], read=[":input"])[":input"].dtype == torch.float64


def test_a_module_that_takes_a_list_gets_the_list():
    run = ip.Network(adder.Adder()).run([1, 2, 3], read=["l1[1]"])
    assert run["l1[1]"].item() == pytest.approx(8.1)


@pytest.mark.parametrize(
    "inputs",
    [
        {"A": 0.1, "B": 1 / 3, "C": 1e-9},
        {"A": [0.1], "B": [1 / 3], "C": [1e-9]},
        [{"A": 0.1, "B": 1 / 3, "C": 1e-9}],
        [0.1, 1 / 3, 1e-9],
    ],
)
def test_named_inputs_keep_the_precision_of_the_numbers_they_are_given_as(inputs):
    """torch makes single precision of Python's floats; a network in double precision would get other numbers."""
    net = ip.Network(seeded(lambda: mlp(3, 4, 1)), inputs=("A", "B", "C"))
    assert net.run(inputs, read=[":input"])[":input"].reshape(-1).tolist() == [0.1, 1 / 3, 1e-9]


class Spoken(nn.Module):
    """Takes text, gives a number: how many letters it has, twice over."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(1, 1, bias=False)
        self.twice.load_state_dict({"weight": torch.tensor([[2.0]])})

    def forward(self, texts):
        many = [texts] if isinstance(texts, str) else texts
        return self.twice(torch.tensor([[float(len(text))] for text in many]))[:, 0]


def test_strings_pass_as_they_are():
    net = ip.Network(Spoken())
    assert net.run("abc").output.tolist() == [6]
    pairs = ip.Pairs(["abc", "abcd"], ["a", "abcdef"])
    found = ip.effects(net, pairs, ["twice", "twice:input[0]"], ip.value)
    assert found.nie.tolist() == [[-4, -4], [4, 4]]


class TwoArguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1, bias=False)
        self.linear.load_state_dict({"weight": torch.ones(1, 4)})

    def forward(self, left, right, scale=1.0):
        return self.linear(torch.cat([left, right], -1))[:, 0] * scale


def test_tuples_spread_over_the_arguments_that_are_needed_and_dicts_go_by_keyword():
    net = ip.Network(TwoArguments())
    left, right = torch.ones(3, 2), torch.ones(3, 2)
    assert net.run((left, right)).output.tolist() == [4, 4, 4]
    assert net.run({"left": left, "right": right, "scale": 2.0}).output.tolist() == [8, 8, 8]
    pairs = ip.Pairs((left, right), (left, 2 * right))
    assert ip.effects(net, pairs, ["linear"], ip.value).te.tolist() == [2, 2, 2]
    assert ip.effects(net, pairs[[0, 2]], ["linear"], ip.value).te.tolist() == [2, 2]


class OneDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, batch):
        return self.linear(batch["x"])[:, 0]


def test_a_dict_whose_keys_are_no_parameters_is_the_one_argument():
    net = ip.Network(OneDict())
    assert net.run({"x": torch.zeros(3, 2)}).output.shape == (3,)


# -- outputs of any form -------------------------------------------------------------------------------


class Pair(NamedTuple):
    hidden: torch.Tensor
    label: str


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = _Inner(), nn.Linear(3, 1)

    def forward(self, x):
        pair = self.inner(x)
        assert isinstance(pair, Pair) and pair.label == "kept"
        return self.out(pair.hidden)[:, 0]


class _Inner(nn.Module):
    def forward(self, x):
        return Pair(2 * x, "kept")


def test_a_written_structure_is_rebuilt_in_its_own_type():
    net = ip.Network(Named())
    assert net.run(torch.ones(2, 3), read=["inner"], write={"inner[1]": 7})["inner"].tolist() == [[2, 7, 2]] * 2


@pytest.mark.parametrize("form", ["tuple", "list", "dict", "dataclass"])
def test_the_output_is_the_modules_own(form):
    net = ip.Network(seeded(lambda: Wrapped(form).inner))
    output = net.run({"x": numbers(2, 4)}).output
    assert type(output) is {"tuple": tuple, "list": list, "dict": dict, "dataclass": Outcome}[form]
    changed = net.run({"x": numbers(2, 4)}, write={":output[0]": 5.0}).output
    assert type(changed) is type(output)
    hidden = {
        "tuple": lambda o: o[0],
        "list": lambda o: o[0],
        "dict": lambda o: o["hidden"],
        "dataclass": lambda o: o.hidden,
    }
    assert hidden[form](changed)[:, 0].tolist() == [5, 5]
    assert torch.equal(hidden[form](changed)[:, 1:], hidden[form](output)[:, 1:])


# -- addresses -----------------------------------------------------------------------------------------


def test_several_tensors_need_a_name_and_the_choices_are_listed():
    net = ip.Network(seeded(lambda: nn.LSTM(3, 5, batch_first=True)))
    with pytest.raises(errors.AmbiguousSite, match=re.escape("'0' (2, 4, 5), '1.0' (1, 2, 5), '1.1' (1, 2, 5)")):
        net.run(numbers(2, 4, 3), read=[":output"])
    assert net.run(numbers(2, 4, 3), read=[":output.1.0"])[":output.1.0"].shape == (1, 2, 5)
    with pytest.raises(errors.AmbiguousSite, match="passes no tensor '7'"):
        net.run(numbers(2, 4, 3), read=[":output.7"])


def test_a_module_called_twice_has_occurrences():
    net = ip.Network(seeded(Twice))
    x = numbers(2, 4)
    run = net.run(x, read=["shared#0", "shared#1"])
    assert not torch.equal(run["shared#0"], run["shared#1"])
    with pytest.raises(errors.AmbiguousSite, match=r"'shared' ran 2 times .* 'shared#0' to 'shared#1'"):
        net.run(x, read=["shared[0]"])
    with pytest.raises(errors.AmbiguousSite, match="'shared' ran 2 times"):
        net.run(x, write={"shared[0]": 1.0})
    with pytest.raises(errors.NotFired, match="'shared' ran 2 times, so there is no call #2: they count from #0"):
        net.run(x, read=["shared#2"])


def test_a_write_to_the_first_call_leaves_the_second_to_compute():
    net = ip.Network(seeded(Twice))
    x = numbers(2, 4)
    before, after = net.run(x, read=["shared#1"]), net.run(x, read=["shared#1"], write={"shared#0": 0.0})
    expected = net.module.shared(torch.zeros(2, 4, dtype=torch.float64))
    assert torch.equal(after["shared#1"], expected) and not torch.equal(before["shared#1"], expected)


def test_a_module_under_two_names_is_one_module():
    module = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    module.append(module[0])
    with pytest.raises(errors.AmbiguousSite, match="ran 2 times"):
        ip.Network(module).run(torch.zeros(1, 2), read=["2"])


def test_inputs_of_modules_are_places_too_by_position_and_keyword():
    net = ip.Network(seeded(lambda: Wrapped("tensor")))
    x = numbers(2, 4)
    changed = net.run({"x": x}, write={"inner:input.x[1]": 3.0}, read=["inner:input"])
    assert changed["inner:input"][:, 1].tolist() == [3, 3]


@pytest.mark.parametrize(
    "spelling",
    [
        "l1",
        "l1[1]",
        "l1[(0, 2)]",
        "l1[0:2]",
        "l1[[0, 2]]",
        "h12",
        "A",
        ":output",
        ":input",
        "l2:input[1]",
        "l3:output[0]",
    ],
)
def test_a_site_has_one_spelling_accepted_everywhere(net, spelling):
    site = net.place(spelling)
    assert net.place(site) == site == net.place(site.spelling)
    run = net.run([[1, 2, 3]], read=[spelling])
    assert torch.equal(run[spelling], run[site])
    assert torch.equal(net.run([[1, 2, 3]], write={site: run[site]}).output, run.output)


def test_units_may_be_ints_lists_ranges_slices_or_nothing(net):
    read = lambda units: net.run([[1, 2, 3]], read=[net.site("l1", units=units)]).values
    shapes = [next(iter(read(units).values())).shape for units in (1, [1], range(2), slice(0, 2), [], None)]
    assert [tuple(shape) for shape in shapes] == [(1,), (1, 1), (1, 2), (1, 2), (1, 0), (1, 3)]


def test_channels_are_the_units_of_a_convolution():
    net = ip.Network(nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(12, 1)))
    x = torch.ones(2, 1, 3, 3)
    sites = net.neurons("0")
    assert [str(site) for site in sites] == ["0[0]", "0[1]", "0[2]"]
    run = net.run(x, read=sites, write={"0[1]": 0.0})
    assert run[sites[1]].shape == (2, 2, 2) and not run[sites[1]].any() and run[sites[0]].any()


def test_neurons_of_modules_that_do_not_say_their_width_need_an_example():
    module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    with pytest.raises(errors.WrongInput, match=re.escape("How many units 1 has shows only in a run. Give one")):
        ip.Network(module).neurons("1")
    assert len(ip.Network(module, example=torch.zeros(1, 2)).neurons("1")) == 3
    assert len(ip.Network(module, inputs=("A", "B")).neurons("1")) == 3


def test_neurons_are_those_of_every_layer_but_the_last(net):
    assert [str(site) for site in net.neurons()] == ["h11", "h12", "h13", "h21", "h22", "h23"]


def test_neurons_are_asked_for_by_any_spelling(net):
    assert [str(site) for site in net.neurons("h12", "l2[(0, 2)]")] == ["h12", "h21", "h23"]
    assert [site.coordinates[0][:2] for site in net.neurons("h12", "l2")] == [("layer", "l1"), *[("layer", "l2")] * 3]
    with pytest.raises(
        errors.UnknownPlace, match=re.escape("['l1'] is no site. Sites are spelled 'module.path[units]'")
    ):
        net.neurons(["l1"])
    conv = ip.Network(nn.Sequential(nn.Conv2d(1, 3, 2)), names={"edges": "0[1]"})
    found = conv.neurons("0[0]", "edges", "0[0 | axis -1]")
    assert [site.coordinates[0][1] for site in found] == ["0", "0", "0[axis -1]"]


def test_embeddings_and_normalisations_are_no_neurons():
    module = nn.Sequential(nn.Embedding(5, 3), nn.LayerNorm(3), nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 1))
    net = ip.Network(module, example=torch.tensor([0, 1]))
    assert [str(site) for site in net.neurons()] == ["2[0]", "2[1]"]
    assert net.layers() == ("0", "1", "2", "3", "4") and len(net.neurons("1")) == 3


def test_what_can_be_read_is_listed(net):
    assert [str(site) for site in net.sites()] == ["A", "B", "C", "l1", "l2", "l3"]
    assert repr(net).splitlines() == [
        "Network(Adder) of A, B, C",
        "  l1  3 units: h11, h12, h13",
        "  l2  3 units: h21, h22, h23",
        "  l3  1 unit: Y",
    ]


# -- writes ----------------------------------------------------------------------------------------------


def test_writes_are_differentiable():
    net = ip.Network(seeded(lambda: mlp(3, 4, 1)))
    new = torch.full((2,), 0.3, dtype=torch.float64, requires_grad=True)
    net.run(numbers(2, 3), write={"0[1]": new}).output.sum().backward()
    step = 1e-6
    bumped = net.run(numbers(2, 3), write={"0[1]": new.detach() + step}).output
    plain = net.run(numbers(2, 3), write={"0[1]": new.detach()}).output
    torch.testing.assert_close(new.grad, (bumped - plain)[:, 0] / step, rtol=1e-4, atol=1e-6)


def test_reads_are_differentiable_copies():
    net = ip.Network(seeded(lambda: mlp(3, 4, 1)))
    x = numbers(2, 3).requires_grad_()
    run = net.run(x, read=["0"])
    (grad,) = torch.autograd.grad(run["0"].sum(), x)
    assert grad.abs().sum() > 0


class Recomputed(nn.Module):
    """A layer whose activations are thrown away and computed again when gradients are."""

    def __init__(self, reentrant):
        super().__init__()
        self.first, self.out, self.reentrant = nn.Linear(3, 3), nn.Linear(3, 1), reentrant

    def forward(self, x):
        return self.out(checkpoint(self.first, x, use_reentrant=self.reentrant)).squeeze(-1)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_write_that_backward_would_compute_away_is_refused(reentrant):
    """The hooks are gone when backward runs the layer again: gradients would be those of the unwritten value."""
    net, x = ip.Network(seeded(lambda: Recomputed(reentrant))), numbers(2, 3).requires_grad_()
    with pytest.raises(
        errors.WrongInput,
        match=re.escape(
            "first[1] runs under activation checkpointing: backward would compute it again, without the write. "
            "Switch checkpointing off, or run under torch.no_grad()."
        ),
    ):
        net.run(x, write={"first[1]": 2.0})
    run = net.run(x, read=["first"])  # what is only read is computed again as it was
    run.output.sum().backward()
    assert torch.equal(run["first"], net.module.first(x)) and x.grad.any()
    assert net.run(x, write={"out": 2.0}).output.tolist() == [2, 2]
    with torch.no_grad():
        assert (net.run(x, read=["first"], write={"first[1]": 2.0})["first"][:, 1] == 2).all()


@pytest.mark.parametrize(
    ("intervention", "expected"),
    [
        (ip.Set(5.0), 5.0),
        (7, 7.0),
        (ip.Add(1), 9.1),
        (ip.Scale(0), 0.0),
        (lambda old: -old, -8.1),
        (lambda old: 3, 3.0),
        (ip.Chain(ip.Set(2), ip.Scale(10), lambda old: old + 1), 21.0),
        ([4.0], 4.0),
    ],
)
def test_an_intervention_is_a_function_from_old_to_new(net, intervention, expected):
    run = net.run([[1, 2, 3]], read=["h12"], write={"h12": intervention})
    assert run["h12"].tolist() == pytest.approx([expected])


def test_noise_has_the_size_and_the_seed_that_were_asked_for(net):
    x = torch.ones(4000, 3)
    plain = net.run(x, read=["l1"])["l1"]
    for std in (0.0, 0.5, 3.0):
        noisy = [net.run(x, read=["l1"], write={"l1": ip.Noise(std, seed=seed)})["l1"] for seed in (1, 1, 2)]
        assert torch.equal(noisy[0], noisy[1]) and (std == 0 or not torch.equal(noisy[0], noisy[2]))
        assert float((noisy[0] - plain).std()) == pytest.approx(std, rel=0.03)
    assert net.run(x[:7], write={"l1": ip.Noise(1.0)}).output.shape == (7,)


def test_numbers_take_the_precision_of_the_network():
    net = ip.Network(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).half())
    run = net.run(torch.ones(1, 2).half(), read=["0"], write={"0": torch.ones(1, 2, dtype=torch.float64)})
    assert run["0"].dtype == run.output.dtype == torch.float16


def test_the_ledger_says_what_every_write_did(net):
    run = net.run([[1, 2, 3], [1, 2, 3]], write={"h12": 8.1, "l2[(0, 1)]": 0.0})
    same, other = run.ledger
    assert (str(same.place), same.fired, same.touched, same.size) == ("h12", 1, 0, 2)
    assert (other.touched, other.size) == (4, 4) and other.change == pytest.approx(6.0139, abs=1e-4)
    assert repr(other) == "<l2[0:2]: fired 1 x, 4 of 4 values changed, by at most 6.01>"


# -- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (
            lambda n: n.run([1, 2, 3], read=["l4"]),
            errors.UnknownPlace,
            "Adder has no module 'l4'. There are A, B, C, h11, ",
        ),
        (lambda n: n.run([1, 2, 3], read=["h12x"]), errors.UnknownPlace, "Did you mean 'h12'?"),
        (
            lambda n: n.run([1, 2, 3], read=["l1[3]"]),
            errors.UnknownPlace,
            "l1[3] asks for unit 3, but l1 has 3: 0 to 2.",
        ),
        (lambda n: n.run([1, 2, 3], read=["l1[-1]"]), errors.WrongShape, "Units count from 0"),
        (lambda n: n.run([1, 2, 3], read=["l1[1"]), errors.UnknownPlace, "'l1[1' is no site."),
        (lambda n: n.run([1, 2, 3], read=[7]), errors.UnknownPlace, "7 is no site."),
        (lambda n: n.run([1, 2]), errors.WrongShape, "An input holds 3 numbers, A, B, C; this one has shape (2,)."),
        (lambda n: n.run({"A": 1, "B": 2}), errors.MissingInput, "The input lacks C."),
        (lambda n: n.run({"A": 1, "B": 2, "C": 3, "D": 1}), errors.UnknownPlace, "There is no input 'D'."),
        (
            lambda n: n.run([[1, 2, 3]], write={"l1": torch.zeros(1, 2)}),
            errors.WrongShape,
            "At l1: cannot write a value of shape (1, 2) where there are 3 units. Read the same site from a source run",
        ),
        (
            lambda n: n.run([[1, 2, 3]], write={"l1": torch.zeros(2, 3)}),
            errors.WrongShape,
            "At l1: cannot write a value of shape (2, 3) over one of shape (1, 3). Read the same site from a source",
        ),
        (lambda n: n.run([[1, 2, 3]], write={"l1": lambda old: None}), errors.BadIntervention, "returned None"),
        (
            lambda n: n.run([[1, 2, 3]], write={"l1": lambda old: old[:, :2]}),
            errors.WrongShape,
            "made (1, 2) of (1, 3)",
        ),
        (
            lambda n: n.run([1, 2, 3])["h12"],
            errors.UnknownPlace,
            "'h12' was not read in this run. Pass read=['h12'] to run.",
        ),
        (lambda n: n.run([[1, 2, 3]], read=["l1[0, 1]"]), errors.WrongShape, "A position needs a tensor"),
        (
            lambda n: n.run([1, 2, 3], write=["h12"]),
            errors.WrongInput,
            "write says what to write where, as in write={'l1[1]': 0.0}, not ['h12'].",
        ),
        (lambda n: n.run([1, 2, 3], write=None), errors.WrongInput, "write says what to write where"),
        (lambda n: ip.Network("adder"), errors.WrongInput, "wraps a torch.nn.Module, not str"),
        (
            lambda n: ip.Network(adder.Adder(), inputs=("A",), names={"A": "l1"}),
            errors.WrongInput,
            "'A' names two things",
        ),
        (lambda n: ip.Network(adder.Adder(), names={"h": "l9"}), errors.UnknownPlace, "has no module 'l9'"),
    ],
)
def test_mistakes_are_named(net, act, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        act(net)


# -- a network is a causal model too ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_graph_of_a_network_has_the_modules_activations_at_every_unit(seed):
    widths = [*(3, 4, 2, 3)[: 2 + seed % 3], 2 if seed % 2 else 1]
    net = ip.Network(seeded(lambda: mlp(*widths), seed), inputs=("A", "B", "C"))
    model = net.as_causal_model()
    rows = [{"A": a, "B": b, "C": c} for a, b, c in numbers(6, 3, seed=seed).tolist()]
    values = model.run(rows).values
    run = net.run(rows, read=net.layers())
    for layer in net.layers():
        for unit in range(run[layer].shape[1]):
            expected = run[layer][:, unit].detach()
            assert torch.allclose(torch.as_tensor(values[f"{layer}[{unit}]"]), expected, atol=1e-12)
    single = model.run(rows[0]).values
    assert all(isinstance(value, float) for value in single.values())


def test_every_unit_has_its_own_mechanism():
    """The tutorial's comprehension made three neurons that all computed the third."""
    values = adder.network().as_causal_model().run({"A": 1, "B": 2, "C": 3}).values
    assert [values[f"h1{k}"] for k in (1, 2, 3)] == pytest.approx([10.89, 8.1, 12.3])
    assert [values[f"h2{k}"] for k in (1, 2, 3)] == pytest.approx([6.0139, 3.705, -0.271])


def test_interventions_in_the_graph_and_in_the_network_agree(net):
    model = net.as_causal_model()
    for site in net.neurons():
        value = 1.7
        assert model.run({"A": 1, "B": 2, "C": 3}, write={str(site): value}).output == pytest.approx(
            net.run([1, 2, 3], write={site: value}).output.item(), abs=1e-5
        )


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        return torch.sigmoid(self.last(hidden + self.second(hidden) + x)).squeeze(-1)


def test_skips_and_what_follows_the_last_layer_are_in_the_graph():
    model = ip.Network(seeded(Skip), inputs=("A", "B")).as_causal_model()
    assert model.variables["last[0]"].parents == ("A", "B", "first[0]", "first[1]", "second[0]", "second[1]")
    assert model.variables["output"].parents == ("last[0]",)
    assert model.outputs == ("output",)


class Hidden(nn.Module):
    """A path from the input that autograd does not see."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 1)

    def forward(self, x):
        return self.last(self.first(x) + x.detach().round())


class Gate(nn.Module):
    """A choice by the input, and a unit that is a threshold: no gradient shows either."""

    def __init__(self):
        super().__init__()
        self.l1, self.step, self.l2 = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)

    def forward(self, x):
        h = (self.step(self.l1(x)) > 0).to(x)
        return self.l2(torch.where(x.sum(-1, keepdim=True) > 5, h, -h)).squeeze(-1)


@pytest.mark.parametrize("build", [Hidden, Gate])
def test_paths_that_gradients_do_not_see_are_found_by_intervention(build):
    net = ip.Network(seeded(build), inputs=("A", "B"))
    model, rows = net.as_causal_model(), [[5.0, 5.0], [1.0, -2.0], [0.3, 40.0], [-3.0, 1.0]]
    for row in rows:
        run = net.run([row], read=net.layers())
        values = model.run(dict(zip("AB", row, strict=True))).values
        assert values[model.outputs[0]] == pytest.approx(run.output.item(), abs=1e-9)
        for layer in net.layers():
            assert [values[f"{layer}[{u}]"] for u in range(run[layer].shape[1])] == pytest.approx(
                run[layer][0].tolist()
            )


def test_a_graph_that_would_be_wrong_is_refused():
    class Counts(Hidden):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) + self.calls

    with pytest.raises(errors.WrongInput, match="depends on something beside the layers"):
        ip.Network(Counts(), inputs=("A", "B")).as_causal_model()
    with pytest.raises(errors.WrongInput, match="The variables of the inputs need names"):
        ip.Network(adder.Adder()).as_causal_model()


# -- nothing is changed ------------------------------------------------------------------------------------


def _everything(module):
    return (
        {name: tensor.clone() for name, tensor in module.state_dict().items()},
        {name: (parameter.requires_grad, parameter.grad) for name, parameter in module.named_parameters()},
        {
            path: (part.training, dict(part._forward_hooks), dict(part._forward_pre_hooks), sorted(vars(part)))
            for path, part in module.named_modules()
        },
    )


def _same(a, b):
    return all(torch.equal(a[0][name], b[0][name]) for name in a[0]) and a[1:] == b[1:]


def _fails(old):
    raise RuntimeError("the user's own mistake")


@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_users_is_changed(training):
    module = seeded(lambda: mlp(3, 4, 1)).train(training)
    module[0].weight.requires_grad_(False)
    net, before = ip.Network(module), _everything(module)
    net.run(numbers(2, 3), read=["0"], write={"2": 0.0})
    ip.effects(net, ip.Pairs(numbers(4, 3), numbers(4, 3, seed=1)), ["0[1]"], ip.value)
    assert _same(_everything(module), before)


@pytest.mark.parametrize(
    "act",
    [
        lambda net, x: net.run(x, write={"0": _fails}),
        lambda net, x: net.run(x, write={"0": torch.zeros(9)}),
        lambda net, x: net.run(x[:, :2], read=["0", "2"]),
        lambda net, x: net.run(x, read=["0#3"]),
        lambda net, x: ip.effects(net, ip.Pairs(x, x + 1), ["0"], lambda output, pairs: _fails(output)),
        lambda net, x: ip.scan(net, ip.Pairs(x, x + 1), ["0"], lambda output, pairs: output.sum()),
    ],
)
def test_nothing_is_left_behind_even_by_an_error(act):
    module = seeded(lambda: mlp(3, 4, 1))
    before = _everything(module)
    with pytest.raises(Exception, match=r"."):
        act(ip.Network(module), numbers(2, 3))
    assert _same(_everything(module), before)


class Draws(nn.Tanh):
    """Draws a random number in either mode."""

    def forward(self, x):
        return super().forward(x) + 0 * torch.rand(1)


@pytest.mark.parametrize("training", [True, False])
def test_looking_at_a_network_changes_nothing_of_it(training):
    """In training mode a run of the example would move running statistics and draw random numbers."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), Draws(), nn.Linear(4, 1))
    module.train(training)
    net = ip.Network(module, example=numbers(5, 3).float())
    before, state = _everything(module), torch.random.get_rng_state()
    assert [str(site) for site in net.neurons()] == ["0[0]", "0[1]", "0[2]", "0[3]"] and net.layers() == ("0", "1", "4")
    assert net.width("3") == 4 and net.precedes("0", "4") and net.sites() and repr(net)
    assert _same(_everything(module), before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_graph_of_a_network_in_training_mode_is_refused():
    """A unit would depend on the whole batch: one row alone has another value, or none."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    net, before = ip.Network(module, inputs="ABC"), _everything(module)
    for act in (net.as_causal_model, lambda: ip.draw(net, [1, 2, 3])):
        with pytest.raises(errors.NotRepeatable, match="'1' is a BatchNorm1d in training mode"):
            act()
    assert _same(_everything(module), before)
    module.eval()
    assert net.as_causal_model().run({"A": 1, "B": 2, "C": 3}).output == pytest.approx(
        net.run([[1, 2, 3]]).output.item()
    )


def test_running_statistics_of_instances_are_no_scratch_pad():
    module = nn.Sequential(nn.Conv1d(2, 3, 1), nn.InstanceNorm1d(3, track_running_stats=True), nn.Flatten()).train()
    pairs, before = ip.Pairs(numbers(3, 2, 4).float(), numbers(3, 2, 4, seed=1).float()), _everything(module)
    with pytest.raises(errors.NotRepeatable, match="'1' is a InstanceNorm1d in training mode: every run changes its"):
        ip.effects(ip.Network(module), pairs, ["0"], lambda output, those: output.sum(-1))
    assert _same(_everything(module), before)


def test_no_random_number_is_drawn_from_the_global_state():
    state = torch.random.get_rng_state()
    net = adder.network()
    net.run([[1, 2, 3]], write={"h12": ip.Noise(1.0)})
    ip.scan(net, adder.pairs()["A"], net.neurons(), ip.value).table()
    net.as_causal_model()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_users_own_hooks_run_as_often_as_in_a_plain_run():
    module, calls = seeded(lambda: mlp(3, 4, 1)), []
    module[0].register_forward_hook(lambda *_: calls.append("after"))
    module[0].register_forward_pre_hook(lambda *_: calls.append("before"))
    module(numbers(2, 3))
    plain = list(calls)
    calls.clear()
    ip.Network(module).run(numbers(2, 3), read=["0"], write={"0[1]": 1.0})
    assert calls == plain


def test_a_forward_that_was_replaced_on_the_instance_stays():
    module = seeded(lambda: mlp(3, 4, 1))
    original = module[0].forward
    module[0].forward = lambda x: original(x) + 1
    run = ip.Network(module).run(numbers(2, 3), read=["0"])
    assert torch.equal(run["0"], original(numbers(2, 3)) + 1) and "forward" in vars(module[0])


def test_no_argument_is_mutated():
    net = adder.network()
    base, sources = [1, 2, 3], {"h12": [4, 2, 3], "h13": [4, 2, 3]}
    before = copy.deepcopy((base, sources))
    ip.interchange(net, base, sources)
    names, places = {"x": "l1[0]"}, ["h12", "h13"]
    ip.Network(adder.Adder(), names=names)
    ip.scan(net, adder.pairs()["A"], places, ip.value)
    assert (base, sources) == before and names == {"x": "l1[0]"} and places == ["h12", "h13"]


# -- memory, layout and types --------------------------------------------------------------------------


class Overwrites(nn.Module):
    """A module that works in place on what it is given."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        x *= 2
        hidden = self.first(x)
        hidden += 1
        return self.out(hidden)


def test_a_module_that_works_in_place_changes_neither_the_users_tensors_nor_what_was_written():
    net, x, value = ip.Network(seeded(Overwrites)), numbers(2, 3), numbers(2, 3, seed=1)
    kept = x.clone(), value.clone()
    run = net.run(x, read=["first"], write={"first": value})
    assert torch.equal(x, kept[0]) and torch.equal(value, kept[1]) and torch.equal(run["first"], kept[1])
    assert torch.equal(run.output, net.module.out(value + 1))
    nested = {"deep": [x, (x,)]}
    ip.Network(seeded(lambda: Nested())).run(nested)
    assert torch.equal(x, kept[0])


class Nested(nn.Module):
    def forward(self, inputs):
        inputs["deep"][1][0].zero_()
        return inputs["deep"][0]


@dataclass(frozen=True)
class Batch:
    x: torch.Tensor
    note: str = "kept"


class Sorted(dict):
    """A dict with a say of its own, as libraries hand out."""


class Scribbles(nn.Module):
    """Works in place on the tensor that a structure holds, and tells what it was given."""

    def forward(self, given):
        self.given = given
        part = given[0] if isinstance(given, tuple) else given
        (part.x if isinstance(part, Batch) else part["x"]).zero_()
        return torch.ones(2)


@pytest.mark.parametrize(
    "wrap", [Batch, lambda x: Sorted(x=x), lambda x: OrderedDict(x=x, note="kept"), lambda x: (Batch(x),)]
)
def test_a_module_gets_copies_of_tensors_in_structures_of_the_users_own_types(wrap):
    x = numbers(2, 3)
    given, kept = wrap(x), x.clone()
    net = ip.Network(Scribbles())
    net.run(given)
    assert torch.equal(x, kept) and type(net.module.given) is type(given) and net.module.given is not given
    inner = net.module.given[0] if isinstance(given, tuple) else net.module.given
    if not isinstance(inner, Sorted):
        assert (inner.note if isinstance(inner, Batch) else inner["note"]) == "kept"


def test_what_holds_no_tensor_is_handed_on_as_it_is():
    class Tells(nn.Module):
        def forward(self, given):
            self.given = given
            return torch.ones(1)

    @dataclass
    class Options:
        name: str

    options = Options("x")
    net = ip.Network(Tells())
    net.run(options)
    assert net.module.given is options


class ViewsAfterConvolution(nn.Module):
    """`view` fails on a tensor whose memory is laid out otherwise than the convolution left it."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 3, 3), nn.Linear(48, 1)

    def forward(self, x):
        return self.out(self.conv(x).view(len(x), -1)).squeeze(-1)


@pytest.mark.parametrize("site", ["conv", "conv[1]", "conv[(0, 2)]", "out:input[5]"])
def test_a_write_keeps_the_memory_layout_that_the_network_relies_on(site):
    net, x = ip.Network(seeded(ViewsAfterConvolution)), numbers(2, 1, 6, 6)
    run = net.run(x, read=[site, "conv"])
    assert torch.equal(net.run(x, write={site: run[site]}).output, run.output)
    assert torch.equal(run["conv"], net.module.conv(x))  # read as the module gave it, channels where they were


def test_a_one_dimensional_convolution_has_positions_behind_its_channels():
    net, x = (
        ip.Network(seeded(lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(12, 1)))),
        numbers(4, 2, 5),
    )
    whole = net.module[0](x)
    run = net.run(x, read=["0", "0[1]", "0[2, 1]", "0[-1, :]", "0[(0, 2), (1, 2)]"])
    assert torch.equal(run["0"], whole) and torch.equal(run["0[1]"], whole[:, 1])
    assert torch.equal(run["0[2, 1]"], whole[:, 1, 2]) and torch.equal(run["0[-1, :]"], whole[:, :, -1])
    assert torch.equal(run["0[(0, 2), (1, 2)]"], whole[:, 1:][:, :, [0, 2]])
    changed = net.run(x, read=["0"], write={"0[2, 1]": 9.0})["0"]
    assert (changed[:, 1, 2] == 9).all() and int((changed != whole).sum()) == 4


def test_which_axis_of_an_image_counts_units_must_be_said():
    net, x = (
        ip.Network(nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1))),
        torch.ones(2, 1, 3, 3),
    )
    with pytest.raises(errors.AmbiguousSite, match=re.escape("1[0] holds (2, 3, 2, 2): which axis counts its units?")):
        net.run(x, read=["1[0]"])
    run = net.run(x, read=["1", "1[0 | axis -3]", "1[0 | axis -1]"])
    assert torch.equal(run["1[0 | axis -3]"], run["1"][:, 0]) and torch.equal(run["1[0 | axis -1]"], run["1"][..., 0])


def test_fractions_never_vanish_in_whole_numbers():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.ids = nn.Identity()

        def forward(self, x):
            return self.ids(x) * 2

    net, x = ip.Network(Counts()), torch.tensor([[1, 2], [3, 4]])
    assert net.run(x, write={"ids[0]": 7}).output.tolist() == [[14, 4], [14, 8]]
    assert net.run(x, write={"ids[0]": lambda old: old * 1.5 + 0.5}).output.tolist() == [[4, 4], [10, 8]]
    for fraction in (0.5, ip.Scale(0.5), ip.Add(0.1)):
        with pytest.raises(errors.BadIntervention, match=re.escape("ids[0] holds whole numbers (torch.int64)")):
            net.run(x, write={"ids[0]": fraction})


class Returns(nn.Module):
    """torch's own return types, and names with dots in them."""

    def __init__(self, form):
        super().__init__()
        self.form, self.inner = form, nn.Identity()
        self.inner.forward = self.part

    def part(self, x):
        return x.max(-1) if self.form == "torch" else {"a.b": x, "a": {"b": x + 1}, 3: x + 2}

    def forward(self, x):
        found = self.inner(x)
        return found.values if self.form == "torch" else found["a.b"] + 10 * found["a"]["b"] + 100 * found[3]


def test_structures_of_every_kind_are_rebuilt_in_their_own_type():
    x = torch.tensor([[1.0, 5.0], [7.0, 2.0]])
    assert ip.Network(Returns("torch")).run(x, write={"inner:output.0": 3.0}).output.tolist() == [3, 3]
    net = ip.Network(Returns("dots"))
    assert net.run(x, write={"inner:output.3": 0.0}).output.tolist() == (x + 10 * (x + 1)).tolist()
    with pytest.raises(errors.AmbiguousSite, match=re.escape("inner:output passes several tensors: 'a.b' (2, 2)")):
        net.run(x, read=["inner"])


# -- names, calls and two of one thing -----------------------------------------------------------------


def test_a_name_may_not_hide_a_module():
    with pytest.raises(errors.WrongInput, match="'l2' names two things"):
        ip.Network(adder.Adder(), names={"l2": "l1[1]"})
    with pytest.raises(errors.WrongInput, match="'l1' names two things"):
        ip.Network(adder.Adder(), inputs=("l1", "B", "C"))
    with pytest.raises(errors.WrongInput, match="'A' names two things"):
        ip.Network(adder.Adder(), inputs=("A", "A", "C"))


def test_calls_inside_calls_are_numbered_as_they_begin():
    class Recursive(nn.Module):
        def forward(self, x, depth=2):
            return x + 1 if depth == 0 else self(x, depth - 1) * 10

    net = ip.Network(nn.Sequential(Recursive()))
    x = torch.ones(1, 1)
    run = net.run(x, read=["0#0", "0#1", "0#2", "0#1:input.0"])
    assert [run[f"0#{call}"].item() for call in range(3)] == [200, 20, 2] and run["0#1:input.0"].item() == 1
    assert net.run(x, write={"0#1": 7.0}).output.item() == 70


def test_two_names_of_one_module_overlap_as_one():
    module = nn.Sequential(nn.Linear(2, 2))
    module.alias = module[0]
    module.forward = lambda x: module[0](x)
    net = ip.Network(module)
    assert net.place("alias[1]") == net.place("0[1]")
    with pytest.raises(errors.OverlappingWrites, match="overwrite the same units"):
        net.run(torch.zeros(1, 2), write={"alias[1]": 1.0, "0": 2.0})


def test_one_tensor_under_two_addresses_is_written_once_unless_it_was_changed_in_between():
    x = numbers(2, 3)
    handed_on = ip.Network(seeded(lambda: nn.Sequential(nn.Linear(3, 3), nn.Identity(), nn.Linear(3, 1))))
    with pytest.raises(errors.OverlappingWrites, match=re.escape("1[1] and 0 overwrite the same units")):
        handed_on.run(x, write={"0": -1.0, "1[1]": 2.0})
    for inplace in (False, True):  # the same tensor or another one; in either case another value
        net = ip.Network(seeded(lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=inplace), nn.Linear(3, 1))))
        run = net.run(x, read=["1"], write={"0": -1.0, "1[1]": 2.0})
        assert run["1"].tolist() == [[0, 2, 0]] * 2 and [entry.touched for entry in run.ledger] == [6, 2]


def test_writes_work_in_inference_mode():
    net, x = ip.Network(seeded(lambda: mlp(3, 4, 1))), numbers(2, 3)
    expected = net.run(x, read=["0"], write={"0[1]": 2.0})
    with torch.inference_mode():
        run = net.run(x, read=["0"], write={"0[1]": 2.0})
    assert torch.equal(run["0"], expected["0"]) and torch.equal(run.output, expected.output)


def test_places_without_sources_are_refused(net):
    with pytest.raises(
        errors.WrongInput,
        match=re.escape("sources says where each place's value comes from: {'h12': source_input}, not 'h12'."),
    ):
        ip.interchange(net, [1, 2, 3], "h12")


def test_one_place_takes_one_source(net):
    with pytest.raises(errors.OverlappingWrites, match="h12 is given two sources"):
        ip.interchange(net, [1, 2, 3], {"h12": [4, 2, 3], "l1[1]": [5, 2, 3]})


def test_positions_that_meet_at_one_token_are_refused():
    net = ip.Network(seeded(lambda: nn.Sequential(nn.Linear(3, 3))))
    x = numbers(2, 4, 3)
    with pytest.raises(errors.WrongShape, match="names one of 4 positions twice, from both ends"):
        net.run(x, read=[net.site("0", position=(3, -1))])
    assert net.run(x, read=[net.site("0", position=(2, -1))]).values


def test_writing_into_a_part_of_a_tensor_copies_no_more_than_the_part():
    """A pass that writes a thousand neurons writes a thousand parts of one tensor."""
    part = torch.arange(4000.0).reshape(1000, 2, 2)[999:]
    written = ip.Site("l", units=(0,), position=1).set(part, torch.tensor([[7.0]]))
    assert written.tolist() == [[[3996.0, 3997.0], [7.0, 3999.0]]] and part[0, 1, 0] == 3998
    assert written.untyped_storage().nbytes() == 4 * part.numel()
