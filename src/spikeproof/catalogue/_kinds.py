"""Whatever has a name: the kinds, what may stand for each. An allow-list, and only data."""

from __future__ import annotations

from spikeproof import models, spiking, training

KINDS: dict[object, tuple[type, ...]] = {
    spiking.Surrogate: (
        spiking.Triangle,
        spiking.Rectangle,
        spiking.ATan,
        spiking.Sigmoid,
        spiking.Gaussian,
        spiking.Exponential,
        spiking.StraightThrough,
    ),
    spiking.Rule: (
        spiking.BPTT,
        spiking.BPTR,
        spiking.RGA,
        spiking.HART,
        spiking.PDSG,
        spiking.ASSG,
    ),
    spiking.LIF: (spiking.LIF, spiking.IF),
    spiking.Encoder: (
        spiking.Direct,
        spiking.Poisson,
        spiking.Phase,
        spiking.Rate,
        spiking.Latency,
        spiking.Frames,
        spiking.Averaged,
    ),
    models.Architecture: (
        models.CNN,
        models.MLP,
        models.VGG11,
        models.VGG16,
        models.WRN,
        models.SEWResNet,
        models.SpikingResNet,
    ),
    training.Optimizer: (training.SGD, training.Adam, training.AdamW),
    training.Schedule: (training.Constant, training.Cosine, training.Steps),
    training.Objective: (training.CrossEntropy, training.TET),
}
