"""Networks made of numbers; each has an analog twin with the same parameter names."""

from spikeproof.models._plain import CNN, MLP
from spikeproof.models._resnet import SEWResNet, SpikingResNet
from spikeproof.models._setting import (
    Architecture,
    Setting,
    analog_twin,
    build,
    prunable_weights,
)
from spikeproof.models._vgg import VGG11, VGG16
from spikeproof.models._wrn import WRN

__all__ = [
    "CNN",
    "MLP",
    "VGG11",
    "VGG16",
    "WRN",
    "Architecture",
    "SEWResNet",
    "Setting",
    "SpikingResNet",
    "analog_twin",
    "build",
    "prunable_weights",
]
