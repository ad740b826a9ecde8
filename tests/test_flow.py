"""Rules of dependence, each held against what happens when numbers are changed; and state, found and put back."""

import collections
import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from interpose.flow.rules import RULES
from interpose.flow.state import kept
from interpose.flow.trace import Trace, Traced

from known import numbers, seeded

X, Y, SQUARE, IMAGE = (3, 4), (4, 5), (4, 4), (2, 4, 6, 6)
INDEX = torch.tensor([[0, 2, 1, 1], [1, 0, 3, 3], [2, 2, 2, 0]])
FLAGS = torch.tensor([[True, False, True, False], [False, False, True, True], [True, True, False, False]])

OPERATIONS = {
    "add": (lambda x, y: x + y, X, (4,)),
    "subtract a row": (lambda x, y: torch.sub(x, y, alpha=2), X, (3, 1)),
    "mul": (lambda x, y: x * y, X, X),
    "mul by a column": (lambda x, y: x * y, X, (3, 1)),
    "mul by no number": (lambda x: x * 0 + x * 2.0, X),
    "mul in place": (lambda x, y: (x + 0).mul_(y), X, X),
    "div": (lambda x, y: x / y, X, X),
    "gelu": (functional.gelu, X),
    "relu in place": (lambda x: functional.relu(x + 0, inplace=True), X),
    "prelu": (lambda x, y: functional.prelu(x, y), X, (4,)),
    "clamp": (lambda x, y: torch.clamp(x, min=y), X, X),
    "addcmul": (torch.addcmul, X, X, X),
    "lerp": (torch.lerp, X, X, X),
    "compare": (lambda x, y: (x > y).double(), X, X),
    "where a flag": (lambda x, y: torch.where(FLAGS, x, y), X, X),
    "where data": (lambda x, y: torch.where(x > 0, y, 2.0), X, X),
    "masked fill": (lambda x: x.masked_fill(FLAGS, 0.0), X),
    "masked fill in place": (lambda x, y: (x + 0).masked_fill_(FLAGS[:1], y), X, ()),
    "masked by data": (lambda x, y: x.masked_fill(y > 0, 0.0), X, X),
    "mm": (torch.mm, X, Y),
    "matmul of three axes": (lambda x, y: x.expand(2, 3, 4) @ y, X, Y),
    "bmm": (torch.bmm, (2, 3, 4), (2, 4, 5)),
    "baddbmm": (torch.baddbmm, (2, 3, 5), (2, 3, 4), (2, 4, 5)),
    "addmm": (torch.addmm, (5,), X, Y),
    "mv": (torch.mv, X, (4,)),
    "addmv": (torch.addmv, (3,), X, (4,)),
    "dot": (torch.dot, (4,), (4,)),
    "a batch by a vector": (lambda x, y: torch.matmul(x, y), (2, 3, 4), (4,)),
    "linear": (functional.linear, X, (5, 4), (5,)),
    "einsum": (lambda x, y: torch.einsum("ij,jk->ki", x, y), X, Y),
    "outer": (torch.outer, (3,), (4,)),
    "conv1d": (lambda x, w: functional.conv1d(x, w, stride=2, padding=1), (2, 3, 6), (4, 3, 2)),
    "conv2d": (lambda x, w, b: functional.conv2d(x, w, b, dilation=2), IMAGE, (3, 4, 2, 2), (3,)),
    "conv2d in groups": (lambda x, w: functional.conv2d(x, w, groups=2), IMAGE, (6, 2, 3, 3)),
    "conv transposed": (
        lambda x, w: functional.conv_transpose2d(x, w, stride=2, output_padding=1),
        (1, 2, 3, 3),
        (2, 3, 2, 2),
    ),
    "embedding": (lambda t, x: functional.embedding((x > 0).long(), t), (2, 5), X),
    "layer norm": (lambda x, w, b: functional.layer_norm(x, (4,), w, b), X, (4,), (4,)),
    "layer norm of two axes": (lambda x: functional.layer_norm(x, (3, 4)), (2, 3, 4)),
    "rms norm": (lambda x, w: functional.rms_norm(x, (4,), w), X, (4,)),
    "batch norm": (
        lambda x, w, b: functional.batch_norm(x, torch.zeros(4).double(), torch.ones(4).double(), w, b),
        IMAGE,
        (4,),
        (4,),
    ),
    "instance norm": (lambda x, w: functional.instance_norm(x, weight=w), IMAGE, (4,)),
    "group norm": (lambda x, w: functional.group_norm(x, 2, w), IMAGE, (4,)),
    "softmax": (lambda x: x.softmax(0), X),
    "log softmax": (lambda x: x.log_softmax(-1), X),
    "attention": (
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        *[(1, 1, 3, 2)] * 3,
    ),
    "sort": (lambda x: x.sort(-1).values, X),
    "rank": (lambda x: x.argsort(0).double(), X),
    "topk": (lambda x: x.topk(2, dim=0).values, X),
    "cumsum": (lambda x: x.cumsum(0), X),
    "cumulative maximum": (lambda x: x.cummax(1).values, X),
    "sum": (lambda x: x.sum(), X),
    "sum of an axis": (lambda x: x.sum(0), X),
    "mean that keeps": (lambda x: x.mean((0, 2), keepdim=True), (2, 3, 4)),
    "maximum": (lambda x: x.max(), X),
    "maximum of an axis": (lambda x: x.max(1).values, X),
    "maximum of two": (lambda x, y: torch.max(x, y), X, X),
    "argmax": (lambda x: x.argmax(1).double(), X),
    "any": (lambda x: (x > 0).any(0).double(), X),
    "deviation": (lambda x: x.std(1), X),
    "norm": (lambda x: x.norm(dim=0), X),
    "product": (lambda x: x.prod(1), X),
    "logsumexp": (lambda x: x.logsumexp(0), X),
    "max pool": (lambda x: functional.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True), IMAGE),
    "max pool with gaps": (lambda x: functional.max_pool2d(x, 2, dilation=2), IMAGE),
    "average pool": (lambda x: functional.avg_pool2d(x, 2, stride=1), IMAGE),
    "adaptive pool": (lambda x: functional.adaptive_avg_pool2d(x, (4, 5)), IMAGE),
    "adaptive max pool": (lambda x: functional.adaptive_max_pool2d(x, (4, 5)), IMAGE),
    "pool of a row": (lambda x: functional.adaptive_avg_pool1d(x, 3), (2, 3, 7)),
    "glu": (lambda x: functional.glu(x, 1), X),
    "views": (lambda x: x.t().reshape(2, 6).unsqueeze(1).expand(2, 3, 6).permute(2, 0, 1)[1:4].flatten(), X),
    "unfold": (lambda x: x.unfold(1, 2, 1), X),
    "as strided": (lambda x: (x + 0).as_strided((4, 2), (3, 2)), X),
    "cat": (lambda x, y: torch.cat([x, y, x], 1), X, (3, 2)),
    "stack": (lambda x, y: torch.stack([x, y], 1), X, X),
    "split": (lambda x: x.split([1, 3], 1)[1], X),
    "flip and roll": (lambda x: x.flip(0).roll(1, 1), X),
    "repeat": (lambda x: x.repeat(2, 3), X),
    "repeat interleaved": (lambda x: x.repeat_interleave(2, 1), X),
    "triangle": (lambda x: x.tril(1).triu(-1), SQUARE),
    "pad": (lambda x: functional.pad(x, (1, 2), value=3.0), X),
    "reflect": (lambda x: functional.pad(x, (1, 2), mode="reflect"), X),
    "diagonal": (lambda x: torch.diag_embed(x), X),
    "gather": (lambda x: x.gather(1, INDEX), X),
    "gather where data says": (lambda x, y: x.gather(1, y.argsort(1)), X, X),
    "index": (lambda x: x[[2, 0], [1, 3]], X),
    "index by flags": (lambda x: x[FLAGS], X),
    "index by rows": (lambda x: x.index_select(0, torch.tensor([2, 0, 0])), X),
    "index where data says": (lambda x, y: x[y[:, 0].argsort()], X, X),
    "put": (lambda x, y: x.index_put((torch.tensor([0, 2]),), y), X, (2, 4)),
    "put in place": (lambda x, y: (x + 0).index_put_((torch.tensor([0, 2]), torch.tensor([1, 1])), y), X, (2,)),
    "put by flags": (lambda x, y: (x + 0).index_put_((FLAGS,), y), X, ()),
    "write rows": (lambda x, y: _written(x, y), X, (2, 2)),
    "scatter": (lambda x, y: x.scatter(1, INDEX[:, :2], y), X, X),
    "scatter and add": (lambda x, y: x.scatter_add(1, INDEX, y), X, X),
    "index add": (lambda x, y: x.index_add(0, torch.tensor([2, 2]), y), X, (2, 4)),
    "index copy": (lambda x, y: x.index_copy(1, torch.tensor([3, 0]), y), X, (3, 2)),
    "copy of a part": (lambda x, y: torch.slice_scatter(x, y, 1, 1, 3), X, (3, 2)),
    "copy of a row": (lambda x, y: torch.select_scatter(x, y, 0, 1), X, (4,)),
    "fill": (lambda x, y: (x + 0).fill_(y) + x, X, ()),
    "upsample": (lambda x: functional.interpolate(x, scale_factor=2), IMAGE),
    "upsample smoothly": (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), (1, 1, 2, 3)),
    "columns of an image": (lambda x: functional.unfold(x, 2), (1, 2, 3, 4)),
    "complex": (lambda x, y: torch.view_as_real(torch.view_as_complex(torch.stack([x, y], -1)) * 1j), X, X),
    "inverse": (lambda x: torch.linalg.inv(x), SQUARE),
    "fourier": (lambda x: torch.fft.rfft(x).abs(), X),
    "lstm": (lambda x: torch.gru_cell(x, x[:, :2] * 2, *_gates()), X),
    "zeros like": (lambda x: torch.zeros_like(x) + x[:1], X),
    "into memory that is not set": (lambda x, y: torch.add(x, y, out=torch.empty(3, 4).double()), X, X),
    "turned in place": (lambda x: (x + 0).t_().unsqueeze_(0) * 2, X),
    "a list of tensors": (lambda x, y: torch._foreach_mul([x, y], 2.0)[1], X, X),
}


def _written(x, y):
    x = x + 0
    x[1:, ::2] = y
    x.t()[3].mul_(2)
    return x


def _gates():
    return numbers(6, 4), numbers(6, 2, seed=1), numbers(6, seed=2), numbers(6, seed=3)


def arguments(name, seed, known):
    """The tensors an operation is called with; those that are known hold zeros."""
    function, *shapes = OPERATIONS[name]
    given = [numbers(1, *shape, seed=seed + number)[0] for number, shape in enumerate(shapes)]
    generator = torch.Generator().manual_seed(seed)
    for number in known:
        given[number] *= torch.rand(given[number].shape, generator=generator) < 0.5
    return function, given


def traced(function, given, known):
    """The tape of a call, and the view of what it gives."""
    trace = Trace({})
    with torch.no_grad(), trace.following():
        output = function(*(x if number in known else trace.give(x) for number, x in enumerate(given)))
    assert trace.refusal is None, trace.refusal
    assert torch.allclose(output.cell.real, function(*given))
    return trace.tape, output.cell.view


def reached(tape, view, number, element):
    masks = {}
    given = tape.given[number]
    mask = torch.zeros(given.shape, dtype=torch.bool)
    mask.view(-1)[element] = True
    given.add(masks, mask)
    collections.deque(tape.forward(masks), 0)
    found = view.get(masks)
    return torch.zeros(view.shape, dtype=torch.bool) if found is None else found


CASES = [
    (name, known)
    for name, (_, *shapes) in OPERATIONS.items()
    for known in [set(), *({number} for number in range(len(shapes)) if len(shapes) > 1)]
]


@pytest.mark.parametrize(
    ("name", "known"), CASES, ids=[f"{name} {sorted(known) or ''}".strip() for name, known in CASES]
)
def test_a_rule_never_misses_a_number_that_moves(name, known):
    for seed in (0, 10):
        function, given = arguments(name, seed, known)
        tape, view = traced(function, given, known)
        before = function(*given)
        loose = [number for number in range(len(given)) if number not in known]
        for place, number in enumerate(loose):
            for element in range(min(given[number].numel(), 12)):
                can = reached(tape, view, place, element)
                for change in (0.7, -40.0, 1e3):
                    others = [x.clone() for x in given]
                    others[number].view(-1)[element] += change
                    apart = ~torch.isclose(function(*others), before, rtol=1e-9, atol=1e-9, equal_nan=True)
                    assert not bool((apart & ~can).any()), (number, element, change)


@pytest.mark.parametrize(
    ("name", "known"), CASES, ids=[f"{name} {sorted(known) or ''}".strip() for name, known in CASES]
)
def test_backwards_is_the_transpose_of_forwards(name, known):
    tape, view = traced(*arguments(name, 0, known), known)
    generator = torch.Generator().manual_seed(1)
    wanted = torch.rand(view.shape, generator=generator) < 0.3
    masks = {}
    view.add(masks, wanted)
    collections.deque(tape.backward(masks), 0)
    for number, given in enumerate(tape.given):
        needed = given.get(masks)
        needed = torch.zeros(given.shape, dtype=torch.bool) if needed is None else needed
        for element in range(min(needed.numel(), 12)):
            assert bool(needed.view(-1)[element]) == bool((reached(tape, view, number, element) & wanted).any())


EXACT = [
    ("mm", {1}),
    ("mm", {0}),
    ("linear", {1}),
    ("mul", {1}),
    ("conv2d in groups", {1}),
    ("conv transposed", {1}),
    ("layer norm", {1}),
    ("batch norm", {1, 2}),
    ("masked fill", set()),
    ("where a flag", {1}),
    ("cumsum", set()),
    ("gather", set()),
    ("write rows", set()),
    ("put in place", {0}),
    ("pad", set()),
    ("as strided", set()),
]


@pytest.mark.parametrize(("name", "known"), EXACT, ids=[name for name, _ in EXACT])
def test_the_rules_of_linear_layers_and_of_moving_numbers_are_exact(name, known):
    function, given = arguments(name, 0, known)
    tape, view = traced(function, given, known)
    loose = [number for number in range(len(given)) if number not in known]
    with torch.enable_grad():
        slopes = torch.autograd.functional.jacobian(
            lambda *x: function(*(x[loose.index(n)] if n in loose else g for n, g in enumerate(given))),
            tuple(given[number] for number in loose),
        )
    for place, number in enumerate(loose):
        flat = slopes[place].reshape(*view.shape, -1)
        for element in range(given[number].numel()):
            assert torch.equal(reached(tape, view, place, element), flat[..., element] != 0), (number, element)


def test_every_rule_is_tried_here():
    met = set()
    for name, known in CASES:
        tape, _ = traced(*arguments(name, 0, known), known)
        met |= {step.relation.args[0].name for step in tape.steps if isinstance(step.relation, functools.partial)}
    rules = {RULES[name] for name in met if name in RULES}
    assert {rule.__name__ for rule in set(RULES.values()) - rules} == {"linear"}  # which torch takes apart


# -- state ------------------------------------------------------------------------------------------------------


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.list, self.dict, self.set, self.queue = [1, [2]], {"a": {"b": 1}}, {1}, collections.deque([1, 2])
        self.array, self.number, self.nothing = np.zeros(2), 1, None
        self.slotted, self.weight = Slotted(), nn.Parameter(torch.zeros(2))
        self.chance, self.numpys = random.Random(0), np.random.default_rng(0)
        self.torchs = torch.Generator().manual_seed(0)


class Slotted:
    __slots__ = ("inner", "value")

    def __init__(self):
        self.value = 1
        self.inner = [1]


def _weights_gradient(module):
    module.weight.grad = torch.ones_like(module.weight)


CHANGES = {
    "a list": (lambda m: m.list.append(3), lambda m: m.list == [1, [2]]),
    "a list in a list": (lambda m: m.list[1].clear(), lambda m: m.list == [1, [2]]),
    "a dict in a dict": (lambda m: m.dict["a"].update(b=2, c=3), lambda m: m.dict == {"a": {"b": 1}}),
    "a set": (lambda m: m.set.add(2), lambda m: m.set == {1}),
    "a queue": (lambda m: m.queue.popleft(), lambda m: list(m.queue) == [1, 2]),
    "an array": (lambda m: m.array.fill(1), lambda m: m.array.sum() == 0),
    "a number": (lambda m: setattr(m, "number", 2), lambda m: m.number == 1),
    "nothing": (lambda m: setattr(m, "nothing", torch.ones(1)), lambda m: m.nothing is None),
    "something new": (lambda m: setattr(m, "more", 1), lambda m: not hasattr(m, "more")),
    "a slot": (lambda m: setattr(m.slotted, "value", 2), lambda m: m.slotted.value == 1),
    "a list in a slot": (lambda m: m.slotted.inner.append(2), lambda m: m.slotted.inner == [1]),
    "random numbers": (lambda m: m.chance.random(), lambda m: m.chance.random() == random.Random(0).random()),
    "numpy's": (lambda m: m.numpys.random(), lambda m: m.numpys.random() == np.random.default_rng(0).random()),
    "torch's": (
        lambda m: torch.rand(1, generator=m.torchs),
        lambda m: torch.equal(m.torchs.get_state(), torch.Generator().manual_seed(0).get_state()),
    ),
    "a gradient": (_weights_gradient, lambda m: m.weight.grad is None),
    "a training mode": (lambda m: m.train(), lambda m: not m.training),
    "Python's": (lambda m: random.random(), lambda m: True),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_module_keeps_is_compared_and_put_back(what):
    change, as_before = CHANGES[what]
    module = seeded(Keeps)
    with kept(module) as before:
        assert before.change() is None and before.opaque is None
        change(module)
        assert before.change() is not None
    assert as_before(module)


def test_numbers_in_tensors_are_compared_and_not_put_back():
    module = seeded(Keeps)
    with kept(module) as before, torch.no_grad():
        module.weight += 1
        assert before.change() == "a tensor [2]"


def test_what_is_left_of_a_trace_is_what_it_stood_for():
    trace = Trace({})
    x = numbers(3)
    with torch.no_grad(), trace.following():
        y = trace.give(x) * 2
    assert isinstance(y, Traced) and torch.equal(y + 1, 2 * x + 1)
