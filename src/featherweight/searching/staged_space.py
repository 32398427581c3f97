"""Spaces of stages: one record says what each stage of a network may be made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import yaml
from pydantic import Field, model_validator

from featherweight.architecture import Activation, Architecture, BlockSpec
from featherweight.errors import UsageError
from featherweight.records import Record, parse_record
from featherweight.searching.space import Choice, Point, SpaceSettings

__all__ = ["Op", "StageChoices", "StagedSpace", "StagedSpaceRecord", "read_staged_space"]

Op = Literal["conv", "separable", "mbconv3", "mbconv6"]
Skip = Literal["none", "identity", "pool"]
Reduction = Literal["stride", "pool"]

_PER_LAYER = ("op", "kernel_size", "squeeze", "skip", "out_channels")


class StageChoices(Record):
    """What one stage may be: its layers are alike, unless the space decides layer by layer.

    Attributes:
        op: `conv`: one k x k convolution; `separable`: depthwise k x k and linear 1x1; `mbconv3`,
            `mbconv6`: inverted residuals of that expansion.
        kernel_size: sides of the spatial kernel.
        squeeze: reduced width of squeeze-and-excitation as a share of the layer's input; 0 = none.
        skip: `identity` where stride and widths allow it, `pool` where the layer does not narrow
            the map, or none.
        out_channels: widths.
        repeats: numbers of layers; 0 = the stage is left out.
        stride: of its first layer.
        reduction: how a stage of another stride than 1 shrinks the map: by the stride of its first
            layer, or by a max pool behind it, which then has no skip.
    """

    op: tuple[Op, ...] = ("conv",)
    kernel_size: tuple[int, ...] = (3,)
    squeeze: tuple[float, ...] = (0.0,)
    skip: tuple[Skip, ...] = ("identity",)
    out_channels: tuple[int, ...]
    repeats: tuple[int, ...] = (1,)
    stride: int = Field(default=1, ge=1)
    reduction: tuple[Reduction, ...] = ("stride",)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in (*_PER_LAYER, "repeats", "reduction"):
            options = getattr(self, name)
            if not options or len(set(options)) < len(options):
                raise ValueError(f"{name} needs options, each once")
        numbers = (*self.kernel_size, *self.out_channels)
        if min(numbers) < 1 or min(self.squeeze) < 0 or min(self.repeats) < 0:
            raise ValueError("widths and kernels are at least 1, squeeze and repeats at least 0")
        if any(side % 2 == 0 for side in self.kernel_size):
            raise ValueError("kernel_size must be odd")
        if self.stride > 1 and 0 in self.repeats:
            raise ValueError("a stage that shrinks the map cannot be left out")
        return self


class StagedSpaceRecord(Record):
    """A whole space; the form of the files that users write.

    Attributes:
        name: what people call it.
        stem_channels, stem_stride: of the first 3x3 convolution.
        stages: in order.
        head_channels: widths of the last 1x1 convolution; 0 = none.
        activation: of all layers.
        per_layer: whether every layer of a stage is decided for itself (the flat space), its
            number apart.
    """

    name: str
    stem_channels: tuple[int, ...] = (32,)
    stem_stride: int = Field(default=2, ge=1)
    stages: tuple[StageChoices, ...] = Field(min_length=1)
    head_channels: tuple[int, ...] = (1280,)
    activation: Activation = "relu"
    per_layer: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, least in (("stem_channels", 1), ("head_channels", 0)):
            widths = getattr(self, name)
            if not widths or len(set(widths)) < len(widths) or min(widths) < least:
                raise ValueError(f"{name} needs widths of at least {least}, each once")
        return self


class _Layer(NamedTuple):
    op: Op
    kernel_size: int
    squeeze: float
    skip: Skip
    out_channels: int


@dataclass(frozen=True)
class StagedSpace:
    """The networks of a record, at a size and for a number of classes."""

    record: StagedSpaceRecord
    settings: SpaceSettings

    @property
    def name(self) -> str:
        """What people call it."""
        return self.record.name

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Everything with more than one option."""
        return tuple(
            Choice(name, tuple(map(str, options)))
            for name, options in self._slots
            if len(options) > 1
        )

    @cached_property
    def _slots(self) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        """Everything that a network is made of: its name, and its options, were it one alone."""
        slots: list[tuple[str, tuple[Any, ...]]] = [("stem", self.record.stem_channels)]
        for index, stage in enumerate(self.record.stages, 1):
            slots += [
                (f"{index}.{name}", getattr(stage, name)) for name in ("repeats", "reduction")
            ]
            for layer in self._layer_names(index, stage):
                slots += [(f"{layer}.{name}", getattr(stage, name)) for name in _PER_LAYER]
        slots.append(("head", self.record.head_channels))
        return tuple(slots)

    def _layer_names(self, index: int, stage: StageChoices) -> list[str]:
        if not self.record.per_layer:
            return [str(index)]
        return [f"{index}.{layer}" for layer in range(1, max(stage.repeats) + 1)]

    def decode(self, point: Point) -> Architecture:
        """Return the network of a point."""
        digits = "-".join(map(str, point))
        return Architecture(
            name=f"{self.name}/{digits}",
            input_shape=self.settings.input_shape,
            blocks=tuple(block for _, block in self._placed(point)),
            num_classes=self.settings.num_classes,
        )

    def places(self, point: Point) -> tuple[str, ...]:
        """Return stage and layer of every block."""
        return tuple(place for place, _ in self._placed(point))

    def _placed(self, point: Point) -> list[tuple[str, BlockSpec]]:
        """Return the blocks of a point, each with its place."""
        chosen, options = {}, iter(point)
        for name, slot in self._slots:
            chosen[name] = slot[next(options)] if len(slot) > 1 else slot[0]
        activation = self.record.activation
        channels = chosen["stem"]
        stem = BlockSpec(
            op="conv", out_channels=channels, stride=self.record.stem_stride, activation=activation
        )
        blocks = [("stem", stem)]
        for index, stage in enumerate(self.record.stages, 1):
            names = self._layer_names(index, stage)
            pools = chosen[f"{index}.reduction"] == "pool" and stage.stride > 1
            for number in range(chosen[f"{index}.repeats"]):
                name = names[number if self.record.per_layer else 0]
                layer = _Layer(*(chosen[f"{name}.{part}"] for part in _PER_LAYER))
                stride = stage.stride if number == 0 and not pools else 1
                if pools and number == 0:
                    layer = layer._replace(skip="none")
                place = f"{index}.{number + 1}"
                block = _block(layer, channels, stride=stride, activation=activation)
                blocks.append((place, block))
                channels = layer.out_channels
                if pools and number == 0:
                    pool = BlockSpec(
                        op="max_pool",
                        out_channels=channels,
                        kernel_size=stage.stride,
                        stride=stage.stride,
                    )
                    blocks.append((f"{place}.pool", pool))
        if chosen["head"]:
            head = BlockSpec(
                op="conv", out_channels=chosen["head"], kernel_size=1, activation=activation
            )
            blocks.append(("head", head))
        return blocks

    def key(self, point: Point) -> str:
        """Return the digest of the network."""
        return self.decode(point).digest


def read_staged_space(path: Path, settings: SpaceSettings) -> StagedSpace:
    """Read a space that a user wrote (YAML).

    Raises:
        UsageError: no such file, no YAML, or a stage shrinks its map below a pixel; names it.
        RecordError: it does not describe a space; names the key.
    """
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"cannot read the space {path}: {reason}", allowed="a YAML file"
        ) from error
    space = StagedSpace(parse_record(StagedSpaceRecord, plain, source=str(path)), settings)
    side = -(-min(settings.input_shape[1:]) // space.record.stem_stride)
    for index, stage in enumerate(space.record.stages, 1):
        if stage.stride > side:
            raise UsageError(
                f"{path} draws impossible networks: stage {index} has the stride {stage.stride}, "
                f"on a map of {side} x {side}",
                allowed=f"strides whose product is at most {min(settings.input_shape[1:])}",
            )
        side = -(-side // stage.stride)
    return space


def _block(layer: _Layer, channels: int, *, stride: int, activation: Activation) -> BlockSpec:
    """Return the block of a layer on `channels`."""
    skip = layer.skip
    if skip == "identity" and (stride != 1 or channels != layer.out_channels):
        skip = "none"
    if skip == "pool" and channels > layer.out_channels:
        skip = "none"
    common: dict[str, Any] = {
        "out_channels": layer.out_channels,
        "kernel_size": layer.kernel_size,
        "stride": stride,
        "activation": activation,
        "skip": skip,
    }
    if layer.squeeze:
        common |= {"se_channels": max(1, int(channels * layer.squeeze)), "se_gate": "sigmoid"}
    if layer.op == "conv":
        return BlockSpec(op="conv", **common)
    expansion = {"separable": None, "mbconv3": 3, "mbconv6": 6}[layer.op]
    hidden = None if expansion is None else expansion * channels
    return BlockSpec(op="inverted_residual", hidden_channels=hidden, **common)
