"""What importing costs, and in which direction imports point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import featherweight

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "featherweight"

# These work with tensors; everything else must be usable where torch is slow to load or absent.
NEED_TORCH = (
    "adapting/",
    "nn/",
    "training/",
    "fitting/",
    "cli/",
    "__main__",
    "exporting/",
    "searching/samplers",
)
NEED_TORCH_MODULES = {
    "advising/redundancy",
    "data/augmentation",
    "data/box_augmentation",
    "detection/losses",
    "detection/network",
    "detection/pooling",
    "networks/comparison",
    "networks/creation",
    "networks/importing",
    "networks/norms",
    "networks/other_sizes",
    "networks/pretrained",
    "networks/modules",
    "networks/pretrained_detector",
    "networks/slicing",
    "networks/storage",
    "networks/traced_graph",
    "networks/traced_operators",
    "networks/tracing",
    "profiling/module",
    "runtimes/executorch_program",
    "runtimes/torch",
    "searching/shared_weights",
    "searching/super_network",
}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def torch_free_modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
        if name.startswith(NEED_TORCH) or name in NEED_TORCH_MODULES or "templates" in name:
            continue
        if name == "runtimes":  # its plug-ins, runtimes/torch among them, come with it
            continue
        names.append("featherweight." + name.replace("/", "."))
    return [name for name in names if name != "featherweight.__init__"]


def test_importing_the_package_does_not_import_torch() -> None:
    loaded = run_python("import featherweight, sys; print('torch' in sys.modules)")
    assert loaded == "False"


def test_the_command_answers_help_without_torch() -> None:
    code = (
        "import sys\nimport featherweight.cli.app\n"
        "print([name for name in ('torch', 'sklearn', 'plotly') if name in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_torch_free_modules_do_not_import_torch() -> None:
    names = torch_free_modules()
    assert len(names) >= 15
    code = (
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name + ' imports torch'"
    )
    run_python(code)


@pytest.mark.parametrize("name", featherweight.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(featherweight, name)
    assert value is not None
    assert name in dir(featherweight)
    if name != "__version__":
        assert callable(value)
        assert value.__name__ == name


def test_public_names_are_sorted_and_unknown_ones_are_errors() -> None:
    names = featherweight.__all__[1:]
    assert len(names) >= 15
    assert names == sorted(names, key=lambda name: (not name[0].isupper(), name))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = featherweight.nonsense


def test_imports_point_down() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [str(linter), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "0 broken" in done.stdout
