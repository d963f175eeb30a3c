from __future__ import annotations

from spikeproof.models import CNN, MLP, Setting, build, prunable_weights


def test_the_small_networks_have_the_weights_of_their_numbers():
    setting = Setting(channels=3, size=16)
    cnn = CNN(channels=(4, 8), hidden=10)
    assert prunable_weights(build(cnn, setting)) == 3 * 4 * 9 + 4 * 8 * 9 + 8 * 16 * 10 + 10 * 10
    mlp = MLP(hidden=(7, 5))
    assert prunable_weights(build(mlp, setting)) == 768 * 7 + 7 * 5 + 5 * 10
