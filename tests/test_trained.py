"""Networks that nobody built: what is said of them is honest, whatever it is."""

import pytest
import torch

import interpose as ip
from interpose import errors
from interpose.tasks.trained import TASKS, task, trained
from interpose.tasks.trained.networks import WEIGHTS, examples, path_of
from interpose.tasks.trained.training import right, train


@pytest.mark.parametrize("name", TASKS)
def test_the_weights_that_are_shipped_do_the_task(name):
    assert right(task(name), trained(name).module) == 1.0


def test_the_weights_are_small_and_nothing_lies_beside_them():
    assert {file.name for file in WEIGHTS.iterdir()} == {path_of(name).name for name in TASKS}
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 100_000


def test_a_name_that_is_none_is_refused():
    with pytest.raises(errors.WrongInput, match=r"no trained network 'adition'.*addition"):
        trained("adition")


def test_training_starts_from_its_seed_and_learns():
    one, again, other = (train("gates", seed=seed, steps=150) for seed in (1, 1, 2))
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True)]
    assert all(same) and not torch.equal(next(one.parameters()), next(other.parameters()))
    inputs, target = examples(task("gates"))
    with torch.no_grad():
        error = (one(inputs) - target).square().mean()
    assert float(error) < float((target.float() - target.float().mean()).square().mean()) / 2


@pytest.mark.parametrize(
    "name", ["addition, few weights", "gates, few weights", "modular addition", "modular addition, transformer"]
)
def test_what_is_found_is_said_with_its_limits(name):
    of, net = task(name), trained(name)
    sites = [site for site in net.neurons() if str(site).startswith(of.sites)] if of.sites else None
    found = ip.discover(net, of.inputs, sites=sites)
    assert found.verdict in ("partial", "none") and len(found.curve) > 1
    assert "implements" not in found.explain() and "What this cannot tell" in found.explain()
    told = {str(site) for layer in found.layers for held in (*layer.held, *layer.graded) for site in held.group}
    told |= {str(site) for layer in found.layers for site in layer.distributed} | set(map(str, found.inert))
    assert told == {str(site) for site in sites or net.neurons()}, "every site is told of"


def test_a_gate_that_was_learned_is_named_and_the_name_survives_interchange():
    """One neuron of the sparse network tells "C or D" from neither, and nothing else, by our own oracle too."""
    net, of = trained("gates, few weights"), task("gates, few weights")
    found = ip.discover(net, of.inputs)
    (site,) = [site for name, site in found.curve[0].named if name == "C or D"]
    rows, _ = examples(of)
    held = net.run(rows, read=[site])[site]
    outputs = torch.stack([net.run(rows, write={site: ip.Set(one, broadcast=True)}).output for one in held])
    either = rows[:, 2] | rows[:, 3]
    for value in (0, 1):
        alike = outputs[either == value]
        assert float((alike - alike[0]).abs().max()) < found.asked
    assert float((outputs[either == 0][0] - outputs[either == 1][0]).abs().max()) > found.asked
