#!/usr/bin/env python3
"""./train_kat --export against ONNX Runtime: a model of every kind is trained for some steps, exported, checked by
onnx's own checker (including shapes), and run on batches of 1, 3 and 8 images, whose logits must equal ours to 2e-5 of
the largest.

    make check-onnx [DATA=...] [WORD=...]           or, with another Python that has numpy, onnx, onnxruntime and safetensors:
    python3 dev/export/check_onnx.py [DATA [WORD]]

DATA is an argument of --data, by default procedural, noise in a part of each image; WORD selects models by their flags.
No tensor of a graph may have N x N elements for each of a head's r functions. Prints one line per model; exit status 1
if one is wrong. Needs Python, unlike everything else here, and so is not part of make test."""
import os, subprocess, sys, tempfile
import numpy, onnx, onnxruntime
from safetensors.numpy import load_file

LIMIT = 2e-5
SIZE = "--dim 24 --heads 3 --depth 3 --image-size 40 --patch 8"
N = 26

MODELS = ["vit-mini", "vit-mini --pool avg", "vit-mini --layer-scale 0.1", "vit-mini --attn-gate", "kat-mini",
          "kat-mini --rational-form paper --rational-init2 gelu", "kat-mini --rational-m 3 --rational-n 2 --rational-groups 4",
          "kat-mini --rational-n 0", "kan-mini", "kan-mini --kan-grid 4 --kan-order 2", "vit-mini --mlp relu",
          "vit-mini --mlp silu", "vit-mini --mlp softplus", "vit-mini --mlp prelu", "vit-mini --mlp rational",
          "vit-mini --mlp rational --rational-form paper", "vit-mini --attn sigmoid", "vit-mini --attn relu",
          "vit-mini --attn polynomial", "vit-mini --attn mixing", "vit-mini --attn softmax-rank", "vit-mini --attn linear",
          "vit-mini --attn linear --attn-gate --pool avg", "vit-mini-g3b", "vit-mini-g1u", "kat-mini-g3b --karat-bias block",
          "vit-mini-g3b --karat-scales off", "vit-mini-g3b --softmax-heads 1", "vit-mini-g3b --karat-full",
          "vit-mini-g3b --karat-full --karat-bias block --basis rational", "vit-mini-g3b --karat-order phi-w",
          "vit-mini-g3b --karat-order phi-phi", "vit-mini-g3u --karat-order phi-phi --basis morlet",
          "vit-mini-g3b --karat-projection simplex", "vit-mini-g3b --karat-projection l1",
          "vit-mini-g3b --karat-projection simplex --karat-project z", "vit-mini-g3b --karat-projection l1 --karat-project z",
          "vit-mini-g3b --karat-order phi-w --karat-projection simplex --karat-bias block", "vit-mini-g3b --pool avg --attn-gate",
          "kat-mini-g3b --softmax-heads 2 --attn-gate --layer-scale 0.1 --karat-bias block"]
MODELS += [f"vit-mini-g3b --basis {basis}" for basis in
           "rational mexican-hat morlet dog meyer shannon sech bspline chebyshev polynomial".split()]
MODELS += ["vit-mini-g5b --basis bspline --spline-order 0", "vit-mini-g2b --basis bspline --spline-order 7 --spline-range 2",
           "vit-mini-g5b --basis bspline --spline-range 0.3", "vit-mini-g1b --basis chebyshev --karat-order phi-phi"]
MODELS += [f"vit-mini-g3b --karat-base {base} --basis {basis} --karat-order {order}" for base, basis, order in
           [("identity", "fourier", "w-phi"), ("silu", "rational", "w-phi"), ("gelu", "dog", "phi-phi"), ("silu", "chebyshev", "phi-w")]]
MODELS += ["vit-mini --reg-tokens 3 --no-embed-class", "vit-mini --no-embed-class --qkv-bias off",
           "vit-mini --pool avg --fc-norm --reg-tokens 2 --no-embed-class", "kat-mini-g3b --pool avg --fc-norm"]
# @: with their own sizes
MODELS += [f"{model} @" for model in ["convit-mini", "convit-mini-g3b", "convit-mini --mlp gr-kan --qkv-bias on", "swin-mini",
           "swin-mini --mlp gr-kan --layer-scale 0.1", "swin-mini-g3b --karat-bias block", "swin-mini-g2u", "swin-mini-g3b --softmax-heads 1",
           "swin-mini-g3b --basis chebyshev --karat-base silu", "swin-mini-g3b --karat-mask literal",
           "swin-mini-g3b --karat-mask literal --basis dog --karat-bias block", "vit-tiny", "kat-tiny-g3b",
           "convit-tiny", "swin-tiny"]]


class Refused(Exception):
    pass


def run(*words):
    done = subprocess.run(["./train_kat", *words], capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"./train_kat {' '.join(words)}: {done.stderr.strip()}")


def large_tensors(graph, heads, tokens):
    """Names of tensors larger than one N x N matrix per head, for models of one size"""
    for info in graph.value_info:
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim[1:]]
        if dims.count(tokens) > 1 and numpy.prod(dims) > heads * tokens * tokens:
            yield info.name


# Learning rates: high enough that each function is used where it is curved, but not so high that Fourier series are
# evaluated far out, where the cosine of a large number in fp32 has no correct digits.
def check(flags, data, folder):
    words, own_size = flags.split(), flags.endswith("@")
    large = own_size and "mini" not in flags
    words = words[:-1] if own_size else words + SIZE.split()
    words = ["--model", *words, "--data", data, "--device", "cpu"]
    run(*words, "--train-images", "200", "--test-images", "8", "--batch-size", "8", "--steps", "3" if large else "40",
        "--lr", "3e-3" if own_size or "phi-phi" in flags else "2e-2", "--output", folder, "--overwrite")
    weights, path, state = folder + "/last.safetensors", folder + "/model.onnx", folder + "/state.safetensors"
    run("--export", path, "--init-from", weights)
    run("--init-from", weights, "--data", data, "--dump-state", state, "--batch-size", "8", "--reprob", "0.5", "--device", "cpu",
        "--train-images", "200")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    shapes = onnx.shape_inference.infer_shapes(model).graph
    found = [] if own_size else list(large_tensors(shapes, 3, N))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    dump = load_file(state)
    got = numpy.concatenate([session.run(None, {"input": dump["input"][a:b]})[0] for a, b in ((0, 1), (1, 4), (4, 8), (0, 8))])
    want = numpy.concatenate([dump["logits"]] * 2)
    error = numpy.abs(got - want).max() / max(1, numpy.abs(want).max())
    good = error <= LIMIT and not found
    print(f"{'ok ' if good else 'BAD'} {error:.1e}, logits to {numpy.abs(want).max():.2f}, {len(model.graph.node):5d} nodes  {flags}",
          *found[:3], flush=True)
    return good


def checked(flags, data, folder):
    try:
        return check(flags, data, folder)
    except Refused as refused:
        print(f"BAD {refused}", flush=True)
        return False


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    data = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] != "procedural" else "procedural"
    chosen = [m for m in MODELS if len(sys.argv) < 3 or sys.argv[2] in m]
    with tempfile.TemporaryDirectory() as folder:
        results = [checked(flags, data, folder) for flags in chosen]
    print(f"{sum(results)} of {len(results)} models agree with ONNX Runtime {onnxruntime.__version__} on {data}")
    return 0 if all(results) and results else 1


if __name__ == "__main__":
    sys.exit(main())
