"""The house keeps itself: imports point up, files are pages, the import is silent, what is public is documented."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import interpose as ip

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "interpose"

ORDER = [
    "errors",
    "model",
    "inputs",
    "structures",
    "portable",
    "interventions",
    "featurizers",
    "named",
    "prompts",
    "pair_files",
    "splitting",
    "selection",
    "drawn",
    "pairs",
    "sites",
    "metrics",
    "statistics.estimates",
    "statistics.groups",
    "statistics.weights",
    "statistics.functions",
    "statistics.samples",
    "statistics.bootstrap",
    "statistics.intervals",
    "statistics.resampling",
    "statistics.proportions",
    "statistics.multiplicity",
    "statistics.verdicts",
    "statistics.nulls",
    "statistics.permutation",
    "statistics.sizes",
    "statistics",
    "tables",
    "progress",
    "plots.picture",
    ("plots.graph", "plots.heatmap", "plots.patterns"),
    "grid",
    "quantities",
    "judgement",
    "aggregates",
    "results",
    "comparison",
    "maps",
    "accuracy",
    "columns",
    "causal_model",
    "units",
    "unwrapping",
    "neuron_graph",
    "taps",
    "windows",
    "flow.state",
    "flow.operations",
    "flow.rules",
    "flow.calls",
    "flow.tape",
    "flow.trace",
    "flow.record",
    "engine.events",
    "engine.axes",
    "engine.kept",
    "engine.live",
    "engine.packed",
    "engine.attention",
    "engine.packing",
    "engine.skip",
    "engine.probe",
    "engine.watch",
    "engine.readout",
    "engine.subject",
    "engine.plan",
    "engine.passes",
    "engine.cone",
    "engine.question",
    "engine.spot",
    "engine.attempt",
    "engine.sweep",
    "engine.once",
    "network",
    ("families", "projections", "gguf_files"),
    "anatomy",
    "transformer",
    "forms",
    ("generated", "steps"),
    "generation",
    "language",
    "prompted",
    "certificates",
    "checks",
    "identity",
    "store",
    "measure",
    "further",
    "origin",
    "saved",
    "effects",
    ("ablations", "circuits"),
    "tracing",
    "abstraction",
    "rivals",
    ("search.scan",),
    "drawing",
    "discovery.kernels",
    "discovery.grammar",
    "discovery.responses",
    "discovery.reading",
    "discovery.holdings",
    "discovery.wiring",
    "discovery.decoding",
    "discovery.modelling",
    "discovery.graph",
    "discovery.verification",
    "discovery.found",
    "search.discover",
    ("reports.mechanisms", "reports.sketches", "reports.widgets"),
    ("reports.abstraction", "reports.explorer"),
    "reports.sections",
    "reports.words",
    "reports.tables",
    "reports.pictures",
    "reports.cells",
    "reports.sentences",
    "reports.graphs",
    "reports.origins",
    "reports.measured",
    "reports.kinds",
    "reports.page",
    "reports.folder",
    ("tasks.adder", "tasks.capitals"),
    "tasks.trained.networks",
    ("tasks.trained", "tasks.trained.training"),
    "tasks.planted.partitions",
    "tasks.planted.program",
    "tasks.planted.codes",
    "tasks.planted.arithmetic",
    "tasks.planted.logic",
    "tasks.planted.programs",
    "tasks.planted.rewrites",
    "tasks.planted.decoys",
    "tasks.planted.encodings",
    "tasks.planted.plan",
    "tasks.planted.layers",
    "tasks.planted.build",
    "tasks.planted.answer",
    "tasks.planted.truth",
    "tasks.planted.wiring",
    "tasks.planted.key",
    "tasks.planted.measure",
    "tasks.planted.instance",
    "tasks.planted.controls",
    "tasks.planted.judge",
    "tasks.planted.scoring",
    "tasks.planted.baselines",
    "tasks.planted.suites",
    "tasks.planted.discovered",
    "tasks.planted",
    "demo",
    "commands",
    "cli",
]
"""Who may import whom: a file imports only from lines above its own."""

LINE = {name: i for i, line in enumerate(ORDER) for name in ([line] if isinstance(line, str) else line)}


def modules():
    """Every file by its name; of files that only name a folder, those that hand on what is in it."""
    for path in sorted(SRC.rglob("*.py")):
        if path.name != "__init__.py":
            yield ".".join(path.relative_to(SRC).with_suffix("").parts), path
        elif path.parent != SRC and "import" in path.read_text():
            yield ".".join(path.parent.relative_to(SRC).parts), path


def imported(name, path):
    """The modules of the package that a file imports, anywhere in it."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)]
            target = ".".join([*base, *(node.module.split(".") if node.module else [])])
            whole = bool(node.module) and target in LINE
            yield from [target] if whole else [f"{target}.{alias.name}".strip(".") for alias in node.names]


def test_every_file_has_its_line():
    assert {name for name, _ in modules()} == set(LINE)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_point_up(name, path):
    for other in imported(name, path):
        assert LINE[other] < LINE[name], f"{name} imports {other}, which is not above it"


def test_only_one_file_registers_hooks():
    users = [name for name, path in modules() if "register_forward" in path.read_text()]
    assert users == ["taps"]


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_a_file_is_a_page_and_a_function_a_paragraph(name, path):
    text = path.read_text()
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{name} says nothing of itself"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{name}.{node.name} is too long"


def test_every_public_name_is_documented():
    for name in ip.__all__:
        thing = getattr(ip, name)
        if not isinstance(thing, str):
            assert inspect.getdoc(thing), name
            for member, value in vars(thing).items() if inspect.isclass(thing) else ():
                method = inspect.isfunction(value) and value.__name__ != "<lambda>"
                if not member.startswith("_") and (method or isinstance(value, property | classmethod)):
                    assert inspect.getdoc(getattr(thing, member)) or inspect.getdoc(value), f"{name}.{member}"


def test_every_function_and_class_without_an_underscore_is_documented():
    for name, path in modules():
        for node in ast.parse(path.read_text()).body:
            overloaded = any(
                isinstance(d, ast.Name) and d.id == "overload" for d in getattr(node, "decorator_list", ())
            )
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not overloaded:
                assert ast.get_docstring(node), f"{name}.{node.name}"


def test_the_import_is_silent_and_loads_nothing_that_is_not_needed():
    heavy = ["transformers", "accelerate", "nnsight", "matplotlib", "plotly", "xarray", "pandas", "networkx"]
    heavy += ["scipy", "typer", "tqdm", "jinja2"]
    program = (
        "import sys, torch; before = set(sys.modules); import interpose;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        f"print(sorted(new & set({heavy})))"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert (out.stdout, out.stderr) == ("[]\n", "")


def test_the_core_never_imports_a_peer_and_keeps_no_pickle():
    for name, path in modules():
        text = path.read_text()
        for word in ("import nnsight", "import transformer_lens", "import pyvene", "import pickle", "torch.load("):
            assert word not in text, f"{name}: {word}"


CHECKS = ["ruff check .", "ruff format --check .", f"pyrefly check --python-interpreter-path {sys.executable}"]


@pytest.mark.parametrize("command", CHECKS)
def test_format_lint_and_types_are_clean(command):
    command = [sys.executable, "-m", *command.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
