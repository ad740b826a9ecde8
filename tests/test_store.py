"""What a store keeps: nothing is lost, nothing counts twice, and nothing is taken for what it is not."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import interpose as ip
import tiny
from interpose import errors, store
from interpose.identity import question
from interpose.identity import told as told_of
from interpose.model import Work
from interpose.store import Block, Store, merged, remaining
from interpose.tasks import adder

from known import mlp, numbers, seeded

RUNS = ("ybb", "yss", "ybs", "ysb", "response", "te", "nie", "tie")


def network():
    return ip.Network(seeded(lambda: mlp(3, 4, 1)).float())


def pairs(n=50):
    return ip.Pairs(numbers(n, 3).float(), numbers(n, 3, seed=1).float())


def scan(folder=None, *, net=None, metric=ip.value, size=8, **options):
    net = net or network()
    options = {"pairs": pairs(), "places": net.neurons(), **options}
    return ip.scan(net, metric=metric, batch_size=size, store=folder, **options)


def equal(found, other):
    same = all(np.array_equal(found.values(name), other.values(name)) for name in RUNS)
    return same and found.noise == other.noise and found.tol == other.tol and (found.status == other.status).all()


def close(found, other):
    return all(np.allclose(found.values(name), other.values(name), rtol=1e-5, atol=1e-6) for name in RUNS)


def chunks(folder):
    return sorted(Path(folder).glob("pairs-*.safetensors"))


def stopping(row):
    """A metric during which Ctrl-C is pressed, once, when the batch that holds a row is measured."""
    waiting = [pairs().base[row]]

    def metric(output, those):
        if waiting and (those.base == waiting[0]).all(-1).any():
            waiting.clear()
            raise KeyboardInterrupt
        return ip.value(output, those)

    return metric


class Forbidden(ip.Network):
    def run(self, *args, **kwargs):
        raise AssertionError("it ran")


# -- it goes on where it was -------------------------------------------------------------------------------


def test_a_store_changes_nothing_and_a_finished_one_is_only_read(tmp_path):
    whole, kept = scan(), scan(tmp_path / "new" / "folder")
    assert equal(kept, whole) and kept.work == whole.work and len(chunks(tmp_path / "new/folder")) == 7
    read = scan(tmp_path / "new" / "folder", net=Forbidden(network().module), places=["0[0]", "0[1]", "0[2]", "0[3]"])
    assert equal(read, whole) and read.work == whole.work


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_twenty_kills_at_random_moments_lose_nothing_and_count_nothing_twice(tmp_path):
    program = Path(__file__).parent / "killed.py"
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "12"}
    command = [sys.executable, str(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **threads})
    told = json.loads(done.stdout)
    assert told["kills"] >= 20 and told["equal"] and len(set(told["noise"])) == 1
    assert told["verdicts"][0] == told["verdicts"][1]
    assert told["sizes"] == sorted(told["sizes"]) and 0 < told["sizes"][-1] < told["files"] == 200
    kept = np.concatenate([_arrays(path)["index"] for path in chunks(tmp_path)])
    assert sorted(kept.tolist()) == list(range(400))
    same = question(adder.network(), adder.pairs()["A"], [("h12",)], ip.matches, None)
    words = told_of({"the", "key", "of", "a", "question", "is", "one", "in", "any", "process"}, [])
    assert [same.key, words] == told["keys"]


@pytest.mark.parametrize("row", [9, 30, 49])
def test_ctrl_c_keeps_what_was_finished_and_says_where(tmp_path, row):
    metric = stopping(row)
    with pytest.raises(KeyboardInterrupt) as stop:
        scan(tmp_path, metric=metric, key="value")
    said = "".join(traceback.format_exception(stop.value))
    assert f"{row // 8 * 8} of 50 pairs are kept in '{tmp_path}'. The same call goes on from there." in said
    assert len(chunks(tmp_path)) == row // 8
    before = {path: path.stat().st_mtime_ns for path in chunks(tmp_path)}
    found = scan(tmp_path, metric=metric, key="value")
    assert equal(found, scan()) and len(found.pairs) == 50
    assert found.work == scan().work and not found.warnings
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_another_batch_size_measures_what_is_missing(tmp_path, size):
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path, metric=stopping(20), key="value")
    counted = []

    def metric(output, those):
        counted.append(len(those))
        return ip.value(output, those)

    assert close(scan(tmp_path, metric=metric, key="value", size=size), scan())
    kept = np.concatenate([_arrays(path)["index"] for path in chunks(tmp_path)])
    assert sorted(kept.tolist()) == list(range(50)) and max(counted[-4:]) <= max(size, 4)  # a check runs four rows


def test_without_a_store_ctrl_c_returns_the_finished_pairs():
    with pytest.warns(errors.Interrupted, match=r"Stopped after 24 of 50 pairs\."):
        found = scan(metric=stopping(30))
    whole = scan()
    assert len(found.pairs) == len(found.te) == 24 and np.array_equal(found.nie, whole.nie[:24])
    assert found.warnings == ("Stopped after 24 of 50 pairs.",) and found.notes()[-1] == found.warnings[0]
    assert 0 < found.work.forwards < whole.work.forwards and dict(found.data.sizes)["pair"] == 24


def test_without_a_store_ctrl_c_before_the_first_batch_passes_through():
    for row in (0, 7):
        with pytest.raises(KeyboardInterrupt):
            scan(metric=stopping(row))


def test_all_pairs_there_are_cut_short_are_not_all():
    everything = ip.Pairs.varying(adder.hypothesis(), "A")

    def metric(output, those):
        if those.exhaustive or those.base[0]["A"] == 3:
            raise KeyboardInterrupt
        return ip.value(output, those)

    with pytest.warns(errors.Interrupted, match=r"Stopped after 3000 of 9000 pairs"):
        found = ip.scan(adder.network(), everything, ["h12", "h13"], metric, batch_size=1000)
    assert everything.exhaustive and not found.pairs.exhaustive and "exact" not in str(found.table())


# -- files that are not whole ------------------------------------------------------------------------------


def _cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def _rename(path):
    path.write_bytes(path.read_bytes().replace(b'"ybs"', b'"yss"').replace(b'"ysb"', b'"ybs"'))


def _relabel(path):
    content = path.read_bytes()
    path.write_bytes(re.sub(rb'forwards\\": \d', rb'forwards\\": 9', content))


@pytest.mark.parametrize(
    "harm", [_cut, _flip, _rename, _relabel, lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"{}" * 90)]
)
def test_a_file_that_is_not_whole_is_measured_again(tmp_path, harm):
    whole = scan(tmp_path)
    before = chunks(tmp_path)[2].read_bytes()
    harm(chunks(tmp_path)[2])
    assert chunks(tmp_path)[2].read_bytes() != before
    again = scan(tmp_path)
    assert equal(again, whole) and again.work == whole.work
    assert chunks(tmp_path)[2].read_bytes() == before


def test_a_file_that_is_missing_is_measured_again(tmp_path):
    whole = scan(tmp_path)
    chunks(tmp_path)[0].unlink()
    (tmp_path / "manifest.json").unlink()
    assert equal(scan(tmp_path), whole) and len(chunks(tmp_path)) == 7 and (tmp_path / "manifest.json").exists()


def test_files_of_others_do_no_harm(tmp_path):
    for name in (".pairs-00000000-1.safetensors.a.tmp", ".manifest.json.b.tmp", "notes.txt"):
        (tmp_path / name).write_bytes(b"half of it")
    assert equal(scan(tmp_path), scan()) and equal(scan(tmp_path), scan())
    assert len(chunks(tmp_path)) == 7 and len(list(tmp_path.iterdir())) == 11


def test_a_write_that_fails_leaves_nothing_in_its_place(tmp_path, monkeypatch):
    def full(number):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        scan(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_whole_before_it_is_in_its_place(tmp_path, monkeypatch):
    put, replaced = [], os.replace

    def watching(beside, path):
        assert not Path(path).exists() and Path(beside).parent == Path(path).parent
        put.append((Path(path).name, Path(beside).read_bytes()))
        replaced(beside, path)

    monkeypatch.setattr(os, "replace", watching)
    scan(tmp_path)
    assert put[0][0] == "manifest.json" and len(put) == 8
    assert all((tmp_path / name).read_bytes() == content for name, content in put)


# -- another question --------------------------------------------------------------------------------------


def _other_weights():
    net = network()
    with torch.no_grad():
        net.module[0].weight[0, 0] += 1e-7
    return {"net": net}


def _other_activation():
    return {"net": ip.Network(nn.Sequential(network().module[0], nn.Sigmoid(), network().module[2]))}


def _other_pairs():
    base = pairs().base.clone()
    base[3, 1] += 1
    return {"pairs": ip.Pairs(base, pairs().source)}


def _other_targets():
    return {"pairs": replace(pairs(), targets=torch.zeros(50))}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_weights, "the weights or the structure of the model differ."),
        (_other_activation, "the weights or the structure of the model differ."),
        (_other_pairs, "the inputs differ."),
        (lambda: {"pairs": pairs()[::-1]}, "the inputs differ."),
        (lambda: {"pairs": pairs(49)}, "the inputs differ; the pairs was 50, and is 49."),
        (_other_targets, "the targets differ."),
        (lambda: {"metric": Near(0.2)}, "the metric was Near(tol=0.1), and is Near(tol=0.2)."),
        (lambda: {"metric": ip.value}, "the metric was Near(tol=0.1), and is value."),
        (lambda: {"places": ["0[0]", "0[1]"]}, "it has 4 places, and now there are 2; 0[2] is in one of them only."),
        (lambda: {"places": ["0[1]", "0[0]", "0[2]", "0[3]"]}, "it has 4 places, and now there are 4, in another"),
        (lambda: {"key": "mine"}, "the key was None, and is mine"),
        (lambda: {"net": ip.Network(network().module.double())}, "the dtype was torch.float32, and is torch.float64"),
    ],
)
def test_another_question_is_refused_with_what_differs(tmp_path, change, said):
    scan(tmp_path, metric=Near(0.1))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(errors.WrongStore, match=re.escape(f"{str(tmp_path)!r} keeps another measurement: ")) as error:
        options = {"metric": Near(0.1), **change()}
        if "net" in options and options["net"].module[0].weight.dtype is torch.float64:
            options["pairs"] = ip.Pairs(pairs().base.double(), pairs().source.double())
        scan(tmp_path, **options)
    assert said in str(error.value) and isinstance(error.value, ValueError)
    assert str(error.value).endswith("Ask what it was begun with, or choose another folder.")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_device_batch_size_and_tolerance_are_no_part_of_the_question(tmp_path):
    whole = scan(tmp_path)
    assert close(scan(tmp_path, size=50, progress=False), whole)
    assert scan(tmp_path, tol=0.5).tol == 0.5


@dataclass(frozen=True)
class Near:
    """Whether the output is near 0."""

    tol: float

    def __call__(self, output, those):
        return (ip.value(output, those).abs() <= self.tol).float()


def _margin(output, those, *, factor=1.0):
    return factor * output[:, 0]


def _scaled(factor):
    @wraps(ip.value)
    def metric(output, those):
        return factor * ip.value(output, those)

    return metric


def _nested():
    factor = 2.0

    def metric(output, those):
        return factor * ip.value(output, those)

    return metric


@pytest.mark.parametrize(
    "metric",
    [
        lambda output, those: output[:, 0],
        partial(lambda output, those, k: k * output[:, 0], k=2),
        _nested(),
        _scaled(3.0),
    ],
    ids=["lambda", "partial", "nested", "wrapped"],
)
@pytest.mark.parametrize("act", [ip.scan, ip.effects])
def test_a_metric_without_a_name_needs_a_key(tmp_path, metric, act):
    net = Forbidden(network().module)
    with pytest.raises(errors.WrongStore, match=r"cannot be told from something else in a later session, because of"):
        act(net, pairs(), ["0[0]"], metric, store=tmp_path)
    assert not list(tmp_path.iterdir())
    net = network()
    first = act(net, pairs(), ["0[0]"], metric, store=tmp_path, key="mine")
    assert equal(act(net, pairs(), ["0[0]"], metric, store=tmp_path, key="mine"), first)
    with pytest.raises(errors.WrongStore, match="the key was mine, and is yours"):
        act(net, pairs(), ["0[0]"], metric, store=tmp_path, key="yours")


def test_a_metric_goes_by_its_name_its_parameters_and_what_it_does(tmp_path):
    first = scan(tmp_path / "a", metric=partial(_margin, factor=2.0))
    assert equal(scan(tmp_path / "a", metric=partial(_margin, factor=2.0)), first)
    with pytest.raises(errors.WrongStore, match="what the metric does differs"):
        scan(tmp_path / "a", metric=partial(_margin, factor=3.0))
    other = lambda output, those, *, factor=1.0: factor * output[:, 0] + 1
    other.__qualname__, other.__name__ = "_margin", "_margin"
    scan(tmp_path / "b", metric=_margin)
    with pytest.raises(errors.WrongStore, match="what the metric does differs, or the Python that runs it"):
        scan(tmp_path / "b", metric=other)


def test_a_causal_model_with_nameless_mechanisms_needs_a_key(tmp_path):
    model, those = adder.hypothesis(), adder.pairs()["A"]
    with pytest.raises(errors.WrongStore, match="because of the function"):
        ip.scan(model, those, ["A", "B+C"], ip.matches, store=tmp_path)
    first = ip.scan(model, those, ["A", "B+C"], ip.matches, store=tmp_path, key="adder")
    assert equal(ip.scan(model, those, ["A", "B+C"], ip.matches, store=tmp_path, key="adder"), first)
    assert first.mediators() == ("A",)


def test_prompts_are_kept_as_the_tokens_they_become(tmp_path):
    words = tiny.tokenizer()
    lm = ip.LanguageModel(tiny.model(), words)
    prompts = {"base": ["The city of Paris is in"], "source": ["The city of Rome is in"]}
    those = ip.Pairs.from_prompts(lm, **prompts, answers=[(" France", " Italy")])
    first = ip.scan(lm, those, lm.residual(), ip.logit_difference, store=tmp_path)
    assert equal(ip.scan(lm, those, lm.residual(), ip.logit_difference, store=tmp_path), first)
    other = ip.LanguageModel(tiny.model(), tiny.tokenizer(bos=True))
    asked = [question(model, those, [("a",)], ip.logit_difference, None).key for model in (lm, other)]
    assert asked[0] != asked[1]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"key": "mine"}, errors.WrongInput, "key='mine' names what a store keeps. Give the folder too"),
        ({"store": 3}, errors.WrongInput, "store=3: give the name of a folder."),
        ({"store": "here", "key": 3}, errors.WrongInput, "key=3: give a text."),
    ],
)
def test_what_is_no_folder_or_key_is_refused(options, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        ip.scan(Forbidden(network().module), pairs(), ["0[0]"], ip.value, **options)


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.WrongStore, match=r"file' is a file. A store is a folder"):
        scan(tmp_path / "file")
    whole = scan(tmp_path)
    manifest = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(manifest[:40])
    with pytest.raises(errors.WrongStore, match=r"manifest.json' cannot be read: .* or delete that file"):
        scan(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest.replace('"format": 1', '"format": 7'))
    with pytest.raises(errors.WrongStore, match="is of format 7, and this version reads 1"):
        scan(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest)
    scan(tmp_path / "other", metric=Near(0.1))
    shutil.copy(chunks(tmp_path / "other")[0], tmp_path / "pairs-9.safetensors")
    with pytest.raises(errors.WrongStore, match=r"pairs-9.safetensors' belongs to another measurement than its folder"):
        scan(tmp_path)
    (tmp_path / "pairs-9.safetensors").unlink()
    assert equal(scan(tmp_path), whole)


def test_the_manifest_says_what_is_kept(tmp_path):
    scan(tmp_path, metric=Near(0.1))
    told = json.loads((tmp_path / "manifest.json").read_text())
    assert told["format"] == 1 and len(told["key"]) == 64 and {"interpose", "torch"} <= told["versions"].keys()
    assert told["question"]["metric"] == "Near(tol=0.1)" and told["question"]["pairs"] == 50
    assert told["question"]["places"] == ["0[0]", "0[1]", "0[2]", "0[3]"]


# -- merging -----------------------------------------------------------------------------------------------


def test_folders_merge_in_any_order(tmp_path):
    whole = scan(tmp_path / "whole")
    scan(tmp_path / "other sizes", size=5)
    for order in itertools.permutations(["whole", "other sizes"]):
        for name in order:
            shutil.copytree(tmp_path / name, tmp_path / "".join(order), dirs_exist_ok=True)
        found = scan(tmp_path / "".join(order), net=Forbidden(network().module), places=[f"0[{i}]" for i in range(4)])
        assert close(found, whole) and len(found.te) == 50
    names = ["".join(order) for order in itertools.permutations(["whole", "other sizes"])]
    assert equal(*(scan(tmp_path / name) for name in names))


def test_measurements_of_a_pair_that_disagree_are_refused(tmp_path):
    whole = scan(tmp_path)
    asked = question(network(), pairs(), [(place,) for place in network().neurons()], ip.value, None)
    kept = Store(tmp_path, asked)
    block = kept.blocks()[1]
    three = {name: array[2:5] for name, array in block.arrays.items()}
    rounding = replace(block, **{**three, "ybs": three["ybs"] * (1 + 1e-7)})
    kept.keep(rounding)
    assert close(scan(tmp_path), whole)
    kept.keep(replace(block, **{**three, "ybs": three["ybs"] + 0.1}))
    with pytest.raises(
        errors.WrongStore, match=r"were measured twice, and their ybs differ by 0\.1, which is no round"
    ):
        scan(tmp_path)


def _arrays(path):
    from safetensors.numpy import load_file

    return load_file(path)


def _block(index):
    rows = np.asarray(index, float)
    grid = np.stack([rows, -rows], 1)
    runs = (rows, 2 * rows, grid, 3 * grid, abs(grid), grid > 3)
    return Block(*runs, Work(forwards=len(index)), np.asarray(index))


@given(st.permutations(range(12)), st.lists(st.integers(1, 11), max_size=5), st.randoms())
def test_merging_is_a_union_in_any_order(order, cuts, rng):
    edges = [0, *sorted(set(cuts)), 12]
    blocks = [_block(sorted(order[a:b])) for a, b in itertools.pairwise(edges)]
    again = [*blocks, *blocks[:2], _block([4, 7])]
    rng.shuffle(again)
    for parts in (blocks, again):
        found = merged(parts, 0.0)
        assert all(np.array_equal(array, _block(range(12)).arrays[name]) for name, array in found.arrays.items())


@given(st.integers(1, 40), st.integers(1, 50), st.sets(st.integers(0, 39)))
def test_what_remains_is_the_same_batches_without_what_is_there(size, batch, known):
    left = remaining(size, batch, [_block(sorted(known))])
    assert [i for part in left for i in part] == [i for i in range(size) if i not in known]
    for part in left:
        assert len({i // batch for i in part}) == 1
    assert remaining(size, batch, []) == [list(range(i, min(i + batch, size))) for i in range(0, size, batch)]


# -- identity ----------------------------------------------------------------------------------------------


def test_different_values_are_told_apart_and_equal_ones_are_not():
    different = [
        *(1, 1.0, True, "1", b"1", None, 1j, float("nan"), [1], [[1]], (1, 2), {"a": 1}, {"a": 2}, {1, 2}, range(3)),
        *(torch.ones(2), torch.ones(2).double(), torch.ones(1, 2), torch.ones(2).bfloat16(), np.ones(2)),
        *(Near(0.1), Near(0.2), partial(_margin, factor=1), partial(_margin, factor=2), _margin, ip.value, ip.matches),
        *(["a", "bc"], ["ab", "c"], [["a"], "b"], [["a", "b"]], network().module, errors.suggest, ..., slice(3)),
    ]
    unknown = []
    digests = [told_of(value, unknown) for value in different]
    assert len(set(digests)) == len(different) and unknown == []
    assert told_of({"a": 1, "b": [2]}, []) == told_of({"b": [2], "a": 1}, [])
    assert told_of(torch.arange(6).reshape(2, 3).t(), []) == told_of(torch.arange(6).reshape(2, 3).t().contiguous(), [])
    assert told_of({"x", "y", "z"}, []) == told_of({"z", "y", "x"}, [])


def test_what_cannot_be_told_apart_is_named():
    unknown = []
    for value in (object(), lambda: 0, torch.ones(2, device="meta"), store):
        told_of([value], unknown)
    assert len(unknown) == 4 and unknown[1] == (
        "the function test_what_cannot_be_told_apart_is_named.<locals>.<lambda>"
    )


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale, self.linear = scale, nn.Linear(3, 1)
        self.register_buffer("shift", torch.zeros(1), persistent=False)

    def forward(self, x):
        return self.linear(x) * self.scale + self.shift


def test_a_network_is_its_weights_buffers_and_plain_numbers_but_not_its_history():
    first = seeded(lambda: Scaled(2.0))
    same, scale, shift = (seeded(lambda s=s: Scaled(s)) for s in (2.0, 3.0, 2.0))
    same(numbers(2, 3)).sum().backward()
    shift.shift += 1
    assert told_of(first, []) == told_of(same.train(), [])
    assert len({told_of(module, []) for module in (first, scale, shift)}) == 3
