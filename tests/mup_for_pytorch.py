"""What Microsoft's `mup` makes of networks' parameters: factors on draws and rates, as JSON.

The package goes by the shapes of parameters and the classes of layers, so nothing is run. The
committed numbers were made by

    pip install mup==1.0.0 torch==2.14.1
    python tests/mup_for_pytorch.py > tests/mup_for_pytorch.json
"""

import json
from importlib.metadata import version

import mup
import torch
from mup import MuAdam, MuReadout, MuSGD, MuSharedReadout, set_base_shapes
from torch import nn

BASE, WIDTH = 32, 128


def mlp(d: int) -> nn.ModuleDict:
    sizes = {"first": (8, d), "hidden": (d, d)}
    layers = {name: nn.Linear(*size) for name, size in sizes.items()}
    return nn.ModuleDict({**layers, "last": MuReadout(d, 10)})


def decoder(d: int, tied: bool = False) -> nn.ModuleDict:
    names = ("query", "key", "value", "out")
    layers: dict[str, nn.Module] = {name: nn.Linear(d, d) for name in names}
    layers |= {"embed": nn.Embedding(50, d), "norm": nn.LayerNorm(d)}
    layers |= {"up": nn.Linear(d, 8 * d), "down": nn.Linear(4 * d, d)}
    if tied:
        return nn.ModuleDict(
            {**layers, "last": MuSharedReadout(layers["embed"].weight, bias=False)}
        )
    return nn.ModuleDict({**layers, "last": MuReadout(d, 50)})


class Experts(nn.Module):
    """Stacked kernels: experts × inputs × outputs, which both grow, by different factors."""

    def __init__(self, d: int):
        super().__init__()
        self.up = nn.Parameter(torch.ones(3, d, 2 * d * d // BASE))


NETWORKS = {
    "mlp": mlp,
    "decoder": decoder,
    "tied decoder": lambda d: decoder(d, tied=True),
    "convolution to classes": lambda d: nn.ModuleDict({"classes": nn.Conv2d(d, 10, 1)}),
    "experts": Experts,
}


def factors(make) -> dict:
    """Return for each parameter the factors on draw and rates, and that on what it makes."""
    base, model = make(BASE), make(WIDTH)
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    set_base_shapes(model, base, delta=make(2 * BASE))
    kept = {name: float(p.detach().flatten()[0]) for name, p in model.named_parameters()}
    found = {}
    for name, parameter in model.named_parameters():
        mup.init.uniform_(parameter, -1.0, 1.0)
        found[name] = {"deviation": float(parameter.detach().flatten()[0]), "rescaled": kept[name]}
    for key, make_optimizer in (("adam", MuAdam), ("sgd", MuSGD)):
        optimizer = make_optimizer(model.parameters(), lr=1.0)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in model.named_parameters():
            found[name][key] = float(rates[id(parameter)])
    for name, layer in model.named_modules():
        if isinstance(layer, MuReadout) and f"{name}.weight" in found:
            found[f"{name}.weight"]["multiplier"] = 1 / layer.width_mult()
    return found


def main() -> None:
    # A uniform draw is replaced by its upper end, which is exact.
    mup.init._no_grad_uniform_ = lambda tensor, low, high: tensor.data.fill_(high)
    print(
        json.dumps(
            {
                "versions": {name: version(name) for name in ("mup", "torch")},
                "widths": [BASE, WIDTH],
                "networks": {name: factors(make) for name, make in NETWORKS.items()},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
