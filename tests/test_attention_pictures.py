"""Pictures of attention patterns: what they show is what a run gives."""

import pytest
import torch

import interpose as ip
import tiny
from architectures import build
from interpose import errors
from interpose.plots.patterns import patterns

PROMPT = "The city of Paris is"


@pytest.fixture(scope="module")
def lm():
    return ip.LanguageModel(tiny.model("gpt2"), tiny.tokenizer())


def shown(ax):
    """The weights in a panel, hidden ones as 0."""
    return torch.as_tensor(ax.get_images()[0].get_array().filled(0.0))


def test_a_panel_a_head_holds_its_pattern_with_the_tokens_as_names(lm):
    picture = ip.draw_attention(lm, PROMPT, layer=1, heads=[2, 0])
    run = lm.run(PROMPT, read=lm.patterns(layers=[1]))
    first, second = picture.figure.axes[:2]
    for ax, head in ((first, 2), (second, 0)):
        assert ax.get_title() == f"head {head}"
        assert torch.allclose(shown(ax).float(), run[f"layer 1 pattern {head}"][0], atol=1e-6)
        assert [label.get_text() for label in ax.get_xticklabels()] == ["The", "city", "of", "Paris", "is"]
        assert ax.get_images()[0].get_clim() == (0, 1)
    assert [label.get_text() for label in first.get_yticklabels()] == ["The", "city", "of", "Paris", "is"]
    assert picture.title == "GPT2LMHeadModel, layer 1: what each token (row) attends to"


def test_what_a_mask_hides_is_hatched_and_has_no_colour(lm):
    (ax, *_) = ip.draw_attention(lm, PROMPT, layer=0, heads=[0]).figure.axes
    hidden = ax.get_images()[0].get_array().mask
    assert (hidden == torch.ones(5, 5).triu(1).bool().numpy()).all()
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    area = sum(abs(piece.get_extents().width * piece.get_extents().height) for piece in parts(hatched))
    assert len(hatched) == 1 and area == 10
    (open_, *_) = ip.draw_attention(ip.LanguageModel(build("bert")), [5, 6, 7], layer=0, heads=[0]).figure.axes
    assert not any(patch.get_hatch() for patch in open_.patches)


def parts(hatched):
    """The rectangles of a compound path."""
    from matplotlib.path import Path

    points = hatched[0].get_path().vertices.reshape(-1, 5, 2)
    return [Path(rectangle) for rectangle in points]


def test_long_prompts_and_many_heads_name_as_many_tokens_as_there_is_room_for():
    names = [f"word{t}" for t in range(64)]
    pattern = torch.ones(64, 64).tril().double()
    picture = patterns(
        {f"head {h}": (pattern / pattern.sum(1, keepdim=True)).numpy() for h in range(16)}, names, names, title="t"
    )
    axes = picture.figure.axes[:16]
    assert all(len(ax.get_yticks()) == (22 if k % 4 == 0 else 0) for k, ax in enumerate(axes))
    assert all(len(ax.get_xticks()) == (22 if k >= 12 else 0) for k, ax in enumerate(axes))
    assert axes[0].get_yticklabels()[1].get_text() == "word3 3"
    assert 10 < picture.figure.get_figwidth() < 18 and 10 < picture.figure.get_figheight() < 18
    (alone, _) = patterns({"head 0": pattern.numpy()}, names, names, title="t").figure.axes
    assert len(alone.get_yticks()) == 64 and alone.get_yticklabels()[0].get_fontsize() >= 5.5


def test_the_pointer_is_told_what_a_query_weighs_most_and_the_picture_repeats(lm):
    picture = ip.draw_attention(lm, PROMPT, layer=1, heads=[1])
    row = lm.run(PROMPT, read=["layer 1 pattern 1"])["layer 1 pattern 1"][0, 1].tolist()
    weights = sorted(((w, k) for k, w in enumerate(row[:2])), reverse=True)
    said = ", ".join(f"{['The', ' city'][k]!r} at {k}: {w:.2f}" for w, k in weights)
    assert picture.hover["pattern-0-1"] == f"head 1: ' city' at 1 weighs {said}"
    text = picture.svg()
    assert text == ip.draw_attention(lm, PROMPT, layer=1, heads=[1]).svg() and "pattern-0-1" in text


def test_a_written_pattern_is_drawn_as_written_and_odd_tokens_are_spelled_out(lm):
    written = ip.draw_attention(lm, PROMPT, layer=1, heads=[0], write={"layer 1 pattern 0": 2.0})
    ax = written.figure.axes[0]
    assert bool((shown(ax) == 2).all()) and ax.get_images()[0].get_clim() == (0, 2)
    odd = patterns({"h": torch.eye(3).numpy()}, ["\n", " ", "a" * 20], ["x", "$1", "y"], title="t").figure.axes[0]
    assert [label.get_text() for label in odd.get_yticklabels()] == ["\\n", "\N{OPEN BOX}", "a" * 11 + "…"]


def test_of_several_prompts_none_is_drawn(lm):
    with pytest.raises(errors.WrongInput) as refusal:
        ip.draw_attention(lm, [PROMPT, PROMPT], layer=0)
    assert str(refusal.value) == ("There are 2 prompts; the patterns of one are drawn. Call draw_attention for each.")
