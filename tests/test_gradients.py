"""Gradients through interventions: autograd through a forward pass by hand, and finite differences."""

import pytest
import torch
from torch import nn

import architectures
import interpose as ip
from test_generation import IDS, every, last, oracle

CLOSE = {"atol": 1e-10, "rtol": 1e-8}


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return ip.Network(module, inputs=("A", "B", "C"))


def learned(*shape, seed=0, scale=1.0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    return values.requires_grad_()


def same_gradients(ours, theirs, *values):
    """Both functions give the same output, and the same gradient of a random sum of it, for each of the values."""
    one, other = ours(*values), theirs(*values)
    torch.testing.assert_close(one, other, **CLOSE)
    weights = torch.randn(one.shape, generator=torch.Generator().manual_seed(9), dtype=one.dtype)
    found, wanted = (torch.autograd.grad((weights * out).sum(), values) for out in (one, other))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
        assert float(a.abs().max()) > 1e-6


INPUTS = [[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]


def rest(net, h, start):
    return net.module[start:](h)


WAYS = {
    "a value set": (lambda v: ip.Set(v), (2, 5), lambda h, v: v),
    "a value set in every row": (lambda v: ip.Set(v, broadcast=True), (5,), lambda h, v: v.expand_as(h)),
    "a vector added": (lambda v: ip.Add(v, broadcast=True), (5,), lambda h, v: h + v),
    "a factor": (lambda v: ip.Scale(v, broadcast=True), (5,), lambda h, v: h * v),
    "a function": (lambda v: lambda old: torch.sin(old * v[0]) + v[1], (2, 5), lambda h, v: torch.sin(h * v[0]) + v[1]),
    "two in turn": (lambda v: ip.Chain(ip.Add(v), ip.Scale(v)), (2, 5), lambda h, v: (h + v) * v),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_of_an_intervention_is_autograds(way):
    net = network()
    make, shape, by_hand = WAYS[way]
    x = torch.tensor(INPUTS, dtype=torch.float64)
    v = learned(*shape)

    def ours(v):
        return net.run(INPUTS, write={"0": make(v)}).output

    same_gradients(ours, lambda v: rest(net, by_hand(net.module[0](x), v), 1), v)
    assert torch.autograd.gradcheck(ours, (v,))


def test_the_gradient_of_units_reaches_these_units_alone():
    net, v = network(), learned(2, 2)
    run = net.run(INPUTS, write={"0[(1, 3)]": ip.Set(v)}, read=["0", "2"])
    (through,) = torch.autograd.grad(run.output.sum(), v, retain_graph=True)
    assert through.shape == (2, 2) and bool((through != 0).all())
    (at_site,) = torch.autograd.grad(run["0"].sum(), v, retain_graph=True)
    assert torch.equal(at_site, torch.ones(2, 2, dtype=torch.float64))  # what is read is a part of the graph
    assert torch.autograd.gradcheck(lambda v: net.run(INPUTS, write={"0[(1, 3)]": ip.Set(v)}).output, (v,))


def test_gradients_flow_through_what_was_read_in_another_run():
    """A source run is a part of the graph too: its values are copies, not constants."""
    net = network()
    a, b = (torch.tensor(rows, dtype=torch.float64, requires_grad=True) for rows in (INPUTS, INPUTS[::-1]))

    def ours(a, b):
        return net.run(a, write={"2[(0, 2)]": ip.Set(net.run(b, read=["2[(0, 2)]"])["2[(0, 2)]"])}).output

    def by_hand(a, b):
        one, other = net.module[:3](a), net.module[:3](b)
        keep = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
        return rest(net, keep * one + (1 - keep) * other, 3)

    same_gradients(ours, by_hand, a, b)
    same_gradients(lambda a, b: ip.interchange(net, a, {"2[(0, 2)]": b}).output, by_hand, a, b)


def test_the_gradient_at_a_place_is_that_of_nothing_added():
    net = network()
    nothing = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(net.run(INPUTS, write={"2": ip.Add(nothing)}).output[:, 0].sum(), nothing)
    h = net.module[:3](torch.tensor(INPUTS, dtype=torch.float64)).detach().requires_grad_()
    (wanted,) = torch.autograd.grad(rest(net, h, 3)[:, 0].sum(), h)
    torch.testing.assert_close(ours, wanted, **CLOSE)


# -- language models -----------------------------------------------------------------------------------------


def language_model(kind="llama"):
    module = architectures.build(kind)
    if kind == "llama":
        module.set_attn_implementation("sdpa")  # and so is the softmax of eager attention
    for path, part in list(module.named_modules()):
        if type(part).__name__ == "LlamaRMSNorm":  # which computes in single precision: too coarse for differences
            norm = nn.RMSNorm(32, eps=part.variance_epsilon)
            norm.load_state_dict(part.state_dict())
            module.set_submodule(path, norm)
    return ip.LanguageModel(module.double())


def by_hooks(lm, ids, *hooks):
    """Logits of the last token, with a function of the output of each of some modules in its place."""
    handles = [lm.module.get_submodule(path).register_forward_hook(lambda m, a, out, f=f: f(out)) for path, f in hooks]
    try:
        return lm.module(ids).logits[:, -1]
    finally:
        for handle in handles:
            handle.remove()


def test_the_gradient_of_a_learned_vector_in_a_language_model():
    lm, v = language_model(), learned(32)

    def put(out):
        return torch.cat([out[:, :2], out[:, 2:3] + v, out[:, 3:]], 1)

    def ours(v):
        return lm.run(IDS, write={"layer 1 @ 2": ip.Add(v, broadcast=True)}).output

    same_gradients(ours, lambda v: by_hooks(lm, IDS, ("model.layers.1", put)), v)
    assert torch.autograd.gradcheck(lambda v: ours(v)[:, :3], (v,))


def test_the_gradient_of_a_head_and_a_residual_stream_together():
    lm, head, stream = language_model(), learned(2, 8), learned(2, 32, seed=1)
    write = lambda head, stream: {"layer 0 head 1 @ -1": ip.Set(head), "layer 1 @ 0": ip.Set(stream)}

    def by_hand(head, stream):
        attention = lm.module.model.layers[0].self_attn.o_proj
        handle = attention.register_forward_pre_hook(
            lambda _m, args: (
                torch.cat(
                    [args[0][:, :-1], torch.cat([args[0][:, -1:, :8], head[:, None], args[0][:, -1:, 16:]], -1)], 1
                ),
            )
        )
        with_stream = ("model.layers.1", lambda out: torch.cat([stream[:, None], out[:, 1:]], 1))
        found = by_hooks(lm, IDS, with_stream)
        handle.remove()
        return found

    same_gradients(lambda *v: lm.run(IDS, write=write(*v)).output, by_hand, head, stream)


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "mamba"])
def test_the_gradient_of_the_inputs_embeddings(kind):
    lm = language_model(kind)
    table = lm.module.get_input_embeddings()
    embedded = table(IDS).detach().requires_grad_()

    def ours(embedded):
        return lm.run(IDS, write={lm.embeddings()[0]: ip.Set(embedded)}).output

    same_gradients(ours, lambda e: lm.module(inputs_embeds=e).logits[:, -1], embedded)
    if kind == "llama":
        few = embedded[:1, :2].detach().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda e: lm.run(IDS[:1, :2], write={lm.embeddings()[0]: ip.Set(e)}).output[:, :2], (few,)
        )


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_gradients_flow_through_the_steps_of_a_generation(kind):
    """What was written to the prompt acts on later steps through the cache, and so does its gradient."""
    lm, v, u = language_model(kind), learned(32), learned(32, seed=1)
    path = lm.residual()[1].path

    def run(v, u):
        write = {path: {0: ip.Add(v, broadcast=True)}, f"{path}[-1, :]": {2: ip.Scale(u, broadcast=True)}}
        return lm.generate(IDS, tokens=4, write=write, stop=[])

    def by_hand(v, u):
        writes = [(path, "output", 0, every, lambda x: x + v), (path, "output", 2, last, lambda x: x * u)]
        return oracle(lm, IDS, 4, writes)[0]

    same_gradients(lambda v, u: run(v, u).logits, by_hand, v, u)
    (early,) = torch.autograd.grad(run(v, u).steps[1].output.sum(), u, allow_unused=True)
    assert early is None  # step 1 comes before step 2


# -- what is asked for, and nothing else ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [network, language_model])
def test_the_parameters_gradients_are_left_alone_unless_asked_for(make):
    model = make()
    place, inputs = ("2", INPUTS) if make is network else ("layer 1 @ -1", IDS)
    v = learned(4 if make is network else 32)
    kept = {}
    for name, parameter in model.module.named_parameters():
        kept[name] = torch.full_like(parameter, 7.0)
        parameter.grad = kept[name]
    run = model.run(inputs, write={place: ip.Add(v, broadcast=True)})
    run.output.sum().backward(inputs=[v])
    assert v.grad is not None and float(v.grad.abs().max()) > 0
    for name, parameter in model.module.named_parameters():
        assert parameter.grad is kept[name] and bool((parameter.grad == 7).all()) and parameter.requires_grad
    weight = next(model.module.parameters())
    again = model.run(inputs, write={place: ip.Add(v, broadcast=True)}).output
    assert float(torch.autograd.grad(again.sum(), weight)[0].abs().max()) > 0


@pytest.mark.parametrize("make", [network, language_model])
def test_without_gradients_there_are_none(make):
    model = make()
    place, inputs = ("2", INPUTS) if make is network else ("layer 1 @ -1", IDS)
    v = learned(4 if make is network else 32)
    with torch.no_grad():
        run = model.run(inputs, read=[place], write={place: ip.Add(v, broadcast=True)})
        assert not run.output.requires_grad and not run[place].requires_grad
    with torch.inference_mode():
        assert not model.run(inputs, write={place: ip.Add(v.detach(), broadcast=True)}).output.requires_grad
    assert model.run(inputs, write={place: ip.Add(v, broadcast=True)}).output.requires_grad
    ledger = model.run(inputs, write={place: ip.Add(v, broadcast=True)}).ledger
    assert not ledger[0].new.requires_grad  # the ledger keeps no graph alive


def test_a_vector_is_learned_that_steers_a_language_model():
    """The point of it all: a few steps of descent make the model say what it did not."""
    lm = ip.LanguageModel(architectures.build("llama"))
    wanted = torch.tensor([11, 11])
    v = torch.zeros(32, requires_grad=True)
    optimizer = torch.optim.Adam([v], lr=0.1)
    for _ in range(60):
        logits = lm.run(IDS, write={"layer 1 @ -1": ip.Add(v, broadcast=True)}).output
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, wanted).backward(inputs=[v])
        optimizer.step()
    with torch.no_grad():
        assert (lm.run(IDS).output.argmax(-1) != wanted).all()
        steered = lm.generate(IDS, tokens=3, write={"layer 1 @ -1": ip.Add(v, broadcast=True)}, stop=[])
    assert [row[0] for row in steered.ids] == wanted.tolist()
    assert all(parameter.grad is None for parameter in lm.module.parameters())
