"""One PyTorch process of dev/bench/compare_torch.sh. It starts from a file of ./train_kat --dump-state.

    torch_worker.py check DUMP THREADS            compares loss, logits and gradients; exit status 1 if the losses disagree
    torch_worker.py eager|compiled DUMP THREADS   trains on the dump's batch until it is stopped, printing every step
"""
import itertools
import json
import struct
import sys

import numpy
import torch
import torch.nn.functional as F
from torch_models import VisionTransformer

LOSS_TOLERANCE = 1e-4


def read_safetensors(path):
    """Tensors by name, and the metadata: 8 bytes of length, a JSON header, then the data (float32 here)."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[begin:end], dtype="<f4").reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return tensors, metadata


def with_prefix(tensors, prefix):
    return {name[len(prefix):]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def relative_difference(value, expected):
    """Largest difference, relative to the tensor's largest element"""
    scale = expected.abs().max().item()
    difference = (value - expected).abs().max().item()
    return difference / scale if scale else difference


def check(model, dump):
    logits = model(dump["input"])
    loss = F.cross_entropy(logits, dump["target"])
    loss.backward()
    worst, worst_name = 0.0, "none"
    grads = with_prefix(dump, "grad.")
    for name, parameter in model.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        difference = relative_difference(grad, grads[name])
        if difference > worst:
            worst, worst_name = difference, name
    loss_difference = abs(loss.item() - dump["loss"].item())
    print(f"loss {loss.item():.6f}, ours differs by {loss_difference:.1e}; logits by "
          f"{relative_difference(logits, dump['logits']):.1e} of the largest; gradients by at most {worst:.1e} of their "
          f"tensor's largest ({worst_name})")
    return 0 if loss_difference <= LOSS_TOLERANCE else 1


def adamw(model):
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    try:
        return torch.optim.AdamW(groups, lr=1e-6, fused=True)
    except (TypeError, RuntimeError):  # fused on the CPU came with PyTorch 2.4
        return torch.optim.AdamW(groups, lr=1e-6)


def train_for_ever(model, dump):
    optimizer = adamw(model)
    for step in itertools.count():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(dump["input"]), dump["target"])
        if step == 0 and abs(loss.item() - dump["loss"].item()) > LOSS_TOLERANCE:
            sys.exit(f"the loss is {loss.item()}, ours {dump['loss'].item()}")
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.6f}", flush=True)


def main():
    mode, path, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    dump, config = read_safetensors(path)
    model = VisionTransformer(config, dump["target"].shape[1])
    model.load_state_dict(with_prefix(dump, "param."))
    if mode == "check":
        sys.exit(check(model, dump))
    train_for_ever(torch.compile(model) if mode == "compiled" else model, dump)


main()
