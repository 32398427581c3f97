"""What torch's ATen operators cost: the tables `featherweight.profiling.module` counts with.

Every operator is in one of three tables, or it is unknown and the totals are `None`:

    COUNTED    convolutions, matrix products, attention and recurrent layers
    FREE       known, zero multiply-adds by convention; they still read and write memory
    METADATA   views and questions: neither arithmetic nor memory

Names are those of the operator packets without `aten.` and without the underscore of in-place
variants (`add_` is `add`); recurrent layers are named with their overload, since that of packed
sequences has other arguments. This module does not need torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from featherweight.profiling.rules import (
    Arithmetic,
    Shape,
    attention,
    convolution,
    dot_products,
    matrix_product,
    recurrence,
    transposed_convolution,
)

__all__ = ["COUNTED", "FREE", "METADATA", "CountCall"]

CountCall = Callable[[Sequence[Any], Mapping[str, Any], Shape], Arithmetic]
"""(arguments, keyword arguments, shape of the first output) -> cost; tensors are their shapes.

A shape is a tuple; a list of numbers or of tensors is a list.
"""


def _convolution(
    arguments: Sequence[Any], _options: Mapping[str, Any], output: Shape
) -> Arithmetic:
    """(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    inputs, weight, bias, stride, _, dilation, transposed = arguments[:7]
    if not transposed:
        return convolution(weight, output, bias=bias is not None)
    return transposed_convolution(
        inputs=inputs,
        weight=weight,
        output=output,
        stride=stride,
        dilation=dilation,
        bias=bias is not None,
    )


def _linear(arguments: Sequence[Any], _options: Mapping[str, Any], output: Shape) -> Arithmetic:
    """(input, weight, bias)."""
    bias = len(arguments) > 2 and arguments[2] is not None
    return matrix_product(arguments[0], output, bias=bias)


def _product(arguments: Sequence[Any], _options: Mapping[str, Any], output: Shape) -> Arithmetic:
    """(left, right)."""
    return matrix_product(arguments[0], output)


def _added_product(
    arguments: Sequence[Any], options: Mapping[str, Any], output: Shape
) -> Arithmetic:
    """(added, left, right, beta=1, alpha=1): scaling by beta and alpha is free."""
    return matrix_product(arguments[1], output, bias=options.get("beta", 1) != 0)


def _summed_products(
    arguments: Sequence[Any], options: Mapping[str, Any], output: Shape
) -> Arithmetic:
    """addbmm(added, left, right): the products of a batch are summed."""
    batch, _, inner = arguments[1]
    outputs = output[0] * output[1]
    return dot_products(outputs, products=batch * inner, bias=options.get("beta", 1) != 0)


def _attention(arguments: Sequence[Any], _options: Mapping[str, Any], output: Shape) -> Arithmetic:
    """(query, key, value, ...)."""
    return attention(arguments[0], arguments[1], output)


def _recurrence(
    arguments: Sequence[Any], _options: Mapping[str, Any], _output: Shape
) -> Arithmetic:
    """(input (T, N, I) in either order, state, parameters, ...)."""
    return _recurrence_steps(arguments[2], steps=arguments[0][0] * arguments[0][1])


def _packed_recurrence(
    arguments: Sequence[Any], _options: Mapping[str, Any], _output: Shape
) -> Arithmetic:
    """(steps of all sequences (steps, I), batch sizes, state, parameters, ...)."""
    return _recurrence_steps(arguments[3], steps=arguments[0][0])


def _recurrence_steps(parameters: Sequence[Shape], *, steps: int) -> Arithmetic:
    return recurrence(
        [shape for shape in parameters if len(shape) == 2],
        steps=steps,
        biases=sum(shape[0] for shape in parameters if len(shape) == 1),
    )


COUNTED: dict[str, CountCall] = {
    "_addmm_activation": _added_product,
    "_convolution": _convolution,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "addbmm": _summed_products,
    "addmm": _added_product,
    "addmv": _added_product,
    "baddbmm": _added_product,
    "bmm": _product,
    "convolution": _convolution,
    "dot": _product,
    "gru.data": _packed_recurrence,
    "gru.input": _recurrence,
    "linear": _linear,
    "lstm.data": _packed_recurrence,
    "lstm.input": _recurrence,
    "matmul": _product,
    "mm": _product,
    "mv": _product,
    "rnn_relu.data": _packed_recurrence,
    "rnn_relu.input": _recurrence,
    "rnn_tanh.data": _packed_recurrence,
    "rnn_tanh.input": _recurrence,
    "scaled_dot_product_attention": _attention,
    "vdot": _product,
}
"""Operator -> how it is counted: a new operator is one row."""

_NORMS = """
_batch_norm_no_update _batch_norm_with_update _fused_rms_norm _native_batch_norm_legit
_native_batch_norm_legit_no_training batch_norm cudnn_batch_norm group_norm instance_norm
_weight_norm_interface layer_norm native_batch_norm native_group_norm native_layer_norm rms_norm
"""
_ACTIVATIONS = """
_log_softmax _prelu_kernel _safe_softmax _softmax celu dropout elu gelu glu hardshrink
hardsigmoid hardswish hardtanh leaky_relu log_sigmoid_forward log_softmax mish native_dropout
prelu relu relu6 rrelu rrelu_with_noise selu sigmoid silu softmax softplus softshrink tanh
threshold
"""
_POOLING = """
_adaptive_avg_pool2d _adaptive_avg_pool3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d fractional_max_pool2d grid_sampler_2d
grid_sampler_3d max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
max_pool3d_with_indices max_unpool2d max_unpool3d upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
"""
_ELEMENTWISE = """
__and__ __lshift__ __or__ __rshift__ __xor__ _conj_physical abs acos acosh add addcdiv addcmul
angle asin asinh atan atan2 atanh bernoulli bitwise_and bitwise_left_shift bitwise_not bitwise_or
bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip copysign cos cosh deg2rad div
eq erf erfc erfinv exp exp2 expm1 floor floor_divide fmax fmin fmod frac ge gt heaviside hypot
isfinite isinf isnan le lerp lgamma log log10 log1p log2 logaddexp logical_and logical_not
logical_or logical_xor logit lt maximum minimum mul nan_to_num ne neg nextafter polar pow
rad2deg reciprocal remainder round rsqrt rsub sgn sign sin sinc sinh sqrt square sub tan trunc
where xlogy
"""
_REDUCTIONS = """
all amax amin aminmax any argmax argmin argsort bincount count_nonzero cummax cummin cumprod
cumsum kthvalue linalg_vector_norm logcumsumexp logsumexp max mean median min mode nansum nonzero
norm prod searchsorted sort std std_mean sum topk unique_dim unique_consecutive _unique2 var
var_mean
"""
_COPIES = """
_embedding_bag _pack_padded_sequence _pad_circular _pad_packed_sequence _reshape_copy _to_copy
_unsafe_index _unsafe_masked_index arange bucketize cat channel_shuffle clone col2im complex
constant_pad_nd copy diag_embed embedding
embedding_bag eye fill flip full full_like gather im2col index index_add index_copy index_fill
index_put index_select linspace masked_fill masked_scatter masked_select meshgrid
native_channel_shuffle new_full new_ones new_zeros normal ones ones_like pixel_shuffle
pixel_unshuffle rand rand_like randint randint_like randn randn_like randperm reflection_pad1d
reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d
replication_pad3d roll rot90 scalar_tensor scatter scatter_add scatter_reduce slice_scatter
select_scatter stack take tril tril_indices triu triu_indices uniform zero zeros zeros_like
"""

_VIEWS_AND_QUESTIONS = """
_assert_async _assert_tensor_metadata _conj _local_scalar_dense _neg_view _reshape_alias
_unsafe_view alias as_strided chunk conj detach diagonal dim empty empty_like empty_permuted
empty_strided equal expand expand_as imag is_contiguous is_nonzero is_same_size item lift
lift_fresh lift_fresh_copy mT movedim narrow new_empty new_empty_strided numel numpy_T permute
real resize resolve_conj resolve_neg select size slice split split_with_sizes squeeze
storage_offset stride sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride t
transpose unbind unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as
view_as_complex view_as_real profiler._record_function_enter profiler._record_function_enter_new
profiler._record_function_exit
"""

FREE: frozenset[str] = frozenset(
    f"{_NORMS} {_ACTIVATIONS} {_POOLING} {_ELEMENTWISE} {_REDUCTIONS} {_COPIES}".split()
)
"""Operators without products of their own: norms, activations (softmax among them), pooling and
resampling, element-wise arithmetic, reductions, sorting, copies and look-ups."""

METADATA: frozenset[str] = frozenset(_VIEWS_AND_QUESTIONS.split())
"""Operators that compute nothing and move no data."""
