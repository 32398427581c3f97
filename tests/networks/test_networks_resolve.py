from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from featherweight.architecture import write_architecture
from featherweight.errors import RecordError, UnsupportedError, UsageError
from featherweight.layers import layers
from featherweight.networks.resolve import ALIASES, create_architecture, resolve_architecture
from featherweight.zoo.model import MODELS


def test_every_name_of_the_zoo_is_read_with_and_without_settings() -> None:
    assert len(MODELS) >= 6
    for name in MODELS:
        plain = resolve_architecture(name)
        assert plain.num_classes == 1000
        assert plain.input_shape[1] == MODELS[name].default_resolution
        changed = resolve_architecture(f"{name}:resolution=96,classes=7,channels=1")
        assert (changed.input_shape, changed.num_classes) == ((1, 96, 96), 7)


def test_settings_reach_the_builder() -> None:
    got = resolve_architecture(
        "mobilenet_v2: width=0.5, resolution=160 ,padding=same,activation=relu"
    )
    want = MODELS["mobilenet_v2"].build(
        width=0.5, resolution=160, padding="same", activation="relu"
    )
    assert got == want
    assert got == create_architecture(
        "mobilenet_v2", width=0.5, resolution=160, padding="same", activation="relu"
    )
    assert got != resolve_architecture("mobilenet_v2:resolution=160")


@pytest.mark.parametrize(("resolution", "side"), [(64, 4), (32, 4), (65, 3)])
def test_small_inputs_take_the_small_form(resolution: int, side: int) -> None:
    got = resolve_architecture(f"mobilenet_v2:resolution={resolution}")
    pool = next(layer for layer in layers(got) if layer.op == "global_pool")
    assert pool.input_shape[1:] == (side, side)


def test_the_form_can_be_said() -> None:
    standard = resolve_architecture("mobilenet_v2:resolution=64,form=standard")
    assert standard == MODELS["mobilenet_v2"].build(resolution=64, form="standard")
    small = resolve_architecture("mobilenet_v2:resolution=64,form=small")
    assert small == resolve_architecture("mobilenet_v2:resolution=64") != standard


def test_aliases_are_other_spellings_of_one_network() -> None:
    for alias, (name, settings) in ALIASES.items():
        assert alias not in MODELS
        written = ",".join(f"{key}={value}" for key, value in settings.items())
        direct = resolve_architecture(f"{name}:{written}" if written else name)
        assert resolve_architecture(alias) == direct
    got = resolve_architecture("mobilenetv2_050:classes=5")
    assert got == resolve_architecture("mobilenet_v2:width=0.5,classes=5")
    assert resolve_architecture("mobilenetv2_050:width=0.5") == create_architecture(
        "mobilenetv2_050"
    )
    with pytest.raises(UsageError, match=r"stands for width=0\.5, not 0\.75"):
        resolve_architecture("mobilenetv2_050:width=0.75")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mobilenet_v9", "no network named 'mobilenet_v9'.*did you mean 'mobilenet_v"),
        ("efficientnet-lite0", "did you mean 'efficientnet_lite0'"),
        ("", "no network named ''"),
        ("mobilenet_v2:widht=0.5", "no setting named 'widht'.*did you mean 'width'"),
        ("mobilenet_v2:width=half", "width=half.*allowed: a number"),
        ("mobilenet_v2:resolution=96.5", r"resolution=96\.5.*whole number"),
        ("mobilenet_v2:width", "'width' in .* is not a setting"),
        ("mobilenet_v2:width=", "'width=' in .* is not a setting"),
        ("mobilenet_v2:", "is not a setting"),
        ("mobilenet_v2:width=0.5,", "is not a setting"),
        ("mobilenet_v2:width=0.5,width=1", "'width' is given twice"),
        ("mobilenet_v2:padding=valid", "padding='valid'.*symmetric, same"),
        ("mobilenet_v2:form=tiny", "form='tiny'.*standard, small"),
        ("mobilenet_v2:width=nan", "width=nan"),
        ("mobilenet_v2:resolution=-5", "resolution=-5"),
        ("mobilenet_v2:classes=-1", "classes=-1"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve_architecture(text)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_files_and_run_directories(tmp_path: Path) -> None:
    want = resolve_architecture("mobilenet_v1:width=0.25,resolution=96,classes=3")
    write_architecture(want, tmp_path / "architecture.json")
    assert resolve_architecture(str(tmp_path)) == want
    assert resolve_architecture(str(tmp_path / "architecture.json")) == want
    with pytest.raises(RecordError, match=r"absent\.json"):
        resolve_architecture(str(tmp_path / "absent.json"))
    with pytest.raises(UsageError, match="no such path"):
        resolve_architecture(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no architecture\.json"):
        resolve_architecture(str(tmp_path / "empty"))
    with pytest.raises(UnsupportedError, match="ONNX"):
        resolve_architecture("network.onnx")


def test_a_folder_called_like_a_network_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mobilenet_v2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_architecture("mobilenet_v2").name == "mobilenet_v2"


def test_resolving_and_looking_for_weights_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from featherweight.networks.resolve import resolve_architecture\n"
        "from featherweight.networks.weight_sources import find_pretrained\n"
        "resolve_architecture('mobilenet_v2'), find_pretrained('efficientnet_lite0')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_network_drawn_for_small_pictures_keeps_its_form() -> None:
    """VGG-16 for 32 pixels ends at 2 x 2; its small form would drop a max pool."""
    assert resolve_architecture("vgg16") == MODELS["vgg16"].build(form="standard")
    assert resolve_architecture("vgg16:resolution=24") != MODELS["vgg16"].build(
        resolution=24, form="standard"
    )
