"""Advice: measured twice, sorted, refused where the machine is disturbed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from turns_stand_in import stand_in_for_turns

from featherweight.advising import guidelines as module
from featherweight.advising.advice import Advice
from featherweight.architecture import Architecture, write_architecture
from featherweight.cli.app import run
from featherweight.errors import DeviceError, UnsupportedError, UsageError
from featherweight.exporting.platforms import parse_platform
from featherweight.layers import layers
from featherweight.measuring.bench import export_untrained
from featherweight.measuring.layer_times import NodeTime
from featherweight.networks.channels import is_depthwise
from featherweight.networks.resolve import create_architecture, resolve_architecture
from featherweight.profiling.profile import totals
from featherweight.records import parse_record, read_json


class Clock:
    """A device whose time is what a function says of a network, with a little noise."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, ms: Callable[[Architecture], float]
    ) -> None:
        self.rounds: list[int] = []
        self.ms = ms
        self.noise = 0.002
        self.second_file = 1.0
        self.refuses: Callable[[Architecture], bool] = lambda _: False
        self.nodes: list[NodeTime] = []
        stand_in_for_turns(
            monkeypatch,
            self.take,
            refuses=self.is_refused,
            nodes=lambda: self.nodes or [NodeTime("stem", "Conv", 1.0)],
        )

    def is_refused(self, architecture: Architecture) -> bool:
        return self.refuses(architecture)

    def take(self, networks: Sequence[Architecture], samples: int) -> list[list[float]]:
        self.rounds.append(samples)
        generator = np.random.default_rng(len(self.rounds))
        return [
            list(
                self.ms(one)
                * (self.second_file if place == 1 else 1.0)
                * (1 + self.noise * generator.standard_normal(samples))
            )
            for place, one in enumerate(networks)
        ]


def slow_groups(architecture: Architecture) -> float:
    """Return ms of a device on which grouped convolutions, and nothing else, are slow."""
    groups = sum(
        layer.op == "conv" and layer.groups > 1 and not is_depthwise(layer)
        for layer in layers(architecture)
    )
    return 1.0 + totals(architecture).macs / 1e9 + 0.05 * groups


def test_only_what_the_device_punishes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, slow_groups)
    advice = module.guidelines("shufflenet_v1_g8")
    assert [one.guideline for one in advice.findings] == ["G2"]
    (one,) = advice.findings
    assert one.saved_ms == pytest.approx(0.05 * 31, rel=0.02)
    assert one.interval_ms[0] < one.saved_ms < one.interval_ms[1]
    assert one.ratio_interval[1] < 1
    assert abs(one.macs_ratio - 1) <= 0.02
    assert len(advice.untouched) > 5
    # Twelve variants take turns in one process; what looked faster is measured in two others.
    assert clock.rounds == [30, 30, 60, 60]


def test_a_device_that_punishes_nothing_gets_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, lambda architecture: totals(architecture).macs / 1e8)
    advice = module.guidelines("mobilenet_v3_small")
    assert all(one.saved_ms < 0.02 * advice.median_ms for one in advice.findings)


def test_findings_come_in_the_order_of_what_they_save(monkeypatch: pytest.MonkeyPatch) -> None:
    def ms(architecture: Architecture) -> float:
        listed = layers(architecture)
        swishes = sum(layer.function == "hard_swish" for layer in listed)
        gates = sum(layer.op == "multiply" for layer in listed)
        return 2.0 + 0.02 * swishes + 0.1 * gates

    Clock(monkeypatch, ms)
    advice = module.guidelines("mobilenet_v3_small")
    saved = [one.saved_ms for one in advice.findings]
    assert saved == sorted(saved, reverse=True)
    assert "squeeze-and-excitation" in advice.findings[0].finding
    assert any("hard-swish" in one.finding for one in advice.findings)


def test_costs_are_those_of_the_layers_inside_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, slow_groups)
    names = [layer.name for layer in layers(create_architecture("shufflenet_v1_g8"))]
    clock.nodes = [
        NodeTime(name, "Conv", 3.0 if name == "blocks.6.expand" else 1.0) for name in names
    ]
    advice = module.guidelines("shufflenet_v1_g8")
    (one,) = advice.findings
    assert one.layer == "blocks.6.expand"
    share = (len(one.layers) + 2) / (len(names) + 2)
    assert one.cost_ms == pytest.approx(share * advice.median_ms)
    assert advice.costs_by == "nodes"


def test_what_int8_leaves_in_floats_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, slow_groups)
    clock.nodes = [
        NodeTime("stem", "QLinearConv", 8.0),
        NodeTime("gate", "Mul", 1.0),
        NodeTime("gate.dq", "DequantizeLinear", 0.5),
        NodeTime("gate.q", "QuantizeLinear", 0.5),
    ]
    conversions, floats = module.guidelines(
        "shufflenet_v1_g8", on="local/onnxruntime:precision=int8"
    ).notes
    assert "(10%) go into 2 conversions between integers and floats" in conversions
    assert "(10%) are computed in floats: gate (Mul," in floats
    assert module.guidelines("shufflenet_v1_g8").notes == ()


def test_where_no_runtime_tells_the_network_is_timed_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch, slow_groups)
    advice = module.guidelines("shufflenet_v1_g8", on="local/torch:threads=1")
    assert advice.costs_by == "absence"
    assert advice.findings[0].cost_ms is not None


def test_a_disturbed_machine_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, slow_groups)
    clock.second_file = 1.05
    with pytest.raises(DeviceError, match="two files of one network differ by 5"):
        module.guidelines("shufflenet_v1_g8")


def test_a_disturbed_process_is_timed_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, slow_groups)
    quiet = clock.take

    def take(networks: Sequence[Architecture], samples: int) -> list[list[float]]:
        clock.second_file = 1.05 if len(clock.rounds) == 2 else 1.0
        return quiet(networks, samples)

    stand_in_for_turns(monkeypatch, take)
    assert module.guidelines("shufflenet_v1_g8").findings
    assert clock.rounds == [30, 30, 60, 120, 60]


def test_a_disturbed_glance_hides_no_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Glances in which the second file is faster by luck: what saves less than that is timed."""

    def ms(architecture: Architecture) -> float:
        return 1.0 - 0.06 * (not any(layer.op == "shuffle" for layer in layers(architecture)))

    clock = Clock(monkeypatch, ms)
    clock.noise = 0.0005
    quiet = clock.take

    def take(networks: Sequence[Architecture], samples: int) -> list[list[float]]:
        clock.second_file = 0.9 if len(clock.rounds) < 2 else 1.0  # two parts, or one and its retry
        return quiet(networks, samples)

    stand_in_for_turns(monkeypatch, take)
    assert module.guidelines("shufflenet_v1_g3").findings


def test_a_glance_in_which_everything_is_disturbed_is_refused_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, lambda _: 1.0)
    clock.second_file = 0.9
    with pytest.raises(DeviceError, match="two files of one network differ"):
        module.guidelines("shufflenet_v1_g3")


def test_a_finding_spans_what_two_processes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, slow_groups)
    quiet, slow = clock.take, slow_groups

    def take(networks: Sequence[Architecture], samples: int) -> list[list[float]]:
        share = 0.04 if len(clock.rounds) == 3 else 0.05  # the second process likes groups more
        clock.ms = lambda one: slow(one) + (share - 0.05) / 0.05 * (slow(one) - 1.0)
        return quiet(networks, samples)

    Clock(monkeypatch, slow_groups)
    stand_in_for_turns(monkeypatch, take)
    (one,) = module.guidelines("shufflenet_v1_g8").findings
    low, high = one.ratio_interval
    assert high - low > 0.03
    assert one.ratio == pytest.approx((low + high) / 2, abs=0.002)


def test_what_lies_within_the_noise_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def ms(architecture: Architecture) -> float:
        return 1.0 - 0.02 * (not any(layer.op == "shuffle" for layer in layers(architecture)))

    clock = Clock(monkeypatch, ms)
    clock.noise = 0.0005
    assert module.guidelines("shufflenet_v1_g3").findings
    clock.second_file = 1.025
    assert not module.guidelines("shufflenet_v1_g3").findings


def test_a_slow_file_of_the_network_makes_no_change_a_saving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ms(architecture: Architecture) -> float:
        return 1.0 - 0.04 * (not any(layer.op == "shuffle" for layer in layers(architecture)))

    clock = Clock(monkeypatch, ms)
    clock.noise = 0.0005
    assert module.guidelines("shufflenet_v1_g3").findings
    clock.second_file = 0.972
    advice = module.guidelines("shufflenet_v1_g3")
    assert not advice.findings
    assert advice.median_ms == pytest.approx(0.972, rel=0.002)


def test_what_the_runtime_cannot_hold_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, slow_groups)
    clock.refuses = lambda one: not any(layer.op == "shuffle" for layer in layers(one))
    advice = module.guidelines("shufflenet_v1_g8")
    assert advice.findings == ()
    assert any(one.ratio is None for one in advice.untouched)
    clock.refuses = lambda _: True
    with pytest.raises(UnsupportedError):
        module.guidelines("shufflenet_v1_g8")


def test_a_run_keeps_its_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Clock(monkeypatch, slow_groups)
    write_architecture(create_architecture("shufflenet_v1_g8"), tmp_path / "architecture.json")
    advice = module.guidelines(str(tmp_path))
    assert parse_record(Advice, read_json(tmp_path / "guidelines.json"), source="-") == advice


def test_variants_are_written_to_be_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    Clock(monkeypatch, slow_groups)
    words = ["guidelines", "shufflenet_v1_g8", "--variants", str(tmp_path / "new")]
    assert run(words) == 0
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == "1-G2.json"
    variant = resolve_architecture(str(path))
    assert not any(layer.op == "shuffle" for layer in layers(variant))
    assert variant.changed(num_classes=10).num_classes == 10
    (tmp_path / "file").touch()
    assert run([*words[:-1], str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_file_is_read_layer_by_layer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    artifact = export_untrained(
        create_architecture("shufflenet_v1_g8", resolution=64),
        platform=parse_platform("local/onnxruntime"),
        out=tmp_path / "net",
    )
    Clock(monkeypatch, slow_groups)
    advice = module.guidelines(str(Path(artifact.directory) / artifact.files[0]))
    assert [one.guideline for one in advice.findings] == ["G2"]
    assert "read layer by layer" in advice.notes[0]


def test_the_command_says_what_it_found(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    Clock(monkeypatch, slow_groups)
    assert run(["guidelines", "shufflenet_v1_g8"]) == 0
    text = capsys.readouterr().out
    assert "G2 at" in text
    assert "31 convolutions in 8 groups" in text
    assert run(["guidelines", "shufflenet_v1_g8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0]["guideline"] == "G2"


def test_a_network_without_convolutions_is_refused() -> None:
    from featherweight.architecture import Primitive

    network = Architecture(
        name="flat",
        input_shape=(1, 8, 8),
        primitives=(Primitive(name="out", op="linear", inputs=("input",), out_channels=2),),
        num_classes=2,
    )
    with pytest.raises(UsageError, match="flat has no convolutions"):
        module.guidelines(network)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["guidelines"], "no network was given"),
        (["guidelines", "mobilenet_v2", "--experiment"], "together with the network"),
        (["guidelines", "mobilnet_v2"], "did you mean 'mobilenet_v2'"),
        (["guidelines", "mobilenet_v2", "--on", "local/onnxruntime:precision=fp8"], "fp8"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], said: str, capsys: Any) -> None:
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_a_module_needs_its_input() -> None:
    torch = pytest.importorskip("torch")
    module_of_users = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    with pytest.raises(UsageError, match="needs input_shape"):
        module.guidelines(module_of_users)


def test_a_module_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    clock = Clock(monkeypatch, slow_groups)
    own = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 32, 3, padding=1, groups=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 5),
    )
    advice = module.guidelines(own, input_shape=(3, 16, 16))
    assert [one.guideline for one in advice.findings] == ["G2"]
    assert clock.rounds
