"""A LiteRT (TensorFlow Lite) graph under construction: tensors, constants, operators, the file.

Source: the schema that comes with ai-edge-litert (`schema_py_generated`). Maps are (N, H, W, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from featherweight.errors import MissingDependencyError

__all__ = ["Graph", "Quantised", "Window"]

_KINDS = {"float32": "FLOAT32", "int32": "INT32", "int8": "INT8"}


class Quantised(NamedTuple):
    """value = scale * (level - zero_point).

    Attributes:
        scale: one for a tensor, or one for each index along `axis`.
        zero_point: one for all.
        axis: of the scales.
    """

    scale: Sequence[float]
    zero_point: int
    axis: int = 0


class Window(NamedTuple):
    """How a convolution or pool steps over a map; padding is (top, left, bottom, right)."""

    size: int
    stride: int
    padding: tuple[int, int, int, int]

    def inverse_shares(self, sizes: tuple[int, ...]) -> np.ndarray:
        """Return the size of a window over its places inside the map, float32 (1, H, W, 1).

        Args:
            sizes: height and width of the map.
        """
        inside = []
        for size, before, after in zip(sizes, self.padding[:2], self.padding[2:], strict=True):
            steps = (size + before + after - self.size) // self.stride + 1
            starts = np.arange(steps) * self.stride - before
            inside.append(np.minimum(starts + self.size, size) - np.maximum(starts, 0))
        shares = self.size**2 / np.outer(inside[0], inside[1])
        return np.asarray(shares, dtype=np.float32)[None, :, :, None]


class Graph:
    """Collects tensors and operators; each has a number, and `file` writes them."""

    def __init__(self) -> None:
        self._schema, self._flatbuffers = _libraries()
        self._buffers: list[Any] = [self._schema.BufferT()]  # the first one is empty by convention
        self._tensors: list[Any] = []
        self._levels: list[Quantised | None] = []
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}
        self.input = -1

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._tensors[tensor].shape)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        *,
        kind: str = "FLOAT32",
        quantised: Quantised | None = None,
    ) -> int:
        """Add a tensor that an operator fills, and return its number."""
        made = self._schema.TensorT()
        made.name, made.shape = name, [int(size) for size in shape]
        made.type = self.kind(kind)
        if quantised is not None:
            levels = self._schema.QuantizationParametersT()
            levels.scale = [float(step) for step in quantised.scale]
            levels.zeroPoint = [quantised.zero_point] * len(levels.scale)
            levels.quantizedDimension = quantised.axis
            made.quantization = levels
        self._tensors.append(made)
        self._levels.append(quantised)
        return len(self._tensors) - 1

    def levels(self, tensor: int) -> Quantised | None:
        """Return the levels of a tensor; `None` = its values are plain."""
        return self._levels[tensor]

    def constant(self, name: str, values: np.ndarray, *, quantised: Quantised | None = None) -> int:
        """Add a constant, float32, int32 or int8, and return its number."""
        kind = _KINDS[values.dtype.name]
        number = self.tensor(name, values.shape, kind=kind, quantised=quantised)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), dtype=np.uint8)
        self._buffers.append(buffer)
        self._tensors[number].buffer = len(self._buffers) - 1
        return number

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        output: int,
        options: str | None = None,
        **fields: Any,  # of the options, named as in the schema
    ) -> int:
        """Add an operator with one output and return that."""
        schema = self._schema
        code = getattr(schema.BuiltinOperator, kind)
        made = schema.OperatorT()
        made.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        made.inputs, made.outputs = list(inputs), [output]
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            made.builtinOptions = getattr(schema, f"{options}T")()
            for field, value in fields.items():
                setattr(made.builtinOptions, field, value)
        self._operators.append(made)
        return output

    def activation(self, function: str) -> int:
        """Return the number of a joined activation."""
        return int(getattr(self._schema.ActivationFunctionType, function.upper() or "NONE"))

    def padding(self, *, same: bool) -> int:
        """Return the number of a padding rule."""
        return int(self._schema.Padding.SAME if same else self._schema.Padding.VALID)

    def kind(self, name: str) -> int:
        """Return the number of a type of values."""
        return int(getattr(self._schema.TensorType, name))

    def reshape(self, x: int, name: str, shape: tuple[int, ...]) -> int:
        """Add a RESHAPE."""
        sizes = self.constant(f"{name}.shape", np.array(shape, dtype=np.int32))
        output = self.like(x, name, shape)
        return self.operator("RESHAPE", [x, sizes], output, "ReshapeOptions", newShape=list(shape))

    def transpose(self, x: int, name: str, order: Sequence[int]) -> int:
        """Add a TRANSPOSE."""
        number = self.constant(f"{name}.order", np.array(order, dtype=np.int32))
        output = self.like(x, name, [self.shape(x)[axis] for axis in order])
        return self.operator("TRANSPOSE", [x, number], output, "TransposeOptions")

    def shuffle(self, x: int, name: str, *, groups: int) -> int:
        """Add what reorders channels: (groups, n) read as (n, groups)."""
        shape = self.shape(x)
        apart = self.reshape(x, f"{name}.apart", (*shape[:3], groups, shape[3] // groups))
        return self.reshape(self.transpose(apart, f"{name}.turned", (0, 1, 2, 4, 3)), name, shape)

    def resize(self, x: int, name: str, *, factor: int) -> int:
        """Repeat every pixel along rows and columns."""
        batch, height, width, channels = self.shape(x)
        sizes = np.array([factor * height, factor * width], dtype=np.int32)
        size = self.constant(f"{name}.size", sizes)
        output = self.like(x, name, (batch, *sizes.tolist(), channels))
        return self.operator(
            "RESIZE_NEAREST_NEIGHBOR", [x, size], output, "ResizeNearestNeighborOptions"
        )

    def pad(self, x: int, name: str, pads: np.ndarray, *, value: np.ndarray | None = None) -> int:
        """Add zeros, or another value, around a map.

        Args:
            x: the map.
            name: of the output.
            pads: int32 (4, 2), before and after each axis.
            value: float32 or int8, of no axis; `None` = zero.
        """
        number = self.constant(f"{name}.pads", pads.astype(np.int32))
        shape = [size + int(both) for size, both in zip(self.shape(x), pads.sum(1), strict=True)]
        output = self.like(x, name, shape)
        if value is None:
            return self.operator("PAD", [x, number], output, "PadOptions")
        filling = self.constant(f"{name}.filling", value, quantised=self.levels(x))
        return self.operator("PADV2", [x, number, filling], output, "PadV2Options")

    def padded(
        self, x: int, name: str, window: Window, *, value: np.ndarray | None = None
    ) -> tuple[int, int]:
        """Return what a window reads and its padding rule.

        A padding that is not TensorFlow's SAME is written out.
        """
        if not any(window.padding):
            return x, self.padding(same=False)
        if window.padding == _same_padding(self.shape(x)[1:3], window):
            return x, self.padding(same=True)
        top, left, bottom, right = window.padding
        pads = np.array([[0, 0], [top, bottom], [left, right], [0, 0]])
        return self.pad(x, f"{name}.padded", pads, value=value), self.padding(same=False)

    def like(self, x: int, name: str, shape: Sequence[int]) -> int:
        """Add a tensor of another shape with the type and levels of `x`."""
        number = self.tensor(name, shape, quantised=self.levels(x))
        self._tensors[number].type = self._tensors[x].type
        return number

    def file(self, *, outputs: Mapping[str, int], description: str, notes: str) -> bytes:
        """Return the serialised model."""
        schema = self._schema
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs, graph.outputs = [self.input], list(outputs.values())
        for name, number in outputs.items():
            self._tensors[number].name = name
        model = schema.ModelT()
        model.version, model.description = 3, description
        model.subgraphs = [graph]
        model.operatorCodes = []
        for code in self._codes:
            made = schema.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode = code, min(code, 127)
            made.version = 1
            model.operatorCodes.append(made)
        kept = schema.BufferT()
        kept.data = np.frombuffer(notes.encode(), dtype=np.uint8)
        self._buffers.append(kept)
        about = schema.MetadataT()
        about.name, about.buffer = "featherweight", len(self._buffers) - 1
        model.metadata, model.buffers = [about], self._buffers
        builder = self._flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _libraries() -> tuple[Any, Any]:
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingDependencyError(
            "LiteRT is not installed", hint='pip install "featherweight[litert]"'
        ) from error
    return schema_py_generated, flatbuffers


def _same_padding(sizes: tuple[int, ...], window: Window) -> tuple[int, int, int, int]:
    """Return what TensorFlow's SAME adds: top, left, bottom, right."""
    height, width = (
        max((-(-size // window.stride) - 1) * window.stride + window.size - size, 0)
        for size in sizes
    )
    return (height // 2, width // 2, height - height // 2, width - width // 2)
