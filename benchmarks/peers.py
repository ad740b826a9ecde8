"""The loops that other libraries document for this question, and the best we could write by hand with one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .measure import Contender
from .subject import Question

# -- nnsight -----------------------------------------------------------------------------------------------------------


def nnsight_loop(q: Question) -> Callable[[], Any]:
    """One trace a cell, all pairs in it."""
    import nnsight

    model = nnsight.NNsight(q.module)
    layers = model.model.layers

    @torch.no_grad()
    def run() -> Any:
        kept = _nnsight_source(model, q)
        scores = []
        for layer, index in q.cells:
            with model.trace(q.base):
                if q.kind == "residual":
                    layers[layer].output[:, index] = kept[layer][:, index]
                else:
                    head = slice(index * q.width, (index + 1) * q.width)
                    layers[layer].self_attn.o_proj.input[..., head] = kept[layer][..., head]
                logits = model.output.logits.save()
            scores.append(q.metric(logits))
        return torch.stack(scores)

    return run


def nnsight_skipping(q: Question) -> Callable[[], Any]:
    """One trace a cell, in which the layers below are skipped: they hand on the base run's values."""
    import nnsight

    model = nnsight.NNsight(q.module)

    @torch.no_grad()
    def run() -> Any:
        kept, base = _nnsight_source(model, q), _nnsight_base(model, q)
        scores = []
        for layer, index in q.cells:
            with model.trace(q.base):
                _nnsight_resume(model, q, layer, [index], kept, base)
                logits = model.output.logits.save()
            scores.append(q.metric(logits))
        return torch.stack(scores)

    return run


def nnsight_packed(q: Question) -> Callable[[], Any]:
    """One trace a layer, with a row a pair and cell, the layers below skipped, and logits of the last token only."""
    import nnsight

    model = nnsight.NNsight(q.module)

    @torch.no_grad()
    def run() -> Any:
        kept, base = _nnsight_source(model, q), _nnsight_base(model, q)
        scores: list[Tensor] = []
        for layer, inner in q.layers.items():
            with model.trace(q.base.repeat(len(inner), 1), logits_to_keep=1, use_cache=False):
                _nnsight_resume(model, q, layer, inner, kept, base)
                logits = model.output.logits.save()
            scores += [q.metric(part) for part in logits.split(len(q.base))]
        return torch.stack(scores)

    return run


def _nnsight_source(model: Any, q: Question) -> list[Tensor]:
    import nnsight

    with model.trace(q.source):
        kept = nnsight.save(
            [
                (layer.output if q.kind == "residual" else layer.self_attn.o_proj.input).clone()
                for layer in model.model.layers
            ]
        )
    return kept  # noqa: RET504  # a trace's block cannot return


def _nnsight_base(model: Any, q: Question) -> list[Tensor]:
    import nnsight

    with model.trace(q.base):
        base = nnsight.save([layer.output.clone() for layer in model.model.layers])
    return base  # noqa: RET504


def _nnsight_resume(model: Any, q: Question, layer: int, inner: list[int], kept: Any, base: Any) -> None:
    """Within a trace: skip what lies below the cells of a layer, and write each cell into its own rows."""
    n, layers = len(q.base), model.model.layers
    if q.kind == "residual":
        new = base[layer].repeat(len(inner), 1, 1)
    elif layer:
        new = base[layer - 1].repeat(len(inner), 1, 1)
    for below in range(layer if q.kind == "heads" else layer + 1):
        if below == layer:
            for row, position in enumerate(inner):
                new[row * n : (row + 1) * n, position] = kept[layer][:, position]
        layers[below].skip(new)
    if q.kind == "heads":
        entering = layers[layer].self_attn.o_proj.input
        for row, head in enumerate(inner):
            units = slice(head * q.width, (head + 1) * q.width)
            entering[row * n : (row + 1) * n, :, units] = kept[layer][..., units]


# -- pyvene ------------------------------------------------------------------------------------------------------------


def pyvene_loop(q: Question) -> Callable[[], Any]:
    """One IntervenableModel a layer and one call a cell, which runs source and base."""
    import pyvene

    n, tokens = q.base.shape

    @torch.no_grad()
    def run() -> Any:
        scores = []
        for layer, inner in q.layers.items():
            component, unit = (
                ("block_output", "pos") if q.kind == "residual" else ("head_attention_value_output", "h.pos")
            )
            config = pyvene.IntervenableConfig(
                [pyvene.RepresentationConfig(layer, component, unit, 1)], intervention_types=pyvene.VanillaIntervention
            )
            model = pyvene.IntervenableModel(config, q.module)
            model.set_device("cpu")
            model.disable_model_gradients()
            for index in inner:
                where: Any = index
                if q.kind == "heads":
                    here = [[[[index]] * n, [list(range(tokens))] * n]]
                    where = (here, here)
                _, patched = model({"input_ids": q.base}, [{"input_ids": q.source}], {"sources->base": where})
                scores.append(q.metric(patched.logits))
        return torch.stack(scores)

    return run


# -- TransformerLens ---------------------------------------------------------------------------------------------------


def lens_loop(q: Question) -> Callable[[], Any]:
    """Its activation patching, one run with hooks a cell, per-pair values kept; at "resid_post", or at "z"."""
    import pandas as pd
    from transformer_lens import patching
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_transformers(
        "HuggingFaceTB/SmolLM2-135M-Instruct", hf_model=q.module, tokenizer=q.lm.tokenizer, device="cpu"
    )
    place, setter, axis = (
        ("resid_post", patching.layer_pos_patch_setter, "pos")
        if q.kind == "residual"
        else ("z", patching.layer_head_vector_patch_setter, "head")
    )

    @torch.no_grad()
    def run() -> Any:
        _, cache = model.run_with_cache(q.source)
        cells = pd.DataFrame(q.cells, columns=["layer", axis])
        return patching.generic_activation_patch(
            model, q.base, cache, q.metric, setter, place, index_df=cells, reduce="none"
        ).values

    return run


PEERS = (
    Contender("nnsight", "documented: one trace a cell", nnsight_loop, "nnsight", slow=True),
    Contender("nnsight, skipping", "one trace a cell, layers below skipped", nnsight_skipping, "nnsight", slow=True),
    Contender(
        "nnsight, packed",
        "one trace a layer, a row a cell, layers below skipped, last logits only",
        nnsight_packed,
        "nnsight",
        slow=True,
    ),
    Contender("pyvene", "documented: one call of an IntervenableModel a cell", pyvene_loop, "pyvene", slow=True),
    Contender(
        "TransformerLens",
        "documented: `patching.generic_activation_patch`",
        lens_loop,
        "transformer_lens",
        slow=True,
    ),
)
