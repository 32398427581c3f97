"""The padding and the output shape of one primitive of an imported network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featherweight.architecture import Primitive
from featherweight.errors import ArchitectureError

__all__ = ["Padding", "Shape", "pad_axis", "shape_primitive"]

Shape = tuple[int, ...]
Padding = tuple[int, int, int, int]


def shape_primitive(primitive: Primitive, given: Sequence[Shape]) -> tuple[Padding, Shape]:
    """Return padding (top, left, bottom, right) and output shape, for inputs of given shapes.

    Raises:
        ArchitectureError: the primitive is unknown, or cannot take them.
    """
    _check_operands(primitive, given)
    padding = _primitive_padding(primitive, given[0])
    return padding, _primitive_shape(primitive, given, padding)


def _primitive_padding(primitive: Primitive, shape: Shape) -> Padding:
    if primitive.padding != "same":
        return primitive.padding
    ends = [
        pad_axis(size, primitive.kernel_size, primitive.stride, same=True) for size in shape[1:]
    ]
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def _primitive_shape(primitive: Primitive, given: Sequence[Shape], padding: Padding) -> Shape:
    first, width = given[0], primitive.out_channels or given[0][0]
    shapes: dict[str, Callable[[], Shape]] = {
        "activation": lambda: first,
        "shuffle": lambda: first,
        "add": lambda: first,
        "multiply": lambda: first,
        "global_pool": lambda: (first[0], 1, 1),
        "resize": lambda: (first[0], *(primitive.factor * size for size in first[1:])),
        "concat": lambda: (sum(shape[0] for shape in given), *first[1:]),
        "linear": lambda: (width,),
        "select": lambda: (width, *first[1:]),
        "pad": lambda: (width, *first[1:]),
        "conv": lambda: (width, *_window_size(primitive, first, padding)),
        "pool": lambda: (width, *_window_size(primitive, first, padding)),
    }
    if primitive.op == "conv" and width % primitive.groups:
        raise ArchitectureError(
            f"{primitive.name}: {primitive.groups} groups do not divide {width} outputs"
        )
    if primitive.op not in shapes:
        raise ArchitectureError(f"{primitive.name}: {primitive.op!r} is no known layer")
    return shapes[primitive.op]()


def _check_operands(primitive: Primitive, given: Sequence[Shape]) -> None:
    first = given[0]
    if primitive.op == "concat":
        fits = all(shape[1:] == first[1:] for shape in given)
    elif primitive.op in {"add", "multiply"}:
        fits = given[1] in (first, (first[0], 1, 1))
    elif primitive.op in {"conv", "pool", "resize"}:
        fits = len(first) == 3 and first[0] % primitive.groups == 0
    else:
        fits = True
    if not fits:
        shapes = ", ".join(str(shape) for shape in given)
        raise ArchitectureError(f"{primitive.name}: {primitive.op} of {shapes} is not possible")


def _window_size(primitive: Primitive, shape: Shape, padding: Padding) -> tuple[int, int]:
    top, left, bottom, right = padding
    side, step = primitive.kernel_size, primitive.stride
    rows = (shape[1] + top + bottom - side) // step + 1
    columns = (shape[2] + left + right - side) // step + 1
    if min(rows, columns) < 1:
        raise ArchitectureError(f"{primitive.name}: {shape} is smaller than its kernel")
    return rows, columns


def pad_axis(size: int, kernel_size: int, stride: int, *, same: bool) -> tuple[int, int, int]:
    """Return (before, after, output size) of one axis.

    Both rules give ceil(size / stride) outputs for odd kernels. SAME puts the odd pixel after.
    """
    if same:
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + kernel_size - size, 0)
        return total // 2, total - total // 2, outputs
    half = kernel_size // 2 if kernel_size % 2 else (kernel_size - 1) // 2
    outputs = (size + 2 * half - kernel_size) // stride + 1
    return half, half, outputs
