"""Maps of tiny models by other libraries, cell by cell in their own way: `python tests/golden/make.py` writes them.

Each file holds the weights, the inputs, the metric of every cell as nnsight and TransformerLens find it, and their
versions. The tests read the files; neither library is needed for them.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import nnsight
import numpy as np
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny  # noqa: E402
from golden.question import ANSWERS, BASE, CONFIGS, SOURCE  # noqa: E402

LAYERS, HEADS, WIDTH, TOKENS = 3, 4, 8, 5


def build(kind, weights=None):
    """A tiny model with the weights of a seed, or these."""
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(CONFIGS[kind](), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    if weights is not None:
        module.load_state_dict(weights)
    return module


def metric(logits):
    """[pair]: the logit of the source's answer less that of the base's, at the last token."""
    last = logits[:, -1]
    return (last.gather(1, ANSWERS[:, 1:]) - last.gather(1, ANSWERS[:, :1]))[:, 0].detach()


def by_nnsight(kind, module):
    """part -> [pair, layer, position or head]: one trace a cell."""
    model = nnsight.NNsight(module)
    blocks = model.model.layers if kind == "llama" else model.transformer.h

    def parts(block):
        attention = block.self_attn if kind == "llama" else block.attn
        return {"attention": attention, "mlp": block.mlp}, attention.o_proj if kind == "llama" else attention.c_proj

    def tensor(output):
        return output[0] if isinstance(output, tuple) else output

    kept = {}
    for layer in range(LAYERS):
        named, projection = parts(blocks[layer])
        for part in ("residual", "attention", "mlp", "head"):
            with model.trace(SOURCE):
                if part == "residual":
                    held = blocks[layer].output.save()
                elif part == "head":
                    held = projection.input.save()
                else:
                    held = named[part].output.save()
            kept[part, layer] = tensor(held).detach().clone()
    found = {
        part: np.zeros((2, LAYERS, HEADS if part == "head" else TOKENS))
        for part in ("residual", "attention", "mlp", "head")
    }
    for (part, layer), source in kept.items():
        named, projection = parts(blocks[layer])
        for cell in range(found[part].shape[2]):
            with model.trace(BASE):
                if part == "head":
                    projection.input[:, :, cell * WIDTH : (cell + 1) * WIDTH] = source[
                        :, :, cell * WIDTH : (cell + 1) * WIDTH
                    ]
                else:
                    place = blocks[layer] if part == "residual" else named[part]
                    if part == "attention":  # the one module here that returns a tuple
                        place.output[0][:, cell] = source[:, cell]
                    else:
                        place.output[:, cell] = source[:, cell]
                logits = model.output.logits.save()
            found[part][:, layer, cell] = metric(logits).numpy()
    return found


def by_transformer_lens(kind, module):
    """part -> [pair, layer, position or head]: one run with hooks a cell, at its own hook points."""
    bridge = TransformerBridge.boot_transformers(
        kind, hf_model=module, tokenizer=tiny.tokenizer(), device="cpu", dtype=torch.float32
    )
    points = {
        "residual": "blocks.{}.hook_out",
        "attention": "blocks.{}.attn.hook_out",
        "mlp": "blocks.{}.mlp.hook_out",
        "head": "blocks.{}.attn.hook_z",
        "query": "blocks.{}.attn.hook_q",
        "key": "blocks.{}.attn.hook_k",
        "value": "blocks.{}.attn.hook_v",
    }
    _, cache = bridge.run_with_cache(SOURCE)
    found = {}
    for part, point in points.items():
        columns = []
        for layer in range(LAYERS):
            name = point.format(layer)
            source = cache[name]
            by_head = part in ("head", "query", "key", "value")
            if by_head and source.ndim == 3:
                source = source.unflatten(-1, (-1, WIDTH))
            cells = source.shape[2] if by_head else TOKENS
            row = []
            for cell in range(cells):

                def patch(x, hook, cell=cell, source=source, by_head=by_head):
                    new = x.clone()
                    if not by_head:
                        new[:, cell] = source[:, cell]
                        return new
                    heads = new.unflatten(-1, (-1, WIDTH)) if new.ndim == 3 else new
                    heads = heads.clone()
                    heads[:, :, cell] = source[:, :, cell]
                    return heads.reshape(x.shape)

                row.append(metric(bridge.run_with_hooks(BASE, fwd_hooks=[(name, patch)])).numpy())
            columns.append(np.stack(row, 1))
        found[part] = np.stack(columns, 1)
    return found


def main():
    for kind in CONFIGS:
        module = build(kind)
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        arrays = {f"weight/{name}": value.numpy() for name, value in weights.items()}
        for library, maps in (
            ("nnsight", by_nnsight(kind, build(kind, weights))),
            ("transformer_lens", by_transformer_lens(kind, build(kind, weights))),
        ):
            arrays |= {f"{library}/{part}": values for part, values in maps.items()}
        versions = {n: importlib.metadata.version(n) for n in ("nnsight", "transformer_lens", "transformers", "torch")}
        np.savez_compressed(HERE / f"{kind}.npz", **arrays, versions=np.array(json.dumps(versions)))
        print(kind, sorted(name for name in arrays if not name.startswith("weight")))


if __name__ == "__main__":
    main()
