"""A network that others train is looked at and left as it was; Lightning and torchmetrics call the same."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import couplingkit as ck
from couplingkit.errors import ArgumentError


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.BatchNorm2d(16), nn.GELU(), nn.Dropout(0.5))
        self.mix = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, images):
        return self.mix(self.body(images))


def read(network, images):
    return network(images)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Encoder()


def test_a_look_is_a_measurement(network, probes):
    monitor = ck.CouplingMonitor(probes, every=10, size_px=224)
    found = monitor(network, read)
    whole = ck.measure(ck.NetworkBackbone(network, read, name="coupling"), probes)
    assert found["coupling/cr"] == whole.summary.cr
    assert found["coupling/leak_low"] == whole.summary.estimates["leak"].low
    assert found["coupling/measured"] == len(probes)
    assert found["coupling/seconds"] > 0
    assert monitor.last.rows.equals(whole.rows)
    assert all(isinstance(value, float) for value in found.values())


def test_the_network_is_left_alone(network, probes):
    network.train()
    network.body[3].eval()
    (network(torch.rand(2, 3, 64, 64)) ** 2).mean().backward()
    before = copy.deepcopy(network.state_dict())
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    modes = [module.training for module in network.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global one is what is asked about
    ck.CouplingMonitor(probes)(network, read)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(torch.equal(one.grad, other) for one, other in zip(network.parameters(), gradients, strict=True))


def test_it_looks_when_it_is_due(network, probes):
    monitor = ck.CouplingMonitor(probes, every=3, prefix="val")
    assert [step for step in range(9) if monitor.due(step)] == [2, 5, 8]
    assert monitor(network, read, step=0) == {}
    assert "val/cr" in monitor(network, read, step=2)
    for bad in ({"every": 0}, {"mean": (2, 2, 2)}):
        with pytest.raises(ArgumentError):
            ck.CouplingMonitor(probes, **bad)(network, read)
    with pytest.raises(ArgumentError, match="read must be a function"):
        monitor(network, "features")


def test_lightning_logs_it(probes, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    from couplingkit.integrations.lightning import CouplingCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = Encoder()

        def training_step(self, batch, _number):
            return (self.backbone(batch) ** 2).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    module = Module()
    seen = []
    monitor = ck.CouplingMonitor(probes, every=2)
    callback = CouplingCallback(monitor, read, network=lambda one: one.backbone)
    watch = lightning.Callback()
    watch.on_train_batch_end = lambda trainer, *_: seen.append(dict(trainer.callback_metrics))
    trainer = lightning.Trainer(
        max_steps=4, accelerator="cpu", callbacks=[callback, watch], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, accumulate_grad_batches=2,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.rand(16, 3, 64, 64), batch_size=2))
    last = trainer.callback_metrics
    assert "coupling/cr" in last
    assert not math.isnan(float(last["coupling/cr"]))
    # Two batches a step, a look every two steps.
    assert [("coupling/cr" in one) for one in seen][:4] == [False, False, False, True]


def test_torchmetrics_computes_it(network, probes):
    pytest.importorskip("torchmetrics")
    from couplingkit.integrations.torchmetrics import CouplingMetric

    metric = CouplingMetric(ck.CouplingMonitor(probes), read)
    with pytest.raises(ArgumentError, match="update must be called"):
        metric.compute()
    metric.update(network)
    found = metric.compute()
    assert float(found["coupling/cr"]) == pytest.approx(metric.monitor.last.summary.cr)
    metric.reset()
    with pytest.raises(ArgumentError):
        metric.compute()
