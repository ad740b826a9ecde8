"""What fails silently elsewhere, one test a line: sections 1, 2, 5, 6, 12 and 13 of the list of pitfalls.

Lines whose subject does not exist here yet (generation, subspaces, attention patterns, circuits) wait for it.
"""

import copy
import itertools
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import interpose as ip
from interpose import errors
from interpose.tasks import adder

from known import Encoder, Residual, Twice, Wrapped, mlp, numbers, seeded


@pytest.fixture(scope="module")
def net():
    return adder.network()


# -- 1. writes that never happen -----------------------------------------------------------------------------


def test_a_scan_whose_cells_are_all_equal_warns():
    """A heatmap of a variable left over from another model shows one number everywhere."""
    net, pairs = adder.network(), adder.pairs()["A"]
    with pytest.warns(errors.NoEffect, match="All 3 cells of this scan are equal: NIE 0, TIE 0"):
        found = ip.scan(net, pairs, ["h11", "h21", "h23"], ip.matches)
    assert found.warnings and found.warnings[0] in found.table().notes
    net.four_runs = lambda *runs, metric: None
    stale = itertools.chain([0.0] * 7, itertools.repeat(0.5))  # untouched runs and checks first, then every cell
    with pytest.warns(errors.NoEffect, match="NIE 0.5"):
        ip.scan(net, pairs, ["h12", "h22"], lambda output, those: torch.full((len(those),), next(stale)))


def test_a_batched_patch_is_the_unbatched_patch():
    net = adder.network()
    pairs = adder.pairs()["A"]
    together = ip.interchange(net, pairs.base, {"h12": pairs.source}).output
    alone = [ip.interchange(net, b, {"h12": s}).output for b, s in zip(pairs.base, pairs.source, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))
    assert (together != net.run(pairs.base).output).all()


def test_a_write_on_a_branch_that_is_not_taken_is_an_error():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.taken, self.other = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x):
            return (self.taken if x.sum() >= 0 else self.other)(x)

    net = ip.Network(Branch())
    with pytest.raises(
        errors.NotFired, match="'other' did not run in this forward pass, so nothing was read or written"
    ):
        net.run(torch.ones(1, 2), write={"other": 1.0})
    with pytest.raises(errors.NotFired, match="'taken' did not run"):
        net.run(-torch.ones(1, 2), read=["taken"])


def test_a_module_inside_a_fused_path_runs_or_is_an_error():
    net = ip.Network(seeded(Encoder))
    x = numbers(2, 4, 8)
    plain, patched = net.run(x), net.run(x, write={"block.linear1": 0.0})
    assert not torch.equal(plain.output, patched.output)
    with pytest.raises(errors.NotFired, match="bypassed by a fused path"):
        net.run(x, write={"block.self_attn.out_proj": 0.0})


def test_runs_with_and_without_hooks_take_the_same_path():
    """torch's fused layers give other last digits; a base run on them would not be the patched run's base."""
    net, x, modes = ip.Network(seeded(Encoder)), numbers(2, 4, 8), []

    def looks(old):
        modes.append(torch.backends.mha.get_fastpath_enabled())
        return old

    with torch.no_grad():
        plain = net.run(x).output
        assert torch.equal(net.run(x, write={"block": looks}).output, plain)
    assert modes == [False] and torch.backends.mha.get_fastpath_enabled()


def test_a_write_equal_to_the_old_value_is_reported_as_unchanged(net):
    run = net.run([[1, 2, 3]], write={"h12": net.run([[1, 2, 3]], read=["h12"])["h12"]})
    assert run.ledger[0].touched == 0 and run.ledger[0].fired == 1 and run.ledger[0].change == 0


def test_an_intervention_that_forgets_to_return_is_an_error(net):
    def forgets(old):
        old * 0

    with pytest.raises(errors.BadIntervention, match="does it lack a `return`"):
        net.run([1, 2, 3], write={"h12": forgets})
    with pytest.raises(errors.BadIntervention, match="does it lack a `return`"):
        net.run([1, 2, 3], write={"h12": ip.Chain(forgets, ip.Add(1))})


def test_changing_the_old_value_in_place_changes_nothing_but_what_is_returned(net):
    def scribbles(old):
        kept = old.clone()
        old.fill_(1e6)
        return kept

    assert net.run([1, 2, 3], write={"h12": scribbles}).output.item() == pytest.approx(6)


def test_an_empty_selection_changes_nothing_and_none_means_all(net):
    plain = net.run([[1, 2, 3]]).output
    empty = net.run([[1, 2, 3]], write={net.site("l1", units=[]): 0.0})
    assert torch.equal(empty.output, plain) and empty.ledger[0].size == 0
    assert net.run([[1, 2, 3]], read=["l1"], write={net.site("l1", units=None): 0.0})["l1"].tolist() == [[0, 0, 0]]
    assert ip.effects(net, adder.pairs()["A"], [net.site("l1", units=[])], ip.value).nie.any() == False  # noqa: E712


# -- 2. wrong rows, positions, heads, values --------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tensor", "tuple", "list", "dict", "dataclass"])
def test_a_site_is_the_same_whatever_structure_the_module_returns(form):
    net, plain = ip.Network(seeded(lambda: Wrapped(form))), ip.Network(seeded(lambda: Wrapped("tensor")))
    x = {"x": numbers(3, 4)}
    assert torch.equal(net.run(x, read=["inner[1]"])["inner[1]"], plain.run(x, read=["inner[1]"])["inner[1]"])
    assert net.run(x, read=["inner[1]"])["inner[1]"].shape == (3,)
    assert torch.equal(net.run(x, write={"inner[1]": 2.0}).output, plain.run(x, write={"inner[1]": 2.0}).output)


def test_the_same_call_gives_the_same_result_before_and_after_any_other():
    net = ip.Network(seeded(Encoder))
    x = numbers(2, 4, 8)
    first = net.run(x, read=["block[1, :]"])["block[1, :]"]
    net.run(x, read=["block[(0, 2), 3]"], write={"block[1, :]": 0.0})
    assert torch.equal(net.run(x, read=["block[1, :]"])["block[1, :]"], first)


def test_a_source_of_one_is_not_repeated_over_a_base_of_two(net):
    one = net.run([[4, 2, 3]], read=["l1"])["l1"]
    with pytest.raises(
        errors.WrongShape, match=re.escape("cannot write a value of shape (1, 3) over one of shape (2, 3)")
    ):
        net.run([[1, 2, 3], [5, 5, 5]], write={"l1": one})
    with pytest.raises(errors.WrongShape):
        net.run([[1, 2, 3], [5, 5, 5]], write={"l1": ip.Add(one)})
    spread = net.run([[1, 2, 3], [5, 5, 5]], write={"l1": ip.Set(one, broadcast=True)}).output
    assert spread.tolist() == pytest.approx([9, 9])
    with pytest.raises(errors.WrongShape):
        ip.interchange(net, [[1, 2, 3], [5, 5, 5]], {"h12": [[4, 2, 3]]})


def test_writing_some_units_leaves_the_others_bit_identical(net):
    x = numbers(5, 3).float()
    before, after = net.run(x, read=["l1"])["l1"], net.run(x, read=["l1"], write={"l1[1]": 9.0})["l1"]
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]]) and (after[:, 1] == 9).all()


def test_writing_a_position_leaves_the_others_bit_identical():
    net = ip.Network(seeded(Encoder))
    x = numbers(3, 4, 8)
    before, after = (
        net.run(x, read=["block"])["block"],
        net.run(x, read=["block"], write={"block[-1, 2]": 9.0})["block"],
    )
    changed = (before != after).nonzero()
    assert set(map(tuple, changed[:, 1:].tolist())) == {(3, 2)}


def test_axes_come_from_coordinates_and_negative_units_are_refused(net):
    sites = net.neurons("l1", "l2")
    pairs = adder.pairs()["A"]
    plain, mixed = ip.scan(net, pairs, sites, ip.value), ip.scan(net, pairs, sites[::-1], ip.value)
    assert plain.data.identical(mixed.data)
    with pytest.raises(errors.WrongShape, match="Units count from 0; the last of n is n - 1"):
        net.site("l1", units=-1)


def test_a_read_is_a_copy_taken_at_read_time():
    class Scribble(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x):
            hidden = self.linear(x)
            hidden[:, 1] = 100
            return hidden.sum(-1)

    with torch.no_grad():
        run = ip.Network(Scribble()).run(torch.ones(1, 2), read=["linear"])
    assert run["linear"][0, 1] != 100


def test_the_order_of_declarations_does_not_matter(net):
    places = ["l2", "h11", "l1", "h22", "A"]
    one, other = net.run([[1, 2, 3]], read=places), net.run([[1, 2, 3]], read=places[::-1])
    assert all(torch.equal(one[place], other[place]) for place in places)
    writes = {"h22": 4.0, "h12": 2.0, "A": 7.0}
    back = dict(reversed(writes.items()))
    assert torch.equal(net.run([[1, 2, 3]], write=writes).output, net.run([[1, 2, 3]], write=back).output)


@pytest.mark.parametrize("second", ["l1[1]", "l1", "l1[(1, 2)]", "h12", "l1:output[0:2]", "l1#0[1]"])
def test_writes_that_overlap_are_an_error_naming_both(net, second):
    with pytest.raises(errors.OverlappingWrites, match=re.escape("l1[(1,)] overwrite the same units")):
        net.run([1, 2, 3], write={net.site("l1", units=[1]): [1.0], second: 2.0})


def test_positions_counted_from_opposite_ends_overlap_too():
    net = ip.Network(seeded(Encoder))
    with pytest.raises(errors.OverlappingWrites, match="overwrite the same units"):
        net.run(numbers(2, 4, 8), write={"block[-1, 0]": 1.0, "block[3, :]": 2.0})
    run = net.run(numbers(2, 4, 8), read=["block"], write={"block[-1, 0]": 1.0, "block[2, :]": 2.0})
    assert run["block"][0, 3, 0] == 1 and (run["block"][:, 2] == 2).all()


def test_a_module_called_twice_needs_an_occurrence_and_the_error_counts():
    with pytest.raises(errors.AmbiguousSite, match="'shared' ran 2 times"):
        ip.Network(seeded(Twice)).run(numbers(2, 4), read=["shared"])


def test_flattened_tokens_are_never_taken_for_positions():
    """Experts see [batch * tokens, d]: a position there would be a token of the first example only."""

    class Flattened(nn.Module):
        def __init__(self):
            super().__init__()
            self.expert, self.out = nn.Linear(3, 3), nn.Linear(3, 1)

        def forward(self, x):
            hidden = self.expert(x.reshape(-1, 3)).reshape(x.shape)
            return self.out(hidden).mean((1, 2))

    net = ip.Network(Flattened())
    with pytest.raises(errors.WrongShape, match="A position needs a tensor"):
        net.run(torch.ones(2, 4, 3), read=["expert[1, :]"])


# -- 5. state left behind (see also test_network.py) --------------------------------------------------------------


def test_neither_the_mode_nor_gradients_of_the_user_are_touched():
    module = seeded(lambda: mlp(3, 4, 1)).train()
    module(numbers(2, 3)).sum().backward()
    grads = [parameter.grad.clone() for parameter in module.parameters()]
    ip.scan(ip.Network(module), ip.Pairs(numbers(3, 3), numbers(3, 3, seed=1)), ["0[0]", "0[1]"], ip.value)
    assert module.training and all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(p.grad, g) for p, g in zip(module.parameters(), grads, strict=True))


def test_the_callers_lists_and_dicts_are_never_changed(net):
    variables, sources = ["C", "A", "B"], {"h12": {"A": 4, "B": 2, "C": 3}}
    pairs = ip.Pairs.varying(adder.hypothesis(), *variables, n=3)
    before = copy.deepcopy((variables, sources, pairs.base, pairs.source))
    ip.interchange(net, {"A": 1, "B": 2, "C": 3}, sources)
    ip.interchange_accuracy(net, adder.alignment(), n=5)
    ip.effects(net, pairs, ["h12"], ip.matches).table()
    assert (variables, sources, pairs.base, pairs.source) == before


def test_importing_changes_nothing_global():
    program = (
        "import sys, torch; hook, patched = sys.excepthook, torch.Tensor.__add__; state = torch.random.get_rng_state();"
        "import interpose; assert sys.excepthook is hook and torch.Tensor.__add__ is patched;"
        "assert torch.equal(torch.random.get_rng_state(), state); print('same')"
    )
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env={"PATH": ""}, capture_output=True, check=False
    )
    assert (out.stdout, out.stderr) == (b"same\n", b"")


# -- 6. causal models (see also test_causal_model.py and test_pairs.py) -------------------------------------------


def test_pairs_carry_their_variable_into_every_result(net):
    data = adder.pairs()
    for name in "ABC":
        found = ip.scan(net, data[name], net.neurons("l1"), ip.matches)
        assert found.data.attrs["varies"] == name and f"What carries {name}?" in found.table().title
        assert f"What carries {name}?" in found.heatmap().svg()
    assert data["B"].base != data["C"].base


def test_pairs_in_which_another_input_differs_are_refused():
    with pytest.raises(errors.WrongPairs, match="should differ in C alone, but differs in B, C"):
        ip.Pairs([{"A": 1, "B": 2, "C": 3}], [{"A": 1, "B": 5, "C": 6}], varies="C")


def test_every_sample_has_the_same_keys_whether_or_not_the_first_draw_passes():
    model = adder.hypothesis()
    for condition in (None, lambda values: True, lambda values: values["A"] == 7):
        assert {tuple(row) for row in model.sample(20, where=condition)} == {("A", "B", "C")}


def test_everything_not_intervened_on_is_computed_anew():
    model = adder.hypothesis()
    run = ip.interchange(model, {"A": 1, "B": 2, "C": 3}, {"B": {"A": 9, "B": 8, "C": 7}})
    assert run.values == {"A": 1, "B": 8, "C": 3, "B+C": 11, "A+B+C": 12}


def test_every_draw_has_the_requested_value_on_a_graph_with_a_shared_parent():
    model = ip.CausalModel(
        A=ip.Variable(range(4)),
        left=ip.Variable(lambda A: A % 2),
        right=ip.Variable(lambda A: A // 2),
        Y=ip.Variable(lambda left, right: left + right),
    )
    rows = model.sample(60, seed=1, where=lambda values: values["Y"] == 1)
    assert {row["A"] for row in rows} == {1, 2}
    with pytest.raises(errors.Unsatisfiable):
        model.sample(1, where=lambda values: values["Y"] == 5)


def test_a_model_without_intermediate_variables_is_fine():
    model = ip.CausalModel(A=ip.Variable((0, 1)), Y=ip.Variable(lambda A: 1 - A))
    assert len(ip.Pairs.varying(model, "A")) == 2 and model.sample(3, where=lambda values: values["Y"] == 1)


def test_what_never_varies_is_said_beside_the_result(net):
    rows = [{"A": a, "B": 2, "C": 2} for a in range(5)]
    pairs = ip.Pairs(rows, [{**row, "A": row["A"] + 1} for row in rows], varies="A")
    notes = ip.scan(net, pairs, net.neurons("l1"), ip.value).table().notes
    assert "Not shown by these pairs: B never varies. C never varies." in notes


# -- 12. displays (see also test_drawing.py) -----------------------------------------------------------------------


def test_a_complete_cut_is_checked_against_the_source_run():
    """A layer by token map whose last cell must equal the source run and shows 0 instead."""

    class Offloaded(ip.Network):
        def run(self, inputs, *, read=(), write=ip.network.NOTHING):
            return super().run(inputs, read=read, write={} if write and self.lost else write)

    net = Offloaded(seeded(lambda: mlp(3, 4, 1)))
    pairs = ip.Pairs(numbers(4, 3), numbers(4, 3, seed=1))
    net.lost = False
    ip.effects(net, pairs, [ip.Site("0", cut=("layer 0", 1))], ip.value)
    net.lost = True
    with pytest.raises(errors.BrokenCut, match="layer 0 was patched whole from the source"):
        ip.effects(net, pairs, [ip.Site("0", cut=("layer 0", 1))], ip.value)


def test_sentences_and_titles_come_from_the_result(net):
    data = adder.pairs()
    tables = {name: str(ip.scan(net, data[name], net.neurons("l1", "l2"), ip.matches).table()) for name in "ABC"}
    assert tables["A"].splitlines()[4].startswith("h12") and tables["B"].splitlines()[4].startswith("h13")


# -- 13. options and errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda net: ip.scan(net, adder.pairs()["A"], ["h12"], ip.value, learning_rate=0.1),
        lambda net: ip.effects(net, adder.pairs()["A"], ["h12"], ip.value, tolerance=0.1),
        lambda net: ip.interchange_accuracy(net, adder.alignment(), samples=10),
        lambda net: net.run([1, 2, 3], reads=["h12"]),
        lambda net: net.site("l1", unit=1),
        lambda net: ip.Pairs.varying(adder.hypothesis(), "A", size=3),
        lambda net: ip.Network(adder.Adder(), input=("A",)),
        lambda net: ip.draw(net, inputs=[1, 2, 3], layout="tree"),
        lambda net: ip.Variable(range(3), domian=range(3)),
    ],
)
def test_an_unknown_option_is_an_error(net, call):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        call(net)


def test_exceptions_of_the_users_code_pass_through_unchanged(net):
    class Mine(TypeError):
        pass

    def fails(*_):
        raise Mine("mine")

    pairs = adder.pairs()["A"]
    for act in (
        lambda: net.run([1, 2, 3], write={"h12": fails}),
        lambda: ip.scan(net, pairs, ["h12"], fails),
        lambda: ip.CausalModel(A=ip.Variable(range(3)), Y=ip.Variable(fails, parents=("A",))).run([{"A": 1}] * 500),
        lambda: adder.hypothesis().sample(3, where=fails),
    ):
        with pytest.raises(Mine, match="mine"):
            act()


class Untouchable(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.conv = nn.Linear(3, 3), nn.Conv1d(2, 4, 1)

    def forward(self, x):
        raise AssertionError("it ran")


@pytest.mark.parametrize(
    ("site", "shape", "units", "fitting"),
    [
        ("l1", (1, 2), 3, (1, 3)),
        ("l1[0:2]", (1, 3), 2, (1, 2)),
        ("l1[(1,)]", (1, 3), 1, (1, 1)),
        ("l1:input", (1, 4), 3, (1, 3)),
        ("l1[-1, :]", (1, 2), 3, (1, 3)),
        ("conv", (1, 3, 5), 4, (1, 4, 5)),
        ("conv[2, 0:2]", (1, 4), 2, (1, 2)),
    ],
)
def test_a_width_that_does_not_fit_is_refused_before_the_first_forward_pass(site, shape, units, fitting):
    net, x = ip.Network(Untouchable()), torch.zeros(1, 3)
    with pytest.raises(
        errors.WrongShape, match=re.escape(f"At {site}: cannot write a value of shape {shape} where there are {units}")
    ):
        net.run(x, write={site: torch.zeros(shape)})
    for value in (torch.zeros(fitting), np.zeros(fitting), 0.0, ip.Set(torch.zeros(shape), broadcast=True)):
        with pytest.raises(AssertionError, match="it ran"):
            net.run(x, write={site: value})


def test_every_name_is_checked_before_the_first_forward_pass():
    net = ip.Network(Untouchable())
    pairs = ip.Pairs(torch.zeros(2, 3), torch.ones(2, 3))
    for act in (
        lambda: net.run(torch.zeros(1, 3), read=["l1", "l2"]),
        lambda: net.run(torch.zeros(1, 3), write={"l1": 1.0, "l2": 2.0}),
        lambda: net.run(torch.zeros(1, 3), read=["l1[7]"]),
        lambda: ip.scan(net, pairs, ["l1", "l2"], ip.value),
        lambda: ip.interchange(net, torch.zeros(1, 3), {"l2": torch.ones(1, 3)}),
        lambda: ip.interchange(net, torch.zeros(1, 3), {"l1": (torch.ones(1, 3), "l2")}),
        lambda: ip.interchange_accuracy(net, ip.Alignment(adder.hypothesis(), {"A": "l2"})),
    ):
        with pytest.raises(errors.UnknownPlace):
            act()


@pytest.mark.parametrize(
    ("wrap", "kind"),
    [
        (torch.compile, "OptimizedModule"),
        (lambda module: nn.Sequential(torch.jit.trace(module, torch.zeros(1, 3))), "'0'"),
    ],
)
def test_modules_that_do_not_run_hooks_are_refused(wrap, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = wrap(seeded(Residual).float() if kind != "'0'" else nn.Linear(3, 1))
    with pytest.raises(errors.WrongInput, match=f"{kind}.*do not run the hooks"):
        ip.Network(wrapped)


def test_every_error_is_also_a_builtin_and_has_one_base():
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.InterposeError)
    ]
    assert len(kinds) > 15
    for kind in kinds:
        if kind is not errors.InterposeError:
            assert any(base.__module__ == "builtins" and base is not Exception for base in kind.__mro__[1:-3]), kind
            assert kind.__doc__


def test_effects_keep_the_values_of_every_pair(net):
    found = ip.effects(net, adder.pairs()["A"], ["h12"], ip.value)
    assert found.ybs.shape == (50, 1) and np.array_equal(found.data.nie.values, found.nie)
