"""Causal models: variables, columns, domains, and the errors about them."""

import enum
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import interpose as ip
from interpose import errors


@pytest.fixture
def model():
    return ip.CausalModel(
        A=ip.Variable(range(10)),
        B=ip.Variable(range(10)),
        C=ip.Variable(range(10)),
        S=ip.Variable(lambda B, C: B + C),
        Y=ip.Variable(lambda A, S: A + S),
    )


def test_a_run_computes_every_variable(model):
    run = model.run({"A": 1, "B": 2, "C": 3})
    assert run.output == 6
    assert run.values == {"A": 1, "B": 2, "C": 3, "S": 5, "Y": 6}


def test_an_intervention_replaces_a_value_and_its_children_follow(model):
    assert model.run({"A": 1, "B": 2, "C": 3}, write={"S": 4}).output == 5
    assert model.run({"A": 1, "B": 2, "C": 3}, write={"S": lambda old: old + 10}).output == 16
    assert model.run({"A": 1, "B": 2, "C": 3}, write={"B": 9, "S": ip.Chain(ip.Add(1), ip.Scale(2))}).output == 27


def test_a_variable_that_is_set_is_not_computed():
    table = ip.CausalModel(B=ip.Variable(), S=ip.Variable(lambda B: {1: "one"}[B]), Y=ip.Variable(lambda S: S + "!"))
    assert table.run({"B": 7}, write={"S": "seven"}).output == "seven!"
    with pytest.raises(KeyError):
        table.run({"B": 7})


def test_interchange_takes_several_sources_and_renamed_variables(model):
    base, one, two = {"A": 1, "B": 2, "C": 3}, {"A": 4, "B": 5, "C": 6}, {"A": 7, "B": 8, "C": 9}
    assert ip.interchange(model, base, {"S": one}).output == 1 + 11
    assert ip.interchange(model, base, {"S": one, "A": two}).output == 7 + 11
    assert ip.interchange(model, base, {"Y": (one, "B")}).output == 5
    assert ip.interchange(model, base, {"S": (one, "A"), "A": (two, "B")}).output == 8 + 4


def test_names_that_are_no_identifiers_use_the_mapping_form():
    model = ip.CausalModel(
        {
            "A": ip.Variable(range(3)),
            "B": ip.Variable(range(3)),
            "A+B": ip.Variable(lambda a, b: a + b, parents=("A", "B")),
        }
    )
    assert model.run({"A": 1, "B": 2}).output == 3
    assert model.variables["A+B"].parents == ("A", "B")


def test_the_output_is_a_dict_where_several_variables_have_no_children():
    model = ip.CausalModel(A=ip.Variable(), up=ip.Variable(lambda A: A + 1), down=ip.Variable(lambda A: A - 1))
    assert model.run({"A": 5}).output == {"up": 6, "down": 4}


def test_an_input_that_nothing_reads_is_no_output():
    model = ip.CausalModel(A=ip.Variable(), unused=ip.Variable(), Y=ip.Variable(lambda A: A))
    assert model.run({"A": 1, "unused": 2}).output == 1


@pytest.mark.parametrize(
    ("mechanism", "values"),
    [
        (lambda A: "even" if A % 2 == 0 else "odd", range(10)),
        (lambda A: (A, A + 1), range(10)),
        (lambda A: A and 1, range(10)),
        (lambda A: max(A, 3), range(10)),
        (lambda A: [3, 1, 2][A % 3], range(10)),
        (lambda A: (A > 3) + (A > 5), range(10)),  # numpy's bool + bool is an "or"
        (lambda A: A in (1, 2), range(10)),
        (lambda A: -A // 3, range(10)),
        (lambda A: A**0.5, range(10)),
        (lambda A: 5, range(10)),
        (lambda A: 2 * A if A != 7 else 0, range(10)),
        (lambda A: A + A, [True, False]),
        (lambda A: A * 10**18, range(50)),
        (lambda A: A.upper(), ["a", "b"]),
        (lambda A: A == "a", ["a", "b"]),
        (lambda A: A / 7, [0.1, 2.5, -3.0]),
        (lambda A: len(A), [(1, 2), (3,)]),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 500])
def test_a_data_set_gives_the_answers_of_its_rows_whatever_the_mechanism(mechanism, values, size):
    model = ip.CausalModel(A=ip.Variable(values), Y=ip.Variable(mechanism, parents=("A",)))
    rows = model.sample(size, seed=3)
    expected = [model.run(row).output for row in rows]
    together = model.run(rows).output
    assert list(together) == expected
    assert list(model.run({"A": [row["A"] for row in rows]}).output) == expected


def test_columns_are_evaluated_at_once_where_a_mechanism_allows(model):
    calls = []

    def mechanism(A):
        calls.append(type(A))
        return A * 2

    counted = ip.CausalModel(A=ip.Variable(), Y=ip.Variable(mechanism))
    assert list(counted.run({"A": np.arange(10_000)}).output[:3]) == [0, 2, 4]
    assert calls.count(np.ndarray) == 2 and len(calls) < 200  # once more in floating point, to see numbers run over
    calls.clear()
    output = counted.run({"A": torch.arange(10_000)}).output
    assert isinstance(output, torch.Tensor) and calls.count(torch.Tensor) == 2


def test_a_mechanism_that_answers_otherwise_on_columns_is_found_out():
    """Right on every row but the largest; a check of a few random rows would mostly miss it."""
    trap = ip.CausalModel(A=ip.Variable(), Y=ip.Variable(lambda A: A + (1 if isinstance(A, int) and A == 9_999 else 0)))
    output = trap.run({"A": np.arange(10_000)}).output
    assert list(output[-2:]) == [9_998, 10_000]


def test_errors_of_a_mechanism_pass_through_unchanged(model):
    broken = ip.CausalModel(A=ip.Variable(range(3)), Y=ip.Variable(lambda A: 1 // A))
    with pytest.raises(ZeroDivisionError):
        broken.run({"A": 0})
    with pytest.raises(ZeroDivisionError):
        broken.run({"A": np.zeros(1000, int)})


def test_samples_are_drawn_by_seed_and_meet_their_condition(model):
    assert model.sample(5, seed=1) == model.sample(5, seed=1) != model.sample(5, seed=2)
    fives = model.sample(50, seed=0, where=lambda values: values["S"] == 5)
    assert all(row["B"] + row["C"] == 5 and list(row) == ["A", "B", "C"] for row in fives)
    with pytest.raises(errors.Unsatisfiable, match="Can it be met at all"):
        model.sample(1, where=lambda values: values["S"] == 40)


def test_samples_are_equal_in_every_process(model):
    program = (
        "import interpose as ip; from interpose.tasks import adder;"
        "m = ip.CausalModel(L=ip.Variable({'a', 'b', 'c'}), n=ip.Variable(range(9)),"
        "Y=ip.Variable(lambda L, n: L * n));"
        "print(m.sample(5, seed=7), ip.Pairs.varying(m, 'n', n=4, seed=1).source, adder.pairs()['C'].base[:3])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_settings_enumerate_the_domain():
    model = ip.CausalModel(A=ip.Variable((0, 1)), B=ip.Variable("xy"), Y=ip.Variable(lambda A, B: (A, B)))
    assert [tuple(setting.values()) for setting in model.settings()] == [(0, "x"), (0, "y"), (1, "x"), (1, "y")]


def test_plain_callables_are_enough():
    scope = {}
    exec("def add(A, B):\n    return A + B", scope)
    model = ip.CausalModel(A=ip.Variable(), B=ip.Variable(), Y=ip.Variable(scope["add"]), Z=ip.Variable(_Doubled()))
    assert model.run({"A": 1, "B": 2}).values["Z"] == 6


class _Doubled:
    def __call__(self, Y, *, factor=2):
        return factor * Y


def test_keyword_only_arguments_are_parents_and_defaults_are_not():
    model = ip.CausalModel(A=ip.Variable(), B=ip.Variable(), Y=ip.Variable(lambda A, k=10, *, B: k * A + B))
    assert model.variables["Y"].parents == ("A", "B")
    assert model.run({"A": 1, "B": 2}).output == 12


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (lambda m: m.run({"A": 1, "B": 2}), errors.MissingInput, "The input lacks C. It needs A, B, C."),
        (
            lambda m: m.run({"A": 1, "B": 2, "C": 3, "D": 4}),
            errors.UnknownPlace,
            "There is no input 'D'. There are A, B, C.",
        ),
        (
            lambda m: m.run({"A": 1, "B": 2, "C": 3, "S": 4}),
            errors.UnknownPlace,
            "S is computed, not an input. To set it, pass write={'S': ...}.",
        ),
        (
            lambda m: m.run({"A": 1, "B": 2, "C": 3}, write={"T": 4}),
            errors.UnknownPlace,
            "The causal model has no variable 'T'. There are A, B, C, S, Y.",
        ),
        (
            lambda m: m.run({"A": 1, "B": 2, "C": 30}),
            errors.OutsideDomain,
            "C = 30 is outside its domain [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]. Variable(..., open=True) accepts values",
        ),
        (
            lambda m: m.run({"A": [1, 2], "B": [2], "C": 3}),
            errors.WrongShape,
            "Columns of unequal length: {'A': 2, 'B': 1}.",
        ),
        (
            lambda m: m.run({"A": [1, 2], "B": 2, "C": 3}, write={"S": [1, 2, 3]}),
            errors.WrongShape,
            "Cannot write a column of 3 values at S, which has 2 rows.",
        ),
        (lambda m: m.run([1, 2, 3]), errors.WrongInput, "A causal model runs on {'A': ..., 'B': ..., 'C': ...}"),
        (
            lambda m: m.run({"A": 1, "B": 2, "C": 3}, write={"S": lambda old: None}),
            errors.BadIntervention,
            "returned None",
        ),
        (lambda m: m.domain("S"), errors.UnknownPlace, "S is computed, not an input."),
        (
            lambda m: m.run({"A": 1, "B": 2, "C": 3}, write=[("S", 4)]),
            errors.WrongInput,
            "write says what to write where, as in write={'l1[1]': 0.0}, not [('S', 4)].",
        ),
    ],
)
def test_mistakes_with_a_model_are_named(model, act, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        act(model)


@pytest.mark.parametrize(
    ("build", "kind", "text"),
    [
        (
            lambda: ip.CausalModel(A=ip.Variable(lambda B: B), B=ip.Variable(lambda A: A)),
            errors.CyclicModel,
            "These variables depend on themselves: ",
        ),
        (lambda: ip.CausalModel(A=ip.Variable(lambda A: A)), errors.CyclicModel, "A -> A"),
        (
            lambda: ip.CausalModel(alpha=ip.Variable(), Y=ip.Variable(lambda alpah: 1)),
            errors.UnknownPlace,
            "Y has a parent 'alpah', which is no variable. Did you mean 'alpha'?",
        ),
        (lambda: ip.CausalModel(A=range(3)), errors.WrongInput, "A is range. Wrap it: A=Variable(range(0, 3))."),
        (lambda: ip.CausalModel(), errors.WrongInput, "at least one variable"),
        (lambda: ip.Variable(lambda *all: 1), errors.WrongInput, "Name its parents"),
        (lambda: ip.Variable(range(3), parents=("A",)), errors.WrongInput, "needs a mechanism"),
        (lambda: ip.Variable(range(3), domain=range(3)), errors.WrongInput, "has one domain"),
        (
            lambda: list(ip.CausalModel(A=ip.Variable(), Y=ip.Variable(lambda A: A)).settings()),
            errors.NoDomain,
            "A has no domain to draw from.",
        ),
        (
            lambda: ip.CausalModel(A=ip.Variable([]), Y=ip.Variable(lambda A: A)).sample(1),
            errors.Unsatisfiable,
            "its domain is empty",
        ),
        (
            lambda: ip.CausalModel(A=ip.Variable(range(2)), Y=ip.Variable(lambda A: A)).sample(-1),
            errors.WrongInput,
            "n=-1: there is no sample of so many.",
        ),
        (
            lambda: ip.Variable([[1], [2]]),
            errors.WrongInput,
            "The values of a domain are hashable: tuples, not lists. These are not: [[1], [2]].",
        ),
    ],
)
def test_mistakes_in_a_model_are_named_at_once(build, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        build()


def test_a_domain_may_be_open():
    model = ip.CausalModel(A=ip.Variable(range(3), open=True), Y=ip.Variable(lambda A: A))
    assert model.run({"A": 30}).output == 30


def test_a_domain_holds_for_computed_and_written_values_too():
    model = ip.CausalModel(A=ip.Variable(range(3)), Y=ip.Variable(lambda A: A + 1, domain=range(3)))
    with pytest.raises(errors.OutsideDomain, match="Y = 3"):
        model.run({"A": 2})
    with pytest.raises(errors.OutsideDomain, match="A = 9"):
        model.run({"A": [1, 2]}, write={"A": 9})


def test_no_argument_is_changed(model):
    inputs, write = {"A": [1, 2], "B": [2, 3], "C": [3, 4]}, {"S": [1, 1]}
    model.run(inputs, write=write)
    assert inputs == {"A": [1, 2], "B": [2, 3], "C": [3, 4]} and write == {"S": [1, 1]}


# -- columns hold what single values hold ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "mechanism"),
    [
        (np.array([200, 255] * 50, dtype=np.uint8), lambda A: A + 100),
        (np.full(100, 2**62), lambda A: A * 4),
        (np.arange(100) + 2**62, lambda A: A + A),
        (torch.arange(5000) + 2**61, lambda A: A * A),
        ([2**70] * 100, lambda A: A + 1),
        ([2**70, 1] * 50, lambda A: A - 1),
        (np.array([2**63 + 5] * 100, dtype=np.uint64), lambda A: A - 2**63),
        (np.array([1.5, 2.5] * 100, dtype=np.float32), lambda A: A / 3),
        (np.array(["a", "b"] * 50), lambda A: A + "!"),
        (np.array([True, False] * 50), lambda A: A + A),
    ],
)
def test_no_column_runs_over_or_loses_what_python_keeps(column, mechanism):
    model = ip.CausalModel(A=ip.Variable(), Y=ip.Variable(mechanism))
    rows = column if isinstance(column, list) else column.tolist()
    assert [int(v) if isinstance(v, np.integer) else v for v in list(model.run({"A": column}).output)] == [
        model.run({"A": row}).output for row in rows
    ]


def test_a_mechanism_that_works_in_place_harms_no_column():
    def doubled(A):
        A *= 2
        return A

    model = ip.CausalModel(A=ip.Variable(), Y=ip.Variable(doubled), Z=ip.Variable(lambda A: A + 0))
    for given in (np.arange(9000), torch.arange(9000), np.arange(20)):
        before = list(given)
        run = model.run({"A": given})
        assert list(given) == before == list(run["A"]) == list(run["Z"]) and run.output["Y"][3] == 6
    vectorised = ip.CausalModel(A=ip.Variable(), Y=ip.Variable(doubled, vectorised=True))
    assert list(vectorised.run({"A": np.arange(5)})["A"]) == [0, 1, 2, 3, 4]


def test_an_enumeration_is_a_domain():
    class Colour(enum.Enum):
        RED, BLUE = 1, 2

    model = ip.CausalModel(colour=ip.Variable(Colour), Y=ip.Variable(lambda colour: colour.name.lower()))
    assert model.run(list(model.settings())).output == ["red", "blue"]
    assert model.run({"colour": Colour.RED}).output == "red"


def test_a_domain_has_an_order_that_no_process_changes():
    with pytest.raises(errors.WrongInput, match="changes from process to process"):
        ip.Variable({(1, 2), (3, 4)})
    assert ip.Variable({"b", "a", 3, None}).domain == ip.Variable({None, 3, "a", "b"}).domain


@pytest.mark.parametrize(
    "domain", [np.arange(3), torch.arange(3), [np.int64(0), torch.tensor(1), np.array(2)], np.array([0, 1, 2, 1])]
)
def test_a_domain_of_arrays_or_tensors_holds_plain_values(domain):
    """Tensors are equal to nothing in a set: no input would be in such a domain, and every pair would differ."""
    model = ip.CausalModel(A=ip.Variable(domain), Y=ip.Variable(lambda A: 10 * A))
    assert model.domain("A") == (0, 1, 2) and {type(value) for value in model.domain("A")} == {int}
    assert model.run({"A": 2}).output == 20 and len(ip.Pairs.varying(model, "A")) == 6
    with pytest.raises(errors.OutsideDomain, match=re.escape("A = 3 is outside its domain [0, 1, 2].")):
        model.run({"A": 3})


def test_variables_need_not_be_called_by_strings():
    model = ip.CausalModel({0: ip.Variable(range(3)), ("a", 1): ip.Variable(lambda x: x + 1, parents=(0,))})
    assert model.run({0: 2}).output == 3 and ip.interchange(model, {0: 1}, {("a", 1): {0: 2}}).output == 3
    with pytest.raises(errors.UnknownPlace, match=re.escape("There is no input 1. There are 0.")):
        model.run({1: 2})


@pytest.mark.parametrize("column", [np.arange(9000), torch.arange(9000), torch.arange(9000.0).double()])
def test_where_python_raises_a_column_does_too(column):
    """Arrays give infinity where single numbers divide by zero; the row that does is none of those that are checked."""
    model = ip.CausalModel(A=ip.Variable(), Y=ip.Variable(lambda A: 1 / (A - 4321)))
    with pytest.raises(ZeroDivisionError):
        model.run({"A": column})


def test_a_few_middling_rows_that_run_over_are_seen():
    """Four rows of 9,000 are too long for 64 bits; none of them is among the rows that are checked singly."""
    model = ip.CausalModel(A=ip.Variable(), Y=ip.Variable(lambda A: (A % 4990) ** 5 * 3))
    output = model.run({"A": np.arange(9000)}).output
    assert [output[i] for i in range(4985, 4990)] == [i**5 * 3 for i in range(4985, 4990)]
