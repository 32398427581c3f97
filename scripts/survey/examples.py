"""Networks that the survey argues with: experiments of papers, and mistakes as they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

from featherweight.architecture import Architecture, BlockSpec, make_divisible
from featherweight.networks.resolve import resolve_architecture
from featherweight.zoo.model import MODELS

__all__ = ["EXAMPLES", "G1_ARM", "G1_GPU", "G2_ARM", "G2_GPU", "MAP_SIDE", "architecture", "stack"]

MAP_SIDE = 56
"""Height and width of the maps in the experiments of ShuffleNetV2, section 2."""
G1_GPU = ((128, 128), (90, 180), (52, 312), (36, 432))
G1_ARM = ((32, 32), (22, 44), (13, 78), (9, 108))
"""(c1, c2) of ShuffleNetV2's table 1."""
G2_GPU = ((128, 1), (180, 2), (256, 4), (360, 8))
G2_ARM = ((64, 1), (90, 2), (128, 4), (184, 8))
"""(channels, groups) of ShuffleNetV2's table 2, 184 for the impossible 180."""

_REPEATS = 10
_CLASSES = 10


@cache
def architecture(text: str) -> Architecture:
    """Return an example, or the network that the command line calls `text`.

    Raises:
        UsageError: neither exists.
    """
    if text in EXAMPLES:
        return EXAMPLES[text]().changed(name=text)
    return resolve_architecture(text)


def stack(blocks: list[BlockSpec], *, side: int, entry: int) -> Architecture:
    """Return blocks on a square map, behind a 1x1 convolution that makes their channels."""
    first = BlockSpec(op="conv", out_channels=entry, kernel_size=1, activation="relu")
    return Architecture(
        name="stack", input_shape=(3, side, side), blocks=(first, *blocks), num_classes=_CLASSES
    )


def _changed(block: BlockSpec, **fields: object) -> BlockSpec:
    return BlockSpec.model_validate({**block.model_dump(), **fields})


def _with_block(network: Architecture, index: int, **fields: object) -> Architecture:
    blocks = list(network.blocks)
    blocks[index] = _changed(blocks[index], **fields)
    return network.changed(blocks=tuple(blocks))


def _pointwise(channels: int, *, groups: int = 1) -> BlockSpec:
    return BlockSpec(
        op="conv", out_channels=channels, kernel_size=1, groups=groups, activation="relu"
    )


def _tiny_conv() -> Architecture:
    conv = BlockSpec(op="conv", out_channels=8, kernel_size=3)
    return Architecture(
        name="conv_3_8", input_shape=(3, 8, 8), blocks=(conv,), num_classes=_CLASSES
    )


def _one_layer(op: str, *, channels: int, side: int) -> Architecture:
    """Return one layer of MobileNetV1's table 3 as a network."""
    block = BlockSpec(op=op, out_channels=channels, kernel_size=3, activation="relu6")
    return stack([block], side=side, entry=channels)


def _v1_full() -> Architecture:
    network = MODELS["mobilenet_v1"].build()
    blocks = [
        _changed(block, op="conv") if block.op == "separable" else block for block in network.blocks
    ]
    return network.changed(blocks=tuple(blocks))


def _v1_shallow() -> Architecture:
    """Leave out the five blocks of stride 1 with 512 channels."""
    network = MODELS["mobilenet_v1"].build()
    return network.changed(blocks=network.blocks[:7] + network.blocks[12:])


def _v1(index: int, **fields: object) -> Architecture:
    return _with_block(MODELS["mobilenet_v1"].build(), index, **fields)


def _v2(index: int, *, width: float = 1.0, **fields: object) -> Architecture:
    return _with_block(MODELS["mobilenet_v2"].build(width=width), index, **fields)


def _s1_narrow(groups: int) -> Architecture:
    """Make bottlenecks a quarter of the new channels, not of the unit's output."""
    network = MODELS[f"shufflenet_v1_g{groups}"].build()
    blocks: list[BlockSpec] = []
    for block in network.blocks:
        if block.op == "shuffle_v1" and block.stride == 2:
            added = block.out_channels - blocks[-1].out_channels
            blocks.append(_changed(block, hidden_channels=added // 4))
        else:
            blocks.append(block)
    return network.changed(blocks=tuple(blocks))


def _s1_grouped_entry() -> Architecture:
    return _with_block(MODELS["shufflenet_v1_g3"].build(), 2, entry_groups=None)


def _g1(first: int, second: int) -> Architecture:
    blocks = [_pointwise(second), _pointwise(first)] * _REPEATS
    return stack(blocks, side=MAP_SIDE, entry=first)


def _g2(channels: int, groups: int) -> Architecture:
    blocks = [_pointwise(channels, groups=groups)] * _REPEATS
    return stack(blocks, side=MAP_SIDE, entry=channels)


def _g3(fragments: int, channels: int) -> Architecture:
    return stack([_pointwise(channels)] * fragments * _REPEATS, side=MAP_SIDE, entry=channels)


def _g4(*, relu: bool, skip: bool) -> Architecture:
    block = BlockSpec(
        op="residual",
        out_channels=32,
        activation="relu" if relu else "none",
        skip="identity" if skip else "none",
    )
    return stack([block] * _REPEATS, side=MAP_SIDE, entry=32)


def _a1_squeeze_of_hidden() -> Architecture:
    """Make the reduced width a quarter of the hidden width, as in MobileNetV3."""
    network = MODELS["mnasnet_a1"].build()
    blocks = [
        _changed(block, se_channels=(block.hidden_channels or 0) // 4)
        if block.se_channels
        else block
        for block in network.blocks
    ]
    return network.changed(blocks=tuple(blocks))


def _v3_small_wide_tail() -> Architecture:
    return MODELS["mobilenet_v3_small"].build().changed(head_channels=(1280,))


def _v3_small_squeezed_head() -> Architecture:
    """Follow the tick that table 2 prints in the row of the 576-wide convolution."""
    return _with_block(
        MODELS["mobilenet_v3_small"].build(), -1, se_channels=make_divisible(576 / 4)
    )


def _v3_old_tail() -> Architecture:
    """Put depthwise, 320 and 1280 channels before the pooling again."""
    network = MODELS["mobilenet_v3_large"].build()
    tail = (
        BlockSpec(
            op="inverted_residual",
            out_channels=320,
            hidden_channels=960,
            activation="hard_swish",
        ),
        BlockSpec(op="conv", out_channels=1280, kernel_size=1, activation="hard_swish"),
    )
    return network.changed(blocks=network.blocks[:-1] + tail, head_channels=())


def _v3_wide_stem() -> Architecture:
    network = _with_block(MODELS["mobilenet_v3_large"].build(), 0, out_channels=32)
    return _with_block(network, 1, skip="none")


def _v3_narrow_tail() -> Architecture:
    return MODELS["mobilenet_v3_large"].build(width=0.75).changed(head_channels=(960,))


def _ghost(name: str, **fields: int) -> Architecture:
    """Change ratio or cheap kernel of a ghost network for CIFAR-10."""
    network = MODELS[name].build(classes=10)
    blocks = [
        _changed(block, **fields) if block.ghost_ratio > 1 else block for block in network.blocks
    ]
    return network.changed(blocks=tuple(blocks))


def _guidelines() -> Iterator[tuple[str, Callable[[], Architecture]]]:
    """Yield the experiments of ShuffleNetV2, section 2, as far as blocks can express them."""
    for first, second in (*G1_GPU, *G1_ARM):
        yield f"g1_{first}_{second}", partial(_g1, first, second)
    for channels, groups in (*G2_GPU, *G2_ARM):
        yield f"g2_{channels}_{groups}", partial(_g2, channels, groups)
    for fragments, channels in ((1, 128), (2, 90), (4, 64)):
        yield f"g3_{fragments}", partial(_g3, fragments, channels)
    yield "g4_relu_skip", partial(_g4, relu=True, skip=True)
    yield "g4_relu", partial(_g4, relu=True, skip=False)
    yield "g4_skip", partial(_g4, relu=False, skip=True)
    yield "g4_plain", partial(_g4, relu=False, skip=False)


EXAMPLES: dict[str, Callable[[], Architecture]] = {
    "conv_3_8": _tiny_conv,
    "layer_conv": partial(_one_layer, "conv", channels=512, side=14),
    "layer_separable": partial(_one_layer, "separable", channels=512, side=14),
    "layer_separable_384": partial(_one_layer, "separable", channels=384, side=14),
    "layer_separable_384_10": partial(_one_layer, "separable", channels=384, side=10),
    "v1_full": _v1_full,
    "v1_shallow": _v1_shallow,
    "v1_last_stride_2": partial(_v1, -1, stride=2),
    "v1_eight_fewer": partial(_v1, 7, out_channels=504),
    "v2_expanded_first": partial(_v2, 1, hidden_channels=32),
    "v2_narrow_head": partial(_v2, -1, width=0.5, out_channels=640),
    **{f"s1_narrow_g{groups}": partial(_s1_narrow, groups) for groups in (1, 2, 3)},
    "s1_grouped_entry_g3": _s1_grouped_entry,
    **dict(_guidelines()),
    "a1_squeeze_of_hidden": _a1_squeeze_of_hidden,
    "v3_small_se_576": _v3_small_squeezed_head,
    "v3_small_wide_tail": _v3_small_wide_tail,
    "v3_old_tail": _v3_old_tail,
    "v3_wide_stem": _v3_wide_stem,
    "v3_narrow_tail": _v3_narrow_tail,
    **{
        f"ghost_vgg16_s{ratio}": partial(_ghost, "ghost_vgg16", ghost_ratio=ratio)
        for ratio in (3, 4, 5)
    },
    **{
        f"ghost_vgg16_d{side}": partial(_ghost, "ghost_vgg16", cheap_kernel_size=side)
        for side in (1, 5, 7)
    },
    "ghost_resnet56_d3": partial(_ghost, "ghost_resnet56", cheap_kernel_size=3),
}
"""Name in the survey -> what draws the network."""
