"""Small networks that together use every primitive layer, with norms that are not neutral."""

from __future__ import annotations

import numpy as np
import torch

from featherweight.architecture import Architecture, BlockSpec
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network, build_network

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def block(op: str, out_channels: int, **fields: object) -> BlockSpec:
    return BlockSpec.model_validate({"op": op, "out_channels": out_channels, **fields})


def network_of(
    name: str,
    *blocks: BlockSpec,
    input_shape: tuple[int, int, int] = (3, 33, 31),
    padding: str = "symmetric",
    head_channels: tuple[int, ...] = (),
    head_norm: bool = False,
) -> Architecture:
    return Architecture.model_validate(
        {
            "name": name,
            "input_shape": input_shape,
            "blocks": blocks,
            "padding": padding,
            "num_classes": 7,
            "head_channels": head_channels,
            "head_norm": head_norm,
            "head_activation": "hard_swish" if head_channels else "none",
        }
    )


def _mixed(padding: str) -> Architecture:
    return network_of(
        f"mixed_{padding}",
        block("conv", 16, stride=2, activation="relu6"),
        block("max_pool", 16, stride=2),
        block("separable", 24, kernel_size=5, stride=2, activation="relu"),
        block("inverted_residual", 24, hidden_channels=48, activation="relu6", skip="identity"),
        block("inverted_residual", 32, hidden_channels=48, stride=2, kernel_size=5, skip="pool"),
        padding=padding,
    )


def _pyramid() -> Architecture:
    """Maps of two sizes joined: enlarged, added, multiplied, and a number for each channel."""

    def conv(name: str, source: str, channels: int, **fields: object) -> dict[str, object]:
        norm = {"bias": True} if fields.pop("bias", False) else {"norm_eps": 1e-5}
        given = {"inputs": [source], "out_channels": channels, **norm, **fields}
        return {"name": name, "op": "conv", **given}

    def joined(name: str, op: str, *sources: str, **fields: object) -> dict[str, object]:
        return {"name": name, "op": op, "inputs": sources, **fields}

    window: dict[str, object] = {"kernel_size": 3, "stride": 2, "padding": [1, 1, 1, 1]}
    primitives = [
        conv("fine", "input", 12, **window),
        joined("fine.act", "activation", "fine", function="relu"),
        conv("coarse", "fine.act", 16, **window),
        joined("coarse.act", "activation", "coarse", function="relu"),
        conv("coarse.lateral", "coarse.act", 16, bias=True),
        joined("enlarged", "resize", "coarse.lateral", factor=2),
        conv("fine.lateral", "fine.act", 16, bias=True),
        joined("both", "add", "fine.lateral", "enlarged"),
        joined("whole", "global_pool", "coarse.act"),
        conv("whole.lateral", "whole", 16, bias=True),
        joined("context", "add", "both", "whole.lateral"),
        conv("attention", "context", 16),
        joined("attention.act", "activation", "attention", function="sigmoid"),
        joined("attended", "multiply", "context", "attention.act"),
        joined("pool", "global_pool", "attended"),
        joined("classifier", "linear", "pool", out_channels=7, bias=True),
    ]
    return Architecture.model_validate(
        {
            "name": "pyramid",
            "input_shape": (3, 32, 24),
            "primitives": primitives,
            "num_classes": 7,
        }
    )


ARCHITECTURES = (
    _mixed("symmetric"),
    _mixed("same"),
    network_of(
        "squeeze",
        block("conv", 16, activation="hard_swish"),
        block(
            "inverted_residual",
            16,
            hidden_channels=32,
            se_channels=8,
            stride=2,
            activation="hard_swish",
        ),
        block(
            "inverted_residual",
            16,
            hidden_channels=32,
            se_channels=8,
            se_gate="sigmoid",
            activation="relu",
            skip="identity",
        ),
        head_channels=(40,),
        padding="same",
    ),
    network_of(
        "residual",
        block("conv", 16, activation="relu"),
        block("residual", 16, activation="relu", skip="identity"),
        block("residual", 32, activation="relu", skip="pad", stride=2),
        block("conv", 32, groups=4, activation="relu"),
    ),
    network_of("depthwise_first", block("inverted_residual", 16, stride=2, activation="relu")),
    network_of("residual_first", block("residual", 8, activation="relu", skip="pad", stride=2)),
    network_of("pool_first", block("max_pool", 3, stride=2), block("conv", 8, activation="relu")),
    network_of("grey", block("conv", 8, stride=2, activation="relu"), input_shape=(1, 17, 18)),
    network_of(
        "grey_residual",
        block("residual", 8, activation="relu", skip="pad"),
        input_shape=(1, 9, 9),
    ),
    network_of(
        "shuffles",
        block("conv", 12, stride=2, activation="relu"),
        block(
            "shuffle_v1",
            24,
            groups=3,
            entry_groups=1,
            stride=2,
            hidden_channels=6,
            activation="relu",
        ),
        block("shuffle_v1", 24, groups=3, hidden_channels=6, activation="relu"),
        block("shuffle_v2", 32, stride=2, shortcut_channels=12, activation="relu"),
        block("shuffle_v2", 32, kernel_size=5, se_channels=4, skip="identity", activation="relu"),
    ),
    network_of(
        "ghosts",
        block("conv", 9, stride=2, ghost_ratio=2, activation="relu"),
        block("ghost", 16, hidden_channels=20, ghost_ratio=2, stride=2, activation="relu"),
        block("ghost", 16, hidden_channels=20, ghost_ratio=3, se_channels=4, activation="relu"),
        block(
            "universal_inverted_bottleneck",
            16,
            hidden_channels=32,
            start_kernel_size=5,
            activation="relu",
            skip="identity",
        ),
        head_channels=(24,),
    ),
    network_of(
        "head_norm",
        block("conv", 16, stride=2, activation="relu"),
        head_channels=(24,),
        head_norm=True,
    ),
    _pyramid(),
)


def trained_like(architecture: Architecture, *, seed: int = 0) -> Network:
    """A network whose norms and logits look trained: every statistic differs from its default."""
    network = build_network(architecture, seed=seed)
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: torch.Size, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            shape = module.weight.shape
            module.weight.data = draw(shape, 0.6, 1.4)
            module.bias.data = draw(shape, -0.3, 0.3)
            module.running_mean = draw(shape, -0.3, 0.3)
            module.running_var = draw(shape, 0.5, 1.5)
        elif isinstance(module, torch.nn.Linear):
            module.weight.data = 3.0 * draw(module.weight.shape, -0.3, 0.3)
            module.bias.data = draw(module.bias.shape, -0.3, 0.3)
    return network.eval()


def weights_of(network: Network) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def labels_of(architecture: Architecture) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(architecture.num_classes))


def pictures(architecture: Architecture, count: int, *, seed: int = 0) -> np.ndarray:
    """Smooth seeded pictures of different brightness and colour, uint8 (N, H, W, 3)."""
    generator = np.random.default_rng(seed)
    height, width = architecture.input_shape[1:]
    coarse = generator.uniform(0, 255, (count, 5, 5, 3))
    rows = np.linspace(0, 4, height).round().astype(int)
    columns = np.linspace(0, 4, width).round().astype(int)
    fine = coarse[:, rows][:, :, columns] + generator.normal(0, 12, (count, height, width, 3))
    return np.clip(fine, 0, 255).astype(np.uint8)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())
