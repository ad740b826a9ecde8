"""What a user types: the blocks of the public face, as they are written there, executed."""

import pytest
import torch

import interpose as ip
import tiny
from interpose.tasks import adder

module = adder.Adder()
hypothesis = ip.CausalModel(
    A=ip.Variable(range(10)),
    B=ip.Variable(range(10)),
    C=ip.Variable(range(10)),
    S=ip.Variable(lambda B, C: B + C),
    Y=ip.Variable(lambda A, S: A + S),
)
net = ip.Network(
    module,
    inputs=("A", "B", "C"),
    names={"h12": "l1[1]", "h13": "l1[2]"},
)


def test_1_a_hypothesis_is_a_causal_model():
    assert hypothesis.run({"A": 1, "B": 2, "C": 3}).output == 6
    assert hypothesis.run({"A": 1, "B": 2, "C": 3}, write={"S": 4}).output == 5
    named = ip.CausalModel(
        {
            "A": ip.Variable(range(10)),
            "B": ip.Variable(range(10)),
            "A+B": ip.Variable(lambda a, b: a + b, parents=("A", "B")),
        }
    )
    assert named.run({"A": 1, "B": 2}).output == 3


def test_2_a_network_is_a_causal_model_too():
    net = ip.Network(module, inputs=("A", "B", "C"), names={"h12": "l1[1]"})
    assert "h12" in repr(net) and [str(site) for site in net.sites()] == ["A", "B", "C", "l1", "l2", "l3"]
    run = net.run([1, 2, 3], read=["l1", "h12"])
    assert run["h12"].item() == pytest.approx(8.1) and run.output.item() == pytest.approx(6)
    assert net.run([1, 2, 3], write={"h12": 12.1}).output.item() == pytest.approx(7)
    assert net.run([1, 2, 3], write={"l2[2]": -100}).output.item() == pytest.approx(6)
    assert ip.interchange(net, [1, 2, 3], {"h12": [4, 2, 3]}).output.item() == pytest.approx(9)


def test_3_pairs_know_what_varies():
    pairs = ip.Pairs.varying(hypothesis, "A", n=50, seed=42)
    assert len(pairs.base) == len(pairs.source) == len(pairs.swapped()) == 50
    assert sum(map(len, pairs.split(seed=0))) == 50
    assert len(ip.Pairs(base=[[1, 2, 3], [4, 5, 6]], source=[[4, 2, 3], [1, 5, 6]])) == 2


def test_4_effects_with_their_names_kept_apart():
    pairs = ip.Pairs.varying(hypothesis, "A", n=50, seed=42)
    table = ip.effects(net, pairs, ["h12"], metric=ip.value).table()
    assert [row[1] for row in table.rows] == ["TE", "NIE", "TIE", "NDE", "TDE", "INT"]
    assert all(row[4] for row in table.rows)


def test_5_scan():
    pairs = ip.Pairs.varying(hypothesis, "A", n=50, seed=42)
    scan = ip.scan(net, pairs, net.neurons("l1", "l2"), metric=ip.matches)
    assert [str(site) for site in scan.mediators()] == ["h12", "l2[1]"]
    assert scan.heatmap().svg() and str(scan.table())
    assert {"te", "nie", "tie", "nde", "tde", "int"} <= set(scan.data) and scan.data.nie.dims == (
        "pair",
        "layer",
        "unit",
    )


def test_6_test_a_claim():
    claim = ip.Alignment(hypothesis, {"A": "h12", "S": "h13"})
    accuracy = ip.interchange_accuracy(net, claim, n=1000, seed=0)
    assert (accuracy.score, accuracy.ceiling, accuracy.failures()) == (1.0, 1.0, [])
    assert accuracy.interval[0] > 0.99 and accuracy.floor < 0.2


def test_8_language_models(tmp_path):
    lm = ip.LanguageModel.load(str(tiny.saved(tmp_path)))
    again = ip.LanguageModel(lm.module, lm.tokenizer)
    base, source = ["The city of Paris is in"], ["The city of Rome is in"]
    pairs = ip.Pairs.from_prompts(lm, base=base, source=source, answers=[(" France", " Italy")])
    ids, ids2, answer_ids = (
        torch.tensor(rows) for rows in ([lm.token_ids(base[0])], [lm.token_ids(source[0])], [[5, 6]])
    )
    assert len(ip.Pairs.from_tokens(base=ids, source=ids2, answers=answer_ids)) == 1
    flow = ip.scan(lm, pairs, lm.residual(), metric=ip.logit_difference)
    assert flow.data.nie.dims == ("pair", "layer", "position") and flow.heatmap().svg()
    assert len(again.residual(layers=[1, 2], positions=[-1])) == 2
    prompt, other_prompt = base[0], source[0]
    run = ip.interchange(lm, prompt, dict.fromkeys(lm.residual(layers=[2]), other_prompt))
    torch.testing.assert_close(run.output, lm.run(other_prompt).output)
    run = ip.interchange(lm, ids, dict.fromkeys(lm.residual(layers=[2]), ids2))
    torch.testing.assert_close(run.output, lm.run(other_prompt).output)


def test_9_pictures_are_objects():
    assert ip.draw(hypothesis)._repr_mimebundle_()
    assert ip.draw(hypothesis, {"A": 1, "B": 2, "C": 3}, write={"S": 4}).svg()
    assert ip.draw_interchange(net, [1, 2, 3], {"h12": [4, 2, 3]}).svg()
