"""Count any torch module by running it once and seeing every ATen operator.

The operators are seen below autograd, before composite ones are taken apart: a linear layer is
one operation with its bias, scaled dot-product attention is one operation whichever kernel runs,
and functional calls and `@` count like modules. An operator without a table entry is taken apart
as torch itself would; if that is not possible it is unknown, and the totals are `None`.

This is the one module of the package that needs torch; nothing here imports it.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from featherweight.errors import FeatherweightError, UnsupportedError, UsageError
from featherweight.nn.foreign import check_module, evaluated, in_one_line
from featherweight.profiling.aten import COUNTED, FREE, METADATA
from featherweight.profiling.profile import LayerProfile, Profile, layer_profile, network_profile
from featherweight.profiling.rules import NOTHING, Arithmetic

__all__ = ["profile_module"]


def profile_module(
    module: nn.Module,
    *,
    input_shape: tuple[int, ...] | None = None,
    inputs: tuple[Any, ...] | None = None,
    name: str | None = None,
) -> Profile:
    """Count a torch module on whichever device it is; a module on `meta` needs no memory.

    The module runs once in eval mode without gradients. Its training flags, torch's generator on
    the CPU and torch's fast path of attention are left as they were, also when it fails.

    Args:
        module: what to count; of a DataParallel the module inside it.
        input_shape: (C, H, W), or whatever the module takes, without the batch axis: it is given
            zeros (1, *input_shape) of its own dtype.
        inputs: positional arguments instead, batch axes included; everything is then counted for
            the whole batch.
        name: of the profile; by default the module's class.

    Returns:
        One row per operation that computes or moves data, named by the path of the module that
        ran it; the second one of the same module is `path:2`. Each parameter belongs to the first
        row that reads it. `params` are the module's distinct parameters, used or not, and are
        known even when an operator is not; `None` of a frozen module, which has constants instead.

    Raises:
        UsageError: not a module, a lazy one without weights, not exactly one of the two inputs,
            or the module cannot run on them; names the exception of the module.
        UnsupportedError: it was compiled, so that torch does not see its operators.
    """
    check_module(module, verb="count")
    while isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        module = module.module  # its threads would run where nobody counts
    _check_not_compiled(module)
    given = _inputs(module, input_shape, inputs)
    label = name or type(module).__name__
    frozen = any(_is_frozen(part) for part in module.modules())
    counter = _OperatorCounter(module, label, knows_parameters=not frozen)
    with _as_evaluated(module), counter.following_modules(), counter:
        try:
            module(*given)
        except FeatherweightError:
            raise
        except Exception as error:
            shapes = [list(value.shape) for value in given if isinstance(value, Tensor)]
            raise UsageError(
                f"{label} cannot run on inputs of shape {shapes}: {in_one_line(error)}"
            ) from error
    first = next((tuple(value.shape[1:]) for value in given if isinstance(value, Tensor)), ())
    return network_profile(
        counter.rows,
        name=label,
        input_shape=first,
        params=None if frozen else sum(parameter.numel() for parameter in module.parameters()),
        unknown_ops=counter.unknown,
    )


def _check_not_compiled(module: nn.Module) -> None:
    for path, part in module.named_modules():
        if hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None:
            raise UnsupportedError(
                f"{path or type(module).__name__} is compiled",
                hint="count the module before torch.compile",
            )


def _is_frozen(part: nn.Module) -> bool:
    """`torch.jit.freeze` takes the mode away and makes constants of the weights."""
    return isinstance(part, torch.jit.ScriptModule) and not hasattr(part, "training")


def _inputs(
    module: nn.Module, input_shape: tuple[int, ...] | None, inputs: tuple[Any, ...] | None
) -> tuple[Any, ...]:
    allowed = "either input_shape=(3, 224, 224), without batch axis, or inputs=(tensor, ...)"
    if (input_shape is None) == (inputs is None):
        raise UsageError("counting a module needs its input", allowed=allowed)
    if inputs is not None:
        if not isinstance(inputs, (tuple, list)):
            raise UsageError(f"inputs is a {type(inputs).__name__}", allowed=allowed)
        return tuple(inputs)
    try:
        sizes = [operator.index(size) for size in input_shape or ()]
    except TypeError as error:
        raise UsageError(f"input_shape is {input_shape!r}", allowed=allowed) from error
    if any(size < 1 for size in sizes):
        raise UsageError(f"input_shape is {input_shape!r}", allowed="sizes of 1 and more")
    return (_zeros(module, sizes),)


def _zeros(module: nn.Module, sizes: Sequence[int]) -> Tensor:
    """A batch of one on the module's device, in its floating dtype."""
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    dtypes = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return torch.zeros(1, *sizes, device=device, dtype=(dtypes or [torch.float32])[0])


@contextmanager
def _as_evaluated(module: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, no fused attention of whole layers; all restored on the way out."""
    fast_path = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(value=False)
    try:
        # Below autograd the dispatcher shows composite operators whole. Inference mode would do
        # so too, but what a module keeps from its forward would then be useless for training.
        with (
            evaluated(module),
            torch.random.fork_rng(devices=[]),
            torch.no_grad(),
            torch._C._AutoDispatchBelowAutograd(),
        ):
            yield
    finally:
        mha.set_fastpath_enabled(value=fast_path)


class _OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator and makes the rows."""

    def __init__(self, module: nn.Module, label: str, *, knows_parameters: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._knows_parameters = knows_parameters
        self.rows: list[LayerProfile] = []
        self.unknown: set[str] = set()
        self._paths = {id(part): path or label for path, part in module.named_modules()}
        self._parameters = {id(parameter) for parameter in module.parameters()}
        self._running = [label]
        self._named: Counter[str] = Counter()

    @contextmanager
    def following_modules(self) -> Iterator[None]:
        """Know which module is running, by hooks that no module keeps."""

        def enter(part: nn.Module, _inputs: object) -> None:
            self._running.append(self._paths.get(id(part), self._running[-1]))

        def leave(_part: nn.Module, _inputs: object, _output: object) -> None:
            self._running.pop()

        with ExitStack() as hooks:
            hooks.callback(register_module_forward_pre_hook(enter).remove)
            hooks.callback(register_module_forward_hook(leave, always_call=True).remove)
            yield

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operator and add its row."""
        options = kwargs or {}
        packet, overload = _names(func)
        rule = COUNTED.get(packet) or COUNTED.get(overload)
        known = rule is not None or packet in FREE or packet in METADATA
        if not known:
            with self:
                taken_apart = func.decompose(*args, **options)
            if taken_apart is not NotImplemented:
                return taken_apart
            self.unknown.add(packet)
        # Before it runs: an in-place operator may change the shapes of its arguments.
        read = list({id(tensor): tensor for tensor in _tensors([args, options])}.values())
        shapes, named_shapes = _shapes(args), {key: _shapes(v) for key, v in options.items()}
        output = func(*args, **options)
        if packet not in METADATA:
            written = list(_tensors(output))
            shape = tuple(written[0].shape) if written else ()
            arithmetic = None
            if known:
                arithmetic = rule(shapes, named_shapes, shape) if rule is not None else NOTHING
            self._add_row(packet, arithmetic, shape=shape, read=read, written=written)
        return output

    def _add_row(
        self,
        op: str,
        arithmetic: Arithmetic | None,
        *,
        shape: tuple[int, ...],
        read: Sequence[Tensor],
        written: Sequence[Tensor],
    ) -> None:
        path = self._running[-1]
        self._named[path] += 1
        params = 0
        for tensor in read:
            if id(tensor) in self._parameters:
                self._parameters.remove(id(tensor))
                params += tensor.numel()
        moved = sum(tensor.numel() * tensor.element_size() for tensor in (*read, *written))
        self.rows.append(
            layer_profile(
                path if self._named[path] == 1 else f"{path}:{self._named[path]}",
                op,
                output_shape=shape,
                params=params if self._knows_parameters else None,
                macs=None if arithmetic is None else arithmetic.macs,
                flops=None if arithmetic is None else arithmetic.flops,
                memory_access_bytes=None if arithmetic is None else moved,
            )
        )


def _names(func: Any) -> tuple[str, str]:
    """Return (packet, packet.overload) as the tables spell them: `add_` is `add`."""
    packet = str(func.overloadpacket).removeprefix("aten.")
    if packet.endswith("_") and not packet.endswith("__"):
        packet = packet.removesuffix("_")
    return packet, f"{packet}.{func._overloadname}"


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def _shapes(value: Any) -> Any:
    """Replace tensors by their shapes (tuples); sequences become lists."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (list, tuple)):
        return [_shapes(item) for item in value]
    return value
