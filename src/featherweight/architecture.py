"""What a network is: a frozen value with every width written out."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from featherweight.arguments import to_path
from featherweight.errors import ArchitectureError
from featherweight.records import Record, parse_record, read_json, to_plain, write_json

__all__ = [
    "Activation",
    "Architecture",
    "BlockSpec",
    "NamedOutput",
    "Primitive",
    "make_divisible",
    "read_architecture",
    "small_form",
    "write_architecture",
]

Activation = Literal["none", "relu", "relu6", "hard_swish"]


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a width to a multiple of `divisor` without losing more than 10 %.

    Source: tensorflow/models slim `_make_divisible`, used by MobileNetV2, V3 and MnasNet.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class BlockSpec(Record):
    """One block; the defaults are neutral.

    A non-neutral value in a field that the operator does not use is an error of `layers`.

    Attributes:
        op: name of the operator (see `featherweight.operators`).
        out_channels: width after the block.
        kernel_size: side of the square spatial kernel.
        stride: spatial reduction of the block.
        groups: groups of the spatial convolution; of both 1x1 convolutions of a ShuffleNetV1
            unit.
        entry_groups: groups of the first 1x1 convolution where they differ from `groups`.
        hidden_channels: width inside the block; `None` = no expansion convolution, or the width
            that the paper of the operator gives.
        start_kernel_size: side of a depthwise convolution before the expansion; `None` = none.
        shortcut_channels: width of the shortcut where a ShuffleNetV2 unit changes the map; `None`
            = half of `out_channels`.
        se_channels: reduced width of squeeze-and-excitation; 0 = none.
        se_gate: function that ends squeeze-and-excitation.
        activation: non-linearity after the norms.
        skip: what is added to the block's output.
        ghost_ratio: channels of a dense convolution's output per channel that it computes; the
            others come from cheap depthwise convolutions. 1 = an ordinary convolution.
        cheap_kernel_size: side of those cheap convolutions.
    """

    op: str
    out_channels: int = Field(ge=1)
    kernel_size: int = Field(default=3, ge=1)
    stride: int = Field(default=1, ge=1)
    groups: int = Field(default=1, ge=1)
    entry_groups: int | None = Field(default=None, ge=1)
    hidden_channels: int | None = Field(default=None, ge=1)
    start_kernel_size: int | None = Field(default=None, ge=1)
    shortcut_channels: int | None = Field(default=None, ge=1)
    se_channels: int = Field(default=0, ge=0)
    se_gate: Literal["hard_sigmoid", "sigmoid"] = "hard_sigmoid"
    activation: Activation = "none"
    skip: Literal["none", "identity", "pool", "pad"] = "none"
    ghost_ratio: int = Field(default=1, ge=1)
    cheap_kernel_size: int = Field(default=3, ge=1)


class Primitive(Record):
    """One layer of an imported network, without shapes: they follow from the input.

    The fields are those of `featherweight.layers.Layer`; `out_channels` is the width of a
    convolution, a linear layer, a selection or a map with zero channels appended; `padding` is
    `same` where it follows from the size of the input as TensorFlow has it.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = Field(min_length=1)
    out_channels: int | None = Field(default=None, ge=1)
    kernel_size: int = Field(default=1, ge=1)
    stride: int = Field(default=1, ge=1)
    groups: int = Field(default=1, ge=1)
    factor: int = Field(default=1, ge=1)
    padding: tuple[int, int, int, int] | Literal["same"] = (0, 0, 0, 0)
    bias: bool = False
    norm_eps: float | None = None
    function: str = ""
    first_channel: int = Field(default=0, ge=0)

    @property
    def classes(self) -> int:
        """Outputs of a linear layer; 0 = another layer, which gives features."""
        return self.out_channels or 0 if self.op == "linear" else 0


class NamedOutput(Record):
    """Something that a graph of primitives answers: its name, and the layer whose output it is."""

    name: str
    layer: str


class Architecture(Record):
    """A classifier: blocks, then global average pooling, then linear layers; or a plain graph.

    Attributes:
        name: what people call it; not part of the digest.
        input_shape: (C, H, W).
        blocks: from the first convolution to the last feature map.
        primitives: all layers of an imported network, or of a part of a detector, instead of
            blocks and what follows them.
        outputs: what a graph of primitives answers that is no classifier; () = `logits`, of the
            last layer.
        fixed_size: of an imported network that computes what it should at `input_shape` alone.
        head_channels: widths of the linear layers between pooling and classifier.
        head_norm: whether each of them has a batch norm instead of a bias.
        head_activation: non-linearity after each of them.
        num_classes: outputs of the last linear layer; 0 = none, the network ends with features.
        dropout: share of features dropped before the classifier while training.
        norm_eps: epsilon of every batch norm.
        padding: `symmetric` (k // 2 on each side, PyTorch) or `same` (TensorFlow SAME).
    """

    kind: Literal["classifier"] = "classifier"
    name: str
    input_shape: tuple[int, int, int]
    blocks: tuple[BlockSpec, ...] = ()
    primitives: tuple[Primitive, ...] = ()
    outputs: tuple[NamedOutput, ...] = ()
    fixed_size: bool = False
    head_channels: tuple[int, ...] = ()
    head_norm: bool = False
    head_activation: Activation = "none"
    num_classes: int = Field(ge=0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    norm_eps: float = Field(default=1e-5, gt=0.0)
    padding: Literal["symmetric", "same"] = "symmetric"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if min(self.input_shape) < 1:
            raise ValueError("input_shape must be positive")
        if bool(self.blocks) == bool(self.primitives):
            raise ValueError("either blocks or primitives must be given")
        if self.outputs:
            named = [one.name for one in self.outputs]
            missing = {one.layer for one in self.outputs} - {one.name for one in self.primitives}
            if missing or len(set(named)) < len(named) or self.num_classes:
                raise ValueError(
                    "outputs are of primitives, with different names, and of no classifier"
                )
        elif self.primitives and self.primitives[-1].classes != self.num_classes:
            raise ValueError(f"the last primitive has {self.primitives[-1].classes} classes")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted-key JSON without name and without neutral values."""
        plain = self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    @property
    def resolution(self) -> int:
        """Height of the input."""
        return self.input_shape[1]

    def at_resolution(self, resolution: int) -> Architecture:
        """Return the same network for a square input of another size."""
        return self.changed(input_shape=(self.input_shape[0], resolution, resolution))

    def changed(self, **fields: Any) -> Architecture:
        """Return a validated copy with some fields replaced.

        Raises:
            ArchitectureError: an imported network that has one size, or no classifier to replace.
        """
        if self.fixed_size and fields.get("input_shape", self.input_shape) != self.input_shape:
            wanted, own = (
                " x ".join(map(str, shape)) for shape in (fields["input_shape"], self.input_shape)
            )
            raise ArchitectureError(
                f"{self.name} cannot be made for {wanted}: it was imported at {own} and is known "
                "to be right at that size alone",
                hint="import it at that size (of timm: NAME:resolution=N)",
            )
        if self.primitives and fields.get("num_classes", self.num_classes) != self.num_classes:
            *rest, last = self.primitives
            if not last.classes or not fields["num_classes"]:
                raise ArchitectureError(f"{self.name} is imported: its classifier stays as it is")
            wider = last.model_copy(update={"out_channels": fields["num_classes"]})
            fields = {"primitives": (*rest, wider), **fields}
        return Architecture.model_validate({**self.model_dump(), **fields})


def read_architecture(path: str | Path) -> Architecture:
    """Read an architecture.json.

    Raises:
        RecordError: the file does not describe an Architecture; names the key path.
    """
    path = to_path(path, name="path")
    return parse_record(Architecture, read_json(path), source=str(path))


def write_architecture(architecture: Architecture, path: Path) -> None:
    """Write an architecture.json."""
    write_json(path, to_plain(architecture))


def small_form(architecture: Architecture, *, smallest_map: int = 4) -> Architecture:
    """Remove strides from the front until the last feature map is at least 4 x 4.

    Networks drawn for 224 x 224 leave one pixel of a 32 x 32 picture; their small form keeps
    the widths and blocks and spends the resolution later. A max pool without stride is dropped.

    Raises:
        ArchitectureError: the input itself is smaller than `smallest_map`.
    """
    side = min(architecture.input_shape[1:])
    if side < smallest_map:
        raise ArchitectureError(
            f"an input of {side} pixels is too small for the small form",
            allowed=f"{smallest_map} pixels or more",
        )
    blocks = list(architecture.blocks)
    position = 0
    while _last_map(side, blocks) < smallest_map:
        if blocks[position].stride > 1:
            blocks[position] = BlockSpec.model_validate(
                {**blocks[position].model_dump(), "stride": 1}
            )
        position += 1
    kept = [block for block in blocks if block.op != "max_pool" or block.stride > 1]
    return architecture.changed(blocks=tuple(kept))


def _last_map(side: int, blocks: list[BlockSpec]) -> int:
    for block in blocks:
        if block.op == "max_pool" and block.stride == 1:
            continue  # it will be dropped
        even = block.kernel_size % 2 == 0  # such a window does not reach over the last pixel
        side = (side - 2) // block.stride + 1 if even else math.ceil(side / block.stride)
    return side
