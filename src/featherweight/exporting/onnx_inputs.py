"""Which sizes the inputs of an ONNX file have, where the file leaves them open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from featherweight.errors import UsageError

__all__ = ["InputShape", "fix_inputs"]

InputShape = tuple[int, ...] | Mapping[str, tuple[int, ...]] | None
"""Sizes without the batch axis, of the first input or of inputs by name."""

_LARGEST = 2**31
_Size = int | str | None


def fix_inputs(model: onnx.ModelProto, path: Path, *, input_shape: InputShape) -> list[str]:
    """Write a number into every open size of the inputs and return their names.

    1 for a batch axis, as `input_shape` says, and the same for the same symbol. Sizes that the
    file states of other tensors are left out: they may be those of other inputs.

    Raises:
        UsageError: a size stays open, or `input_shape` contradicts the file.
    """
    constants = {constant.name for constant in model.graph.initializer}
    constants |= {constant.values.name for constant in model.graph.sparse_initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    given = _given(path, [value.name for value in inputs], input_shape)
    tensors = [value for value in inputs if value.type.HasField("tensor_type")]
    symbols: dict[str, int] = {}
    shapes = {
        value.name: _settle(value, f"{path}: input {value.name!r}", given.get(value.name), symbols)
        for value in tensors
    }
    for value in tensors:
        shape = [symbols.get(s) if isinstance(s, str) else s for s in shapes[value.name]]
        if None in shape:
            raise UsageError(
                f"{path}: input {value.name!r} of shape {_shown(shape)} is open beyond its batch "
                "axis",
                hint="export it with fixed sizes, or use Python: "
                "fw.profile(path, input_shape=(3, 224, 224)), with several inputs "
                f"input_shape={{{value.name!r}: (3, 224, 224), ...}}",
            )
        sizes = value.type.tensor_type.shape
        sizes.Clear()
        for size in shape:
            sizes.dim.add().dim_value = size
    del model.graph.value_info[:]
    return [value.name for value in inputs]


def _given(path: Path, names: list[str], input_shape: InputShape) -> Mapping[str, tuple[int, ...]]:
    if input_shape is None or not names:
        return {}
    given = input_shape if isinstance(input_shape, Mapping) else {names[0]: input_shape}
    for name, shape in given.items():
        if name not in names:
            raise UsageError(f"{path} has no input {name!r}", allowed=", ".join(names))
        if not all(0 < size < _LARGEST for size in shape):
            raise UsageError(f"{path}: input {name!r} does not take input_shape {shape}")
    return given


def _settle(
    value: onnx.ValueInfoProto,
    place: str,
    given: tuple[int, ...] | None,
    symbols: dict[str, int],
) -> list[_Size]:
    """Return the sizes of an input; a symbol or `None` where nothing says one yet."""
    kind = value.type.tensor_type
    sizes: list[_Size] = [
        size.dim_value if size.dim_value > 0 else size.dim_param or None for size in kind.shape.dim
    ]
    if not kind.HasField("shape") and given is None:
        raise UsageError(
            f"{place} has no shape, it is open beyond its batch axis",
            hint="use Python: fw.profile(path, input_shape=(3, 224, 224))",
        )
    if not kind.HasField("shape") and given is not None:
        sizes = [None] * (1 + len(given))
    if given is not None and len(given) + 1 != len(sizes):
        raise UsageError(f"{place} of shape {_shown(sizes)} does not take input_shape {given}")
    wanted = [1, *(given if given is not None else [None] * (len(sizes) - 1))]
    settled: list[_Size] = []
    for size, choice in zip(sizes, wanted, strict=False):
        known = symbols.get(size) if isinstance(size, str) else size
        batch_is_fixed = not settled and isinstance(size, int)
        if choice is not None and known not in (None, choice) and not batch_is_fixed:
            raise UsageError(f"{place} of shape {_shown(sizes)} does not take input_shape {given}")
        if isinstance(size, str) and choice is not None:
            symbols[size] = choice
        settled.append(size if known is not None or choice is None else choice)
    return settled


def _shown(sizes: list[_Size] | list[int | None]) -> list[int | str]:
    return ["open" if size is None else size for size in sizes]
