"""Rules of the house that no linter has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "featherweight"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LARGEST_MODULE, LARGEST_TEST = 400, 600

# Programs that run alone on a device, where only numpy and the runtime exist: standard output is
# their interface, and nobody imports them.
PROGRAMS = {"exporting/bundle_run.py", "measuring/node_times.py", "measuring/worker.py"}
PRINTS = {"cli/output.py"} | PROGRAMS

# A heavy library has one home, so that the rest works, and imports quickly, without it.
HOMES = {
    "ai_edge_litert": ("runtimes/",),
    "cv2": ("training/video.py",),
    "executorch": ("runtimes/",),
    "faster_coco_eval": ("detection/",),
    "flatbuffers": ("runtimes/",),
    "jinja2": ("reporting/",),
    "ncnn": ("runtimes/", *PROGRAMS),
    "onnx": ("runtimes/", "exporting/"),
    "onnxruntime": ("runtimes/", *PROGRAMS),
    "optuna": ("searching/",),
    "openvino": ("runtimes/",),
    "pillow_heif": ("data/",),
    "plotly": ("reporting/",),
    "pyarrow": ("data/",),
    "ray": ("parallel.py",),
    "rich": ("cli/",),
    "torchao": ("runtimes/",),
    "scipy": ("adapting/knapsack.py", "searching/agreement.py"),
    "sklearn": (
        "adapting/lasso.py",
        "data/",
        "detection/suiting.py",
        "fitting/",
        "measuring/prediction.py",
        "searching/speeds.py",
    ),
    "sqlalchemy": ("searching/study.py",),
    "keras": (),
    "timm": ("networks/",),
    "typer": ("cli/",),
}
PICKLES = {"cloudpickle", "dill", "joblib"}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "core", "base", "manager"}
TEXT_FOLDERS = ("src", "tests", "docs", "examples", "benchmarks", "scripts", ".ci")
TEXT_SUFFIXES = {"", ".py", ".md", ".toml", ".txt", ".sh", ".json", ".jsonl", ".yaml", ".html"}
PLACES = re.compile("/" + r"(?:work|root|home|Users)/[a-z]|pypi\." + "org")
"""Paths of one machine, and registry hosts."""


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def modules() -> list[object]:
    return [pytest.param(path, id=relative(path)) for path in MODULES]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def public_definitions(tree: ast.Module) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {n.name for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")}


def bound_names(tree: ast.Module) -> set[str]:
    names = public_definitions(tree)
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: ruff's order of `__all__` (RUF022)."""
    constant = len(name) > 1 and name.isupper()
    return (0 if constant else 1 if name[0].isupper() else 2, name)


def attributes(tree: ast.AST, *, module: str) -> set[str]:
    """What is taken from a module, as in `module.name` or `from module import name`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == module:
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == module:
            found |= {alias.name for alias in node.names}
    return found


def calls(tree: ast.AST, *, module: str | None, function: str) -> list[ast.Call]:
    """Calls of `function`, or of `module.function`."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        target = node.func
        if module is None:
            matches = isinstance(target, ast.Name) and target.id == function
        else:
            matches = (
                isinstance(target, ast.Attribute)
                and target.attr == function
                and getattr(target.value, "id", "") == module
            )
        if matches:
            found.append(node)
    return found


def test_the_package_was_found() -> None:
    assert len(MODULES) >= 30
    assert len(TESTS) >= 3


def test_no_module_is_longer_than_the_cap() -> None:
    assert {relative(p): line_count(p) for p in MODULES if line_count(p) > LARGEST_MODULE} == {}
    assert {p.name: line_count(p) for p in TESTS if line_count(p) > LARGEST_TEST} == {}


def test_no_module_or_folder_has_a_name_that_says_nothing() -> None:
    parts = {part for path in MODULES for part in Path(relative(path)).with_suffix("").parts}
    assert parts & FORBIDDEN_NAMES == set()


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in TESTS if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", modules())
def test_a_module_keeps_the_rules(path: Path) -> None:
    tree = parse(path)
    check_exports(path, tree)
    check_prints_and_pickles(path, tree)
    check_homes(path, tree)


def check_exports(path: Path, tree: ast.Module) -> None:
    """`__all__` is sorted and complete."""
    if path == PACKAGE / "__init__.py":  # computed; see test_imports.py
        return
    names = exported(tree)
    if names is None and relative(path) in PROGRAMS:
        return
    if names is None:
        assert public_definitions(tree) == set(), "public names without __all__"
        return
    assert names == sorted(names, key=order)
    assert len(names) == len(set(names))
    assert public_definitions(tree) - set(names) == set(), "public, but not in __all__"
    assert set(names) - bound_names(tree) == set(), "in __all__, but not defined"


def check_prints_and_pickles(path: Path, tree: ast.Module) -> None:
    """Nothing prints or pickles."""
    assert relative(path) in PRINTS or not calls(tree, module=None, function="print")
    assert not PICKLES & {name.split(".")[0] for name in imported(tree)}
    assert attributes(tree, module="pickle") <= {"UnpicklingError"}, "only torch.load's error"
    assert not calls(tree, module="torch", function="save"), "safetensors holds weights"
    for call in calls(tree, module="torch", function="load"):
        arguments = {
            k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg == "weights_only"
        }
        assert arguments == {"weights_only": True}, "a file from elsewhere may execute code"


def check_homes(path: Path, tree: ast.Module) -> None:
    """Heavy libraries stay in their homes."""
    strangers = {
        name
        for name in {n.split(".")[0] for n in imported(tree)} & HOMES.keys()
        if not relative(path).startswith(HOMES[name])
    }
    assert strangers == set()


def test_no_file_names_this_machine_or_a_registry() -> None:
    files = [p for p in ROOT.iterdir() if p.is_file()]
    for folder in TEXT_FOLDERS:
        files += [p for p in (ROOT / folder).rglob("*") if p.is_file()]
    texts = [p for p in files if p.suffix in TEXT_SUFFIXES and "__pycache__" not in p.parts]
    texts = [p for p in texts if not any(part.endswith(".egg-info") for part in p.parts)]
    assert len(texts) >= 40
    found = {}
    for path in texts:
        if hits := PLACES.findall(path.read_text(encoding="utf-8")):
            found[path.relative_to(ROOT).as_posix()] = hits
    assert found == {}


def test_the_rules_see_what_they_forbid() -> None:
    """The checks above can fail: each is shown one offender."""
    tree = ast.parse("import pickle\ndef f(): print(torch.load('x'))\n")
    assert list(imported(tree)) == ["pickle"]
    assert attributes(ast.parse("pickle.loads(b'')"), module="pickle") == {"loads"}
    assert calls(tree, module=None, function="print")
    assert calls(tree, module="torch", function="load")
    assert public_definitions(tree) == {"f"}
    assert exported(tree) is None
    assert PLACES.search("/" + "home/someone/project")
    assert sorted(["b", "Aa", "Z_Z"], key=order) == ["Z_Z", "Aa", "b"]
