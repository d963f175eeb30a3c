from __future__ import annotations

import collections
import math

import pytest
import torch
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.interop import load_foreign
from spikeproof.models import VGG11, VGG16, WRN, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import IF


class Spike(nn.Module):
    """Neurons of the published codes: no weights, or a threshold that learns."""

    def __init__(self, learned):
        super().__init__()
        if learned:
            self.v_th = nn.Parameter(torch.rand(()) + 0.5)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, learned):
        super().__init__()
        self.bn1, self.act1 = nn.BatchNorm2d(inputs), Spike(learned)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(outputs), Spike(learned)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.convShortcut = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, 0, bias=False)
        self.convex = nn.Module()
        self.convex.comb = nn.Parameter(torch.rand(2))


def convolutions(plan, inputs, *, bias, learned):
    parts = []
    for step in plan:
        if step == "P":
            parts.append(nn.AvgPool2d(2))
        else:
            parts += [nn.Conv2d(inputs, step, 3, 1, 1, bias=bias), nn.BatchNorm2d(step)]
            parts.append(Spike(learned))
            inputs = step
    return nn.Sequential(*parts)


def published(layout, sizes, *, learned=False):
    """The skeleton of a published network, of the sizes of ours."""
    it = iter(sizes)
    made = nn.Module()
    if layout == "vgg11-layers":
        plans, inputs = ("C P", "C C P", "C C C P", "C C", ""), 3
        for number, plan in enumerate(plans, 1):
            steps = ["P" if s == "P" else next(it) for s in plan.split()]
            made.add_module(
                f"layer{number}", convolutions(steps, inputs, bias=True, learned=learned)
            )
            inputs = next((s for s in reversed(steps) if s != "P"), inputs)
        a, b, c, d = it
        made.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(a, b), Spike(learned), nn.Linear(b, c), Spike(learned),
            nn.Linear(c, d),
        )  # fmt: skip
        return made
    if layout.startswith("vgg"):
        plan = {
            "vgg11-features": "C P C C P C C C P C C",
            "vgg16-features": "C C P C C P C C C P C C C P C C C",
        }[layout]
        steps = ["P" if s == "P" else next(it) for s in plan.split()]
        made.features = convolutions(steps, 3, bias=layout.startswith("vgg11"), learned=learned)
        a, b, c, d = it
        first = [nn.Linear(a, b), Spike(learned)]
        second = [nn.Linear(b, c), Spike(learned)]
        if layout == "vgg11-features":
            first, second = [nn.Flatten(), *first, nn.Dropout()], [*second, nn.Dropout()]
        made.classifier = nn.Sequential(*first, *second, nn.Linear(c, d))
        return made
    stem, *widths, classes = it
    groups, inputs = [], stem
    for group, width in enumerate(widths):
        stride = 1 if group == 0 else 2
        second = Block(width, width, 1, learned)
        groups.append([Block(inputs, width, stride, learned), second])
        inputs = width
    conv, norm = nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs)
    if layout == "wrn-features":
        made.features = nn.Sequential(
            conv, *(b for g in groups for b in g), norm, Spike(learned), nn.AvgPool2d(8)
        )
        made.classifier = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))
        return made
    made.conv1, made.bn1, made.act = conv, norm, Spike(learned)
    for number, blocks in enumerate(groups, 1):
        made.add_module(f"block{number}", nn.Sequential(*blocks))
    made.fc = nn.Linear(inputs, classes)
    return made


def ours(layout, *, learned=False):
    architecture = {
        "vgg11-layers": VGG11(width=0.05),
        "vgg11-features": VGG11(width=0.05),
        "vgg16-features": VGG16(width=0.1),
    }.get(layout, WRN(16, 2, width=0.5))
    return build(architecture, Setting(T=2, neuron=IF(learn_theta=learned)), 1)


def sizes(net, layout):
    """How wide the layers are, as the skeleton wants to know it."""
    layers = net.layers
    if layout.startswith("wrn"):
        entries = [layers[k].branch[0].out_channels for k in (1, 3, 5)]
        return [layers[0].out_channels, *entries, layers[-1].out_features]
    convolved = [m.out_channels for m in layers if isinstance(m, nn.Conv2d)]
    dense = [m for m in layers if isinstance(m, nn.Linear)]
    return [*convolved, dense[0].in_features, *(m.out_features for m in dense)]


def checkpoint(layout, *, learned=False):
    net = ours(layout, learned=learned)
    with isolated(3):
        theirs = published(layout, sizes(net, layout), learned=learned)
        for value in theirs.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.1 + torch.rand_like(value))
    return net, theirs


LAYOUTS = ("vgg11-layers", "vgg11-features", "vgg16-features", "wrn-blocks", "wrn-features")


KINDS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def told(module):
    """The weights of every kind of layer, in the order in which it was built."""
    found = collections.defaultdict(list)
    for name, part in module.named_modules():
        short = name.split(".")[-1] in ("convShortcut", "shortcut")
        if isinstance(part, KINDS):
            found[type(part).__name__, short].append(part.state_dict())
        if hasattr(part, "v_th") or "theta" in getattr(part, "learned", {}):
            value = part.v_th if hasattr(part, "v_th") else part.learned["theta"]
            found["theta", False].append({"": value})
        for pair in ("comb", "merge"):
            if isinstance(getattr(part, pair, None), nn.Parameter):
                found["merge", False].append({"": getattr(part, pair)})
    return found


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_weight_comes_to_its_place(tmp_path, layout, learned):
    """In the order in which both are built: what maps is told by the layers, not by names."""
    net, theirs = checkpoint(layout, learned=learned)
    torch.save({"epoch": 3, "state_dict": theirs.state_dict()}, tmp_path / "net.pth")
    load_foreign(tmp_path / "net.pth", layout, net)
    # the skeleton of the blocks names its last norm before them
    want, have = told(theirs), told(net)
    if layout == "wrn-blocks":
        for kind in (("BatchNorm2d", False), ("theta", False)):
            if kind in want:
                want[kind] = [*want[kind][1:], want[kind][0]]
    assert want.keys() == have.keys()
    for kind in want:
        assert len(want[kind]) == len(have[kind]) > 0
        for one, other in zip(want[kind], have[kind], strict=True):
            for a, b in zip(one.values(), other.values(), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_names_that_differ_are_told_and_nothing_is_loaded(tmp_path):
    net, theirs = checkpoint("vgg16-features")
    state = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state["module.features.0.noise"] = torch.zeros(3)
    gone = state.pop("module.features.3.weight")
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(Refusal, match=r"missing features.3.weight, unexpected .*noise"):
        load_foreign(tmp_path / "net.pth", "vgg16-features", net)
    torch.save({**state, "module.features.3.weight": gone[:1]}, tmp_path / "net.pth")
    with pytest.raises(Refusal, match=r"features.3.weight is torch.float32 of shape"):
        load_foreign(tmp_path / "net.pth", "vgg16-features", net, without=["noise"])
    torch.save({**state, "module.features.3.weight": gone * torch.nan}, tmp_path / "net.pth")
    with pytest.raises(Refusal, match="NaN"):
        load_foreign(tmp_path / "net.pth", "vgg16-features", net, without=["noise"])
    torch.save({**state, "module.features.3.weight": gone.long()}, tmp_path / "net.pth")
    with pytest.raises(Refusal, match=r"features.3.weight is torch.int64"):
        load_foreign(tmp_path / "net.pth", "vgg16-features", net, without=["noise"])
    torch.save({**state, "features.3.weight": gone}, tmp_path / "net.pth")
    with pytest.raises(Refusal, match=r"unexpected module.classifier.0.bias"):
        load_foreign(tmp_path / "net.pth", "vgg16-features", net, without=["noise"])
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    torch.save({**state, "module.features.3.weight": gone}, tmp_path / "net.pth")
    load_foreign(tmp_path / "net.pth", "vgg16-features", net, without=["noise"])
    torch.testing.assert_close(net.layers[3].weight.detach(), gone, rtol=0, atol=0)


def test_scores_of_hydra_choose_the_weights_in_use(tmp_path):
    net, theirs = checkpoint("vgg16-features")
    state = dict(theirs.state_dict())
    scored = [name for name in state if state[name].dim() > 1]
    for turn, name in enumerate(scored):
        scores = torch.randn(state[name].shape, generator=generator(turn, "scores"))
        state[name.removesuffix("weight") + "popup_scores"] = scores
    torch.save(state, tmp_path / "net.pth")
    for share in (None, 0.0, 1.5, math.nan):
        with pytest.raises(Refusal, match="tables of scores and share is"):
            load_foreign(tmp_path / "net.pth", "vgg16-features", net, share=share)
    load_foreign(tmp_path / "net.pth", "vgg16-features", net, share=0.25)
    ours, first = net.layers[0].weight.detach(), "features.0."
    scores = state[f"{first}popup_scores"].abs()
    lowest = scores >= scores.flatten().sort().values[int(0.75 * scores.numel())]
    torch.testing.assert_close(ours, state[f"{first}weight"] * lowest, rtol=0, atol=0)
    load_foreign(tmp_path / "net.pth", "vgg16-features", net, share=1.0)
    torch.testing.assert_close(net.layers[0].weight.detach(), state[f"{first}weight"])
    torch.save(theirs.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(Refusal, match="0 tables of scores"):
        load_foreign(tmp_path / "plain.pth", "vgg16-features", net, share=0.5)
    state[f"{first}popup_scores"] = scores[:1]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(Refusal, match=r"has no features.0.weight of its shape"):
        load_foreign(tmp_path / "net.pth", "vgg16-features", net, share=0.5)


def test_what_our_network_would_change_is_refused(tmp_path):
    net, theirs = checkpoint("vgg11-layers", learned=True)
    state = dict(theirs.state_dict())
    for ending, bad in (("v_th", 0.001), ("running_var", -1.0)):
        name = next(name for name in state if name.endswith(ending))
        torch.save({**state, name: torch.full_like(state[name], bad)}, tmp_path / "net.pth")
        with pytest.raises(Refusal, match=f"{name} is {bad:g}"):
            load_foreign(tmp_path / "net.pth", "vgg11-layers", net)
    name = next(iter(state))
    torch.save({**state, name: state[name].to("meta")}, tmp_path / "net.pth")
    with pytest.raises(Refusal, match="plain tensor"):
        load_foreign(tmp_path / "net.pth", "vgg11-layers", net)
    with pytest.raises(Refusal, match="list of words"):
        load_foreign(tmp_path / "net.pth", "vgg11-layers", net, without="noise")


def test_files_that_run_code_are_not_read(tmp_path):
    net, theirs = checkpoint("vgg16-features")
    torch.save(theirs, tmp_path / "net.pth")
    with pytest.raises(Refusal, match="could run code"):
        load_foreign(tmp_path / "net.pth", "vgg16-features", net)
    whole = (tmp_path / "net.pth").read_bytes()
    for content in (b"", b"no weights", whole[: len(whole) // 2]):
        (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(Refusal, match="cannot be read"):
            load_foreign(tmp_path / "bad.pth", "vgg16-features", net)
    with pytest.raises(FileNotFoundError):
        load_foreign(tmp_path / "none.pth", "vgg16-features", net)
    torch.save([1, 2], tmp_path / "net.pth")
    with pytest.raises(Refusal, match="no table of tensors"):
        load_foreign(tmp_path / "net.pth", "vgg16-features", net)


def test_layouts_of_other_networks_are_refused(tmp_path):
    for layout, word in (("vgg16", "vgg16-features"), ("wrn-blocks", "no residual blocks")):
        with pytest.raises(Refusal, match=word):
            load_foreign(tmp_path / "net.pth", layout, ours("vgg16-features"))
