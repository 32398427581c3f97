"""Numbers of the survey that are not totals of one network: formulas, shares, differences."""

from __future__ import annotations

import math
from functools import cache

from featherweight.architecture import BlockSpec
from featherweight.errors import ArchitectureError
from featherweight.layers import Layer, layers
from featherweight.profiling.count import conv_flops, conv_macs, linear_flops, linear_macs
from survey.examples import G1_ARM, G1_GPU, G2_GPU, MAP_SIDE, architecture, stack
from survey.quantities import accesses, drawn, macs, percent, weights, whole

__all__ = ["facts"]

Facts = dict[str, str]

_NO_MAP = (1, 1)


@cache
def facts() -> Facts:
    """Return name -> text of everything the chapters refer to as a fact.

    Raises:
        ValueError: two chapters give one name.
    """
    found: Facts = {}
    for chapter in (
        _counting,
        _tools,
        _mobilenet_v1,
        _separable_layers,
        _mobilenet_v2,
        _shufflenet_v1,
        _guideline_1,
        _guideline_2,
        _shufflenet_v2,
        _thundernet,
        _mnasnet_reward,
        _mnasnet_space,
        _netadapt,
        _mobilenet_v3,
        _ghostnet,
    ):
        given = chapter()
        if twice := found.keys() & given.keys():
            raise ValueError(f"given twice: {sorted(twice)}")
        found |= given
    return found


def _counting() -> Facts:
    """Count 3 -> 8 channels, 3 x 3, on 8 x 8; a single output; a linear layer of 16 -> 10."""
    kernel, inputs, outputs, side = 3, 3, 8, 8
    positions = side**2

    def flops(*, bias: bool) -> int:
        return conv_flops(
            kernel_size=kernel,
            in_channels=inputs,
            out_channels=outputs,
            output_size=(side, side),
            bias=bias,
        )

    def tiny(*, bias: bool) -> int:
        return conv_flops(
            kernel_size=kernel, in_channels=1, out_channels=1, output_size=_NO_MAP, bias=bias
        )

    multiply_adds = conv_macs(
        kernel_size=kernel, in_channels=inputs, out_channels=outputs, output_size=(side, side)
    )
    weight_count = multiply_adds // positions
    tiny_macs = conv_macs(kernel_size=kernel, in_channels=1, out_channels=1, output_size=_NO_MAP)
    swapped = (2 * outputs * kernel**2 - 1) * inputs * positions
    return {
        "tiny_macs": whole(tiny_macs),
        "tiny_flops": whole(tiny(bias=False)),
        "tiny_flops_bias": whole(tiny(bias=True)),
        "conv_weights": whole(weight_count),
        "conv_params_bias": whole(weight_count + outputs),
        "conv_macs": whole(multiply_adds),
        "conv_flops": whole(flops(bias=False)),
        "conv_flops_bias": whole(flops(bias=True)),
        "conv_outputs": whole(outputs * positions),
        "conv_flops_swapped": whole(swapped),
        "conv_flops_bias_of_inputs": whole(flops(bias=False) + inputs * positions),
        "conv_flops_two_for_bias": whole(2 * positions * (inputs * kernel**2 + 1) * outputs),
        "linear_macs": whole(linear_macs(16, 10)),
        "linear_flops": whole(linear_flops(16, 10, bias=False)),
        "linear_flops_bias": whole(linear_flops(16, 10, bias=True)),
        "stem_by_input": whole(
            conv_macs(kernel_size=3, in_channels=3, out_channels=32, output_size=(224, 224))
        ),
        "depthwise_without_groups": whole(
            conv_macs(kernel_size=3, in_channels=128, out_channels=128, output_size=(56, 56))
        ),
        "depthwise_accesses_per_mac": _accesses_per_mac("blocks.3.depthwise"),
        "pointwise_accesses_per_mac": _accesses_per_mac("blocks.3.expand"),
    }


def _accesses_per_mac(layer: str) -> str:
    return f"{accesses('mobilenet_v2', layer) / macs('mobilenet_v2', layer):.3f}"


def _tools() -> Facts:
    """Count MobileNetV2 by the rules of other counters, found by reading and running them."""
    network = drawn("mobilenet_v2")
    exact = macs("mobilenet_v2")
    normed = [layer for layer in network if layer.norm_eps is not None]
    norms = sum(math.prod(layer.output_shape) for layer in normed)
    norm_params = sum(2 * layer.output_shape[0] for layer in normed)
    biased = sum(math.prod(layer.output_shape) for layer in network if layer.bias)
    activated = sum(math.prod(x.output_shape) for x in network if x.op == "activation")
    pooled = sum(math.prod(layer.input_shape) for layer in network if layer.op == "global_pool")
    return {
        "v2_ptflops_aten": whole(exact + biased),
        "v2_torchinfo": whole(exact + biased + norm_params),
        "v2_fvcore": whole(exact + 2 * norms + pooled),
        "v2_ptflops": whole(exact + biased + 2 * norms + activated + pooled),
        "v2_thop": whole(exact + 4 * norms),
        "v2_flop_counter": whole(2 * exact),
        "v2_calflops": whole(2 * exact + 2 * norms + pooled),
    }


def _kind(layer: Layer) -> str:
    """Return the row of MobileNetV1's table 2 that a layer belongs to."""
    if layer.op == "linear":
        return "linear"
    if layer.groups > 1:
        return "depthwise"
    return "pointwise" if layer.kernel_size == 1 else "stem"


def _mobilenet_v1() -> Facts:
    network = [layer for layer in drawn("mobilenet_v1") if layer.op in ("conv", "linear")]
    all_weights = sum(weights(layer) for layer in network)
    found = {
        "v1_half_ratio": f"{macs('mobilenet_v1:width=0.5') / macs('mobilenet_v1'):.3f}",
    }
    for kind in ("pointwise", "depthwise", "stem", "linear"):
        of_kind = [layer for layer in network if _kind(layer) == kind]
        counted = sum(macs("mobilenet_v1", layer.name) for layer in of_kind)
        share = sum(weights(layer) for layer in of_kind) / all_weights
        found[f"v1_{kind}_macs_share"] = percent(counted / macs("mobilenet_v1"))
        found[f"v1_{kind}_weights_share"] = percent(share)
    return found


def _separable_layers() -> Facts:
    """Count the layers of MobileNetV1's table 3."""
    found = {}
    for name, channels, side, separable in (
        ("layer_conv", 512, 14, False),
        ("layer_separable", 512, 14, True),
        ("layer_separable_384", 384, 14, True),
        ("layer_separable_384_10", 384, 10, True),
    ):
        count = _separable_macs if separable else _dense_macs
        found[f"{name}_macs"] = whole(count(channels, side))
        found[f"{name}_weights"] = whole(count(channels, 1))
    ratio = 1 / 512 + 1 / 3**2
    return found | {"separable_ratio": f"{ratio:.4f}", "separable_factor": f"{1 / ratio:.2f}"}


def _dense_macs(channels: int, side: int) -> int:
    return conv_macs(
        kernel_size=3, in_channels=channels, out_channels=channels, output_size=(side, side)
    )


def _separable_macs(channels: int, side: int) -> int:
    size = (side, side)
    depthwise = conv_macs(
        kernel_size=3,
        in_channels=channels,
        out_channels=channels,
        output_size=size,
        groups=channels,
    )
    return depthwise + conv_macs(
        kernel_size=1, in_channels=channels, out_channels=channels, output_size=size
    )


def _mobilenet_v2() -> Facts:
    blocks = [b for b in architecture("mobilenet_v2").blocks if b.op == "inverted_residual"]
    network = drawn("mobilenet_v2")
    activated = {source for layer in network if layer.op == "activation" for source in layer.inputs}
    last = [layer for layer in network if layer.name.endswith(".project")]
    linear = [
        layer
        for layer in last
        if not {layer.name, layer.name.replace("project", "add")} & activated
    ]
    return {
        "v2_blocks": whole(len(blocks)),
        "v2_skips": whole(sum(block.skip == "identity" for block in blocks)),
        "v2_compressing": whole(sum(x.output_shape[0] < x.input_shape[0] for x in last)),
        "v2_linear": whole(len(linear)),
        "v2_formula": whole(_inverted_residual(side=56, inputs=24, expansion=6, outputs=24)),
        "v2_formula_at_stride_2": whole(
            _inverted_residual(side=112, inputs=16, expansion=6, outputs=24)
        ),
    }


def _inverted_residual(*, side: int, inputs: int, expansion: int, outputs: int) -> int:
    """Return h w d' t (d' + k^2 + d''), for 3 x 3 and stride 1: MobileNetV2, section 3."""
    return side**2 * inputs * expansion * (inputs + 3**2 + outputs)


def _shufflenet_v1() -> Facts:
    """Evaluate the formulas of ShuffleNetV1's section 3.2 for a unit of stage 2."""
    channels, bottleneck, groups, positions = 240, 60, 3, 28**2
    return {
        "unit_resnet": whole(positions * (2 * channels * bottleneck + 9 * bottleneck**2)),
        "unit_resnext": whole(
            positions * (2 * channels * bottleneck + 9 * bottleneck**2 // groups)
        ),
        "unit_shufflenet": whole(
            positions * (2 * channels * bottleneck // groups + 9 * bottleneck)
        ),
    }


def _guideline_1() -> Facts:
    positions = MAP_SIDE**2
    found = {}
    for first, second in G1_GPU:
        count = positions * first * second
        bound = 2 * math.sqrt(positions * count) + count / positions
        found[f"g1_macs_{first}_{second}"] = whole(count)
        found[f"g1_access_{first}_{second}"] = whole(positions * (first + second) + first * second)
        found[f"g1_bound_{first}_{second}"] = whole(bound)
    gaps = []
    for name, pairs in (("gpu", G1_GPU), ("arm", G1_ARM)):
        base = math.prod(pairs[0])
        relative = [math.prod(pair) / base for pair in pairs[1:]]
        found[f"g1_relative_{name}"] = ", ".join(f"{share:.3f}" for share in [1.0, *relative])
        gaps.append(1 - min(relative))
    return found | {"g1_largest_gap": percent(max(gaps), digits=1)}


def _guideline_2() -> Facts:
    positions = MAP_SIDE**2
    found = {"g2_refusal": _refusal(channels=180, groups=8)}
    for channels, groups in G2_GPU:
        count = channels**2 // groups
        found[f"g2_macs_{channels}_{groups}"] = whole(positions * count)
        found[f"g2_access_{channels}_{groups}"] = whole(positions * 2 * channels + count)
    return found


def _refusal(*, channels: int, groups: int) -> str:
    """Return what is said to a grouped convolution that cannot exist."""
    block = BlockSpec(op="conv", out_channels=channels, kernel_size=1, groups=groups)
    try:
        layers(stack([block], side=MAP_SIDE, entry=channels))
    except ArchitectureError as error:
        return error.message
    raise ValueError(f"{groups} groups of {channels} channels were accepted")


def _shufflenet_v2() -> Facts:
    """Look at what each unit's branch gives to the concatenation."""
    network = {layer.name: layer for layer in drawn("shufflenet_v2_paper")}
    joined = [layer for layer in network.values() if layer.op == "concat"]
    ends = [network[layer.inputs[-1]] for layer in joined]
    return {
        "s2_units": whole(len(joined)),
        "s2_units_ending_in_relu": whole(sum(end.function == "relu" for end in ends)),
    }


def _pointwise_macs(inputs: int, outputs: int, *, side: int) -> int:
    return conv_macs(
        kernel_size=1, in_channels=inputs, out_channels=outputs, output_size=(side, side)
    )


def _thundernet() -> Facts:
    """Count ThunderNet's parts at 320 x 320; 25 anchors, 200 regions, 80 classes."""
    width, side, anchors, regions = 5 * 7 * 7, 20, 25, 200
    depthwise = conv_macs(
        kernel_size=5,
        in_channels=width,
        out_channels=width,
        output_size=(side, side),
        groups=width,
    )
    shared = depthwise + _pointwise_macs(width, 256, side=side)
    boxes = _pointwise_macs(256, 4 * anchors, side=side)
    proposals = shared + boxes + _pointwise_macs(256, 2 * anchors, side=side)
    attention = _pointwise_macs(256, width, side=side)
    regional = regions * (width * 1024 + 1024 * 81 + 1024 * 4)
    depthwise_macs = sum(
        macs("snet146", layer.name)
        for layer in drawn("snet146")
        if layer.op == "conv" and layer.groups > 1
    )
    found = {
        "rpn": whole(proposals),
        "rpn_sigmoid": whole(shared + boxes + _pointwise_macs(256, anchors, side=side)),
        "sam": whole(attention),
        "rcnn": whole(regional),
        "head": whole(attention + regional),
        "anchors": whole(side**2 * anchors),
        "cem_c5_before": whole(_pointwise_macs(528, width, side=10)),
        "cem_c5_after": whole(_pointwise_macs(528, width, side=20)),
        "snet146_depthwise_share": percent(depthwise_macs / macs("snet146"), digits=1),
    }
    for name, (third, last) in {
        "snet49": (120, 512),
        "snet146": (264, 528),
        "snet146_126": (252, 504),
        "snet535": (496, 992),
    }.items():
        context = _pointwise_macs(third, width, side=side) + sum(
            _pointwise_macs(last, width, side=map_side) for map_side in (10, 1)
        )
        backbone = macs(f"{name}:resolution=320", "blocks")
        found[f"cem_{name}"] = whole(context)
        found[f"detector_{name}"] = whole(backbone + context + proposals + attention + regional)
        if name == "snet146_126":
            found["backbone_and_cem"] = whole(backbone + context)
    return found


def _reward(accuracy: float, latency_ms: float, *, target_ms: float) -> float:
    """Return MnasNet's soft reward, exponent -0.07: arXiv 1807.11626, equation 2."""
    return accuracy * math.pow(latency_ms / target_ms, -0.07)


def _mnasnet_reward() -> Facts:
    found = {"reward_exponent": f"{-math.log(1.05) / math.log(2):.4f}"}
    for target_ms in (40, 75, 150):
        a1 = _reward(0.752, 78, target_ms=target_ms)
        v2 = _reward(0.720, 75, target_ms=target_ms)
        found[f"reward_a1_{target_ms}"] = f"{a1:.4f}"
        found[f"reward_v2_{target_ms}"] = f"{v2:.4f}"
        found[f"reward_ratio_{target_ms}"] = f"{a1 / v2:.4f}"
    return found


def _mnasnet_space() -> Facts:
    """Count the options of arXiv 1807.11626, section 4: operators, kernels, SE, skips, Fi, Ni."""
    listed, with_two_expansions = (math.prod((ops, 2, 2, 3, 3, 3)) for ops in (3, 4))
    return {
        "space_options": whole(listed),
        "space_block": whole(with_two_expansions),
        "space_factorised": _power_of_ten(with_two_expansions**5),
        "space_per_layer": _power_of_ten(with_two_expansions**15),
        "a1_off_grid": f"{112 / 96:.3f}",
        "a1_squeeze": _squeezed("mnasnet_a1"),
    }


def _power_of_ten(value: int) -> str:
    return f"{value:.2e}".replace("e+", "e")


def _squeezed(network: str) -> str:
    """Return the reduced widths of squeeze-and-excitation, block after block."""
    blocks = architecture(network).blocks
    return ", ".join(str(block.se_channels) for block in blocks if block.se_channels)


def _netadapt() -> Facts:
    decay, first_share = 0.96, 0.025
    limit = 1 / (1 - decay)
    own = macs("mobilenet_v1", "blocks.7") - macs("v1_eight_fewer", "blocks.7")
    return {
        "table_sum": whole(6 + 4),
        "decay_limit": f"{limit:.0f}",
        "decay_reach": percent(limit * first_share, digits=1),
        "eight_fewer_own": whole(own),
        "eight_fewer_total": whole(macs("mobilenet_v1") - macs("v1_eight_fewer")),
    }


def _mobilenet_v3() -> Facts:
    large = macs("mobilenet_v3_large")
    return {
        "v3_large_squeeze": _squeezed("mobilenet_v3_large"),
        "v3_small_squeeze": _squeezed("mobilenet_v3_small"),
        "v3_tail_saving": whole(macs("v3_old_tail") - large),
        "v3_stem_saving": whole(macs("v3_wide_stem") - large),
    }


def _ghostnet() -> Facts:
    """Evaluate equation 4 of arXiv 1911.11907 for the expansion of block 7."""
    channels, outputs, ratio, kernel, cheap = 80, 200, 2, 1, 3
    plain = _pointwise_macs(channels, outputs, side=14)
    module = sum(macs("ghostnet", f"blocks.7.expand{part}") for part in ("", "_cheap"))
    dense = channels * kernel**2
    formula = dense / (dense / ratio + (ratio - 1) / ratio * cheap**2)
    return {
        "ghost_plain": whole(plain),
        "ghost_module": whole(module),
        "ghost_ratio": f"{plain / module:.3f}",
        "ghost_ratio_formula": f"{formula:.3f}",
        "ghost_ratio_approximation": f"{ratio * channels / (ratio + channels - 1):.3f}",
    }
