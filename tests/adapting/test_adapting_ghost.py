"""Ghost modules in the place of convolutions: formulae, fit, and networks that stay right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import often
from torch import Tensor

from featherweight.adapting.ghost import (
    GhostForm,
    compression,
    ghost_layers,
    ghosted,
    speed_up,
)
from featherweight.adapting.ghost_fit import fit_cheap
from featherweight.adapting.ghost_network import (
    _as_graph_network,
    _own_widths,
    _reordered,
    ghost_network,
)
from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.layers import layers
from featherweight.networks.graphs import as_graph
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network, build_network
from featherweight.profiling.profile import totals

GHOST, REP = GhostForm(), GhostForm(form="rep")


def trained(name: str, *, resolution: int = 32, seed: int = 0) -> Network:
    """Return a network whose norms know what they read, as after a training."""
    network = build_network(create_architecture(name, resolution=resolution, classes=10), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(16, 3, resolution, resolution, generator=generator))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
    return network.eval()


def own_widths(network: Network) -> dict[str, int]:
    return _own_widths(as_graph(network.architecture))


def pictures(count: int = 8, *, side: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("channels", "kernel_size", "ratio", "cheap", "expected"),
    [(64, 3, 2, 3, 2 * 64 / 65), (64, 3, 4, 3, 4 * 64 / 67), (512, 1, 2, 3, 512 / (256 + 4.5))],
)
def test_the_theoretical_speed_up(
    channels: int, kernel_size: int, ratio: int, cheap: int, expected: float
) -> None:
    # Equations 4 and 5: with d = k both are s c / (s + c - 1).
    asked = {
        "channels": channels,
        "kernel_size": kernel_size,
        "ratio": ratio,
        "cheap_kernel_size": cheap,
    }
    assert speed_up(**asked) == pytest.approx(expected)
    assert compression(**asked) == pytest.approx(expected)


@pytest.mark.parametrize("ratio", [2, 4])
def test_the_formula_is_what_is_counted(ratio: int) -> None:
    form = GhostForm(ratio=ratio)
    architecture = create_architecture("vgg16")
    name = ghost_layers(architecture, form)[4]
    layer = {one.name: one for one in layers(architecture)}[name]
    dense, ghost = totals(architecture).macs, totals(ghosted(architecture, [name], form)).macs
    own = 9 * layer.input_shape[0] * layer.output_shape[0] * np.prod(layer.output_shape[1:])
    expected = speed_up(
        channels=layer.input_shape[0], kernel_size=3, ratio=ratio, cheap_kernel_size=3
    )
    assert own / (own - (dense - ghost)) == pytest.approx(expected)


@pytest.mark.parametrize(("ratio", "name"), [(2, "ghost_vgg16")])
def test_all_convolutions_of_vgg_make_the_papers_network(ratio: int, name: str) -> None:
    architecture, theirs = create_architecture("vgg16"), create_architecture(name)
    names = ghost_layers(architecture, GhostForm(ratio=ratio))
    assert len(names) == 12  # the first convolution of the picture stays here
    first = 3 * 64 * 9 * 32 * 32
    ghost_first = 3 * 32 * 9 * 32 * 32 + 32 * 9 * 32 * 32
    macs = totals(ghosted(architecture, names, GhostForm(ratio=ratio))).macs
    assert macs - first + ghost_first == totals(theirs).macs


@pytest.mark.parametrize("form", [GHOST, REP, GhostForm(ratio=3), GhostForm(kernel_size=5)])
@pytest.mark.parametrize(
    "name",
    [
        "convnet",
        "resnet",
        pytest.param("mobilenet_v2", marks=pytest.mark.slow),
        pytest.param("vgg16", marks=pytest.mark.slow),
        pytest.param("efficientnet_lite0", marks=pytest.mark.slow),
    ],
)
def test_any_convolutions_can_be_ghost_modules(name: str, form: GhostForm) -> None:
    network = trained(name)
    names = ghost_layers(network.architecture, form)[:4]
    assert names
    found, explained = ghost_network(network, names, form, pictures())
    with torch.no_grad():
        answers = found(pictures(4, seed=2))
    assert answers.shape == (4, 10)
    assert bool(answers.isfinite().all())
    assert totals(found.architecture).macs < totals(network.architecture).macs
    assert all(share <= 1.0 for share in explained.values())
    assert set(explained) == (set(names) if form.form == "ghost" else set())


def test_of_what_is_not_changed_everything_stays() -> None:
    network = trained("convnet")
    found, _ = ghost_network(network, [], GHOST, pictures())
    with torch.no_grad():
        torch.testing.assert_close(found(pictures(4)), network(pictures(4)))


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2"])
def test_reordered_channels_answer_the_same(name: str) -> None:
    network = trained(name)
    drawn = _as_graph_network(network)
    generator = np.random.default_rng(0)
    orders = {
        name: generator.permutation(channels)
        for name, channels in _own_widths(drawn.architecture).items()
    }
    assert len(orders) >= 5
    with torch.no_grad():
        torch.testing.assert_close(
            _reordered(drawn, orders)(pictures(4)), network(pictures(4)), rtol=1e-4, atol=1e-5
        )


def test_channels_that_are_read_in_groups_keep_their_places() -> None:
    architecture = as_graph(create_architecture("shufflenet_v1_g3"))
    assert "blocks.2.expand" in ghost_layers(architecture, GHOST)
    assert "blocks.2.expand" not in _own_widths(architecture)


@pytest.mark.parametrize("name", ["shufflenet_v1_g3", "shufflenet_v1_g4", "shufflenet_v1_g8"])
@pytest.mark.parametrize("form", [GHOST, REP, GhostForm(form="rep", ratio=3)])
def test_layers_whose_channels_are_read_in_groups(name: str, form: GhostForm) -> None:
    network = trained(name)
    names = ghost_layers(network.architecture, form)
    found, _ = ghost_network(network, names, form, pictures())
    with torch.no_grad():
        assert bool(found(pictures(4)).isfinite().all())


@pytest.mark.parametrize("form", [GhostForm(ratio=64), GhostForm(ratio=64, kernel_size=7)])
def test_what_has_more_work_as_a_module_stays(form: GhostForm) -> None:
    for name in ("resnet", "mobilenet_v2", "shufflenet_v1_g3"):
        architecture = create_architecture(name, resolution=32)
        work = totals(architecture).macs
        for layer in ghost_layers(architecture, form):
            assert totals(ghosted(architecture, [layer], form)).macs < work, layer


@pytest.mark.parametrize("activation", [torch.nn.Hardswish(), torch.nn.SiLU(), torch.nn.ReLU()])
def test_filters_are_activated_again(activation: torch.nn.Module) -> None:
    """Half of the channels come, before the activation, from what the others give after it."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(6, 4, 12, 12, generator=generator)
    filters = torch.randn(4, 1, 3, 3, generator=generator)
    copies = torch.nn.functional.conv2d(activation(own), filters, padding=1, groups=4) + 0.5
    maps = torch.cat([own, copies], 1)
    fit = fit_cheap(maps, activation, ratio=2, kernel_size=3, may_reorder=False, seed=0)
    first = activation(maps[:, torch.from_numpy(fit.order[:4])])
    given = torch.nn.functional.conv2d(first, fit.filters[:, None], padding=1, groups=4)
    given = activation(given + fit.bias[:, None, None])
    wanted = activation(maps[:, torch.from_numpy(fit.order[4:])])
    left = float((given - wanted).square().mean((0, 2, 3)).sum() / wanted.var((0, 2, 3)).sum())
    assert 1 - fit.explained == pytest.approx(left, abs=0.02)
    if not isinstance(activation, torch.nn.ReLU):  # of ReLU what is below 0 cannot be fitted
        assert fit.explained > 0.97


def test_channels_that_are_filtered_copies_are_found_and_given_back() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(6, 4, 12, 12, generator=generator)
    filters = torch.randn(4, 1, 3, 3, generator=generator)
    copies = torch.nn.functional.conv2d(own, filters, padding=1, groups=4) + 0.5
    order = torch.randperm(8, generator=generator)
    maps = torch.cat([own, copies], 1)[:, order]
    fit = fit_cheap(maps, lambda x: x, ratio=2, kernel_size=3, may_reorder=True, seed=0)
    assert fit.explained > 0.95
    first = maps[:, torch.from_numpy(fit.order[:4])]
    given = torch.nn.functional.conv2d(first, fit.filters[:, None], padding=1, groups=4)
    given = given + fit.bias[:, None, None]
    wanted = maps[:, torch.from_numpy(fit.order[4:])]
    assert float((given - wanted).var() / wanted.var()) < 0.1


def test_without_reordering_a_channel_comes_from_its_own_place() -> None:
    maps = torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    fit = fit_cheap(maps, lambda x: x, ratio=3, kernel_size=1, may_reorder=False, seed=0)
    assert fit.order.tolist() == list(range(6))
    for slot, channel in enumerate(range(2, 6)):
        x, y = maps[:, slot // 2].double(), maps[:, channel].double()
        slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0))
        assert float(fit.filters[slot]) == pytest.approx(slope, abs=0.01)


@pytest.mark.parametrize("ratio", [2, 3])
@pytest.mark.parametrize("name", often(["vgg16", "mobilenet_v2", "resnet"], ["resnet"]))
def test_a_network_of_copied_channels_answers_nearly_the_same(name: str, ratio: int) -> None:
    """Every computed channel has copies where a ghost module would have made them."""
    network = trained(name)
    form = GhostForm(ratio=ratio, kernel_size=1)
    alone = [one for one in ghost_layers(network.architecture, form) if one in own_widths(network)]
    layer = alone[0]
    state = network.state_dict()
    width = len(state[f"{layer}.conv.weight"])
    computed = -(-width // ratio)
    generator = torch.Generator().manual_seed(4)
    order = torch.randperm(width, generator=generator)  # found again only if channels may move
    source = torch.cat([torch.arange(computed), torch.arange(width - computed) // (ratio - 1)])[
        order
    ]
    for key, tensor in state.items():
        if key.startswith(f"{layer}.") and tensor.dim():
            tensor.copy_(tensor[source])
    network.load_state_dict(state)
    found, explained = ghost_network(network, [layer], form, pictures(16))
    assert explained[layer] > 0.98
    with torch.no_grad():
        ours, theirs = found(pictures(8, seed=3)), network(pictures(8, seed=3))
    assert float((ours - theirs).std() / theirs.std()) < 0.1


def test_the_rep_form_is_one_depthwise_convolution_over_fewer_maps() -> None:
    architecture = create_architecture("resnet")
    name = ghost_layers(architecture, REP)[0]
    before = {one.name: one for one in layers(as_graph(architecture))}
    after = {one.name: one for one in layers(ghosted(architecture, [name], REP))}
    assert after[f"{name}_primary"].output_shape[0] == before[name].output_shape[0] // 2
    assert after[f"{name}_cheap"].groups == after[f"{name}_primary"].output_shape[0]
    assert not any(one.op == "concat" for one in after.values())


@pytest.mark.parametrize("form", [GHOST, REP])
def test_the_classifier_and_maps_of_one_pixel_stay(form: GhostForm) -> None:
    architecture = create_architecture("mobilenet_v3_small")
    names = ghost_layers(architecture, form)
    assert not any(".se." in name or "head" in name for name in names)


def wrong() -> list[tuple[GhostForm, str, str]]:
    return [
        (GhostForm(ratio=1), "blocks.1.main", "a ghost ratio of 1 changes nothing"),
        (GhostForm(kernel_size=2), "blocks.1.main", "cheap filters of side 2"),
        (GHOST, "classifier", "classifier of vgg16 cannot be a ghost module"),
    ]


@pytest.mark.parametrize(("form", "name", "said"), wrong())
def test_what_makes_no_module_is_refused(form: GhostForm, name: str, said: str) -> None:
    architecture: Architecture = create_architecture("vgg16")
    with pytest.raises(UsageError, match=said):
        ghosted(architecture, [name], form)
