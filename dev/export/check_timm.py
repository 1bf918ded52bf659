#!/usr/bin/env python3
"""A run's folder best/ opened by timm, and timm's own opened here: the same top-1 on the whole test split, to the image
except for ties in fp32, and logits within 1e-5 of the largest on a batch.

    make check-timm DATA=PREFIX [WORD=...]          or, with another Python that has timm:
    python3 dev/export/check_timm.py PREFIX [WORD]

PREFIX is that of PREFIX.train.kds and PREFIX.test.kds; WORD selects models by their flags. For every model: some steps
of training; timm.create_model of best/ with its pretrained configuration, whose own transform prepares the images with
Pillow; --eval of best/; --eval of that model as saved by timm; and --export of it. KATs are opened by KAT's public code
if its katransformer.py is on PYTHONPATH, else by kat_timm.py. Needs Python, unlike everything else here, and so is not
part of make test."""
import os, re, subprocess, sys, tempfile
import numpy, timm, torch
from PIL import Image
from safetensors.torch import load_file
from timm.models import save_for_hf
from kat_timm import register_kats

LIMIT = 1e-5
TIE = 1e-6  # two largest logits this close may come in either order
MODELS = ["--model vit-mini --dim 48 --depth 2 --patch 8",
          "--model vit-mini --dim 48 --depth 2 --patch 8 --pool avg --mlp relu --layer-scale 0.1",
          "--model vit-mini --dim 64 --heads 4 --depth 2 --patch 8 --image-size 40 --crop-pct 0.8 --mlp silu --normalize half",
          "--model vit-mini --dim 48 --depth 2 --patch 7 --image-size 28 --interpolation bilinear --mlp prelu --normalize imagenet"]
MODELS += ["--model vit-mini --dim 48 --depth 2 --patch 8 --pool avg --fc-norm --reg-tokens 2 --no-embed-class --qkv-bias off",
           "--model convit-mini --depth 3 --dim 64 --patch 8", "--model swin-mini --dim 24 --heads 2,4,4"]
MODELS += ["--model kat-mini --dim 48 --depth 2 --patch 8", "--model kat-mini --dim 48 --depth 2 --patch 8 --pool avg"]


def run(*words):
    done = subprocess.run(["./train_kat", "--device", "cpu", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"./train_kat {' '.join(words)}\n{done.stderr}")
    return done.stdout


def read_kds(path):
    """Images and labels, in the layout of data/dataset.h"""
    with open(path, "rb") as file:
        raw = file.read()
    count, classes, channels, height, width = numpy.frombuffer(raw, "<u4", 5, 20)
    at = 128 + 32 * classes
    labels = numpy.frombuffer(raw, "<u2", count, at)
    planes = numpy.frombuffer(raw, "u1", offset=at + 2 * count).reshape(count, channels, height, width)
    return [Image.fromarray(numpy.ascontiguousarray(p.transpose(1, 2, 0).squeeze())).convert("RGB") for p in planes], labels


def hits_here(folder, prefix):
    found = re.search(r"top-1 ([0-9.]+) .* (\d+) images", run("--eval", folder, "--data", prefix))
    return round(float(found[1]) * int(found[2]) / 100)


def hits_of(model, pictures, labels):
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    hits = ties = 0
    with torch.no_grad():
        for first in range(0, len(pictures), 500):
            images = torch.stack([transform(p) for p in pictures[first:first + 500]])
            values, classes = model(images).topk(2)
            hits += int((classes[:, 0].numpy() == labels[first:first + 500]).sum())
            ties += int((values[:, 0] - values[:, 1] <= TIE).sum())
    return hits, ties


def logits_error(model, best, prefix, state):
    run("--init-from", best, "--data", prefix, "--train-images", "200", "--batch-size", "16", "--dump-state", state)
    dump = load_file(state)
    with torch.no_grad():
        return float((model(dump["input"]) - dump["logits"]).abs().max() / max(1, dump["logits"].abs().max()))


def check(flags, prefix, pictures, labels, folder):
    output, saved, back, state = (os.path.join(folder, name) for name in ("run", "saved", "exported", "state.safetensors"))
    run(*flags.split(), "--data", prefix, "--train-images", "10000", "--steps", "150", "--batch-size", "32", "--output", output,
        "--overwrite")
    model = timm.create_model(f"local-dir:{output}/best", pretrained=True).eval()
    save_for_hf(model, saved, safe_serialization=True)
    run("--export", back, "--init-from", saved)
    ours, (theirs, ties) = hits_here(f"{output}/best", prefix), hits_of(model, pictures, labels)
    again, exported = hits_here(saved, prefix), hits_here(back, prefix)
    error = logits_error(model, f"{output}/best", prefix, state)
    same = abs(ours - theirs) <= ties and ours == again == exported and error <= LIMIT
    print(f"{'ok ' if same else 'BAD'} of {len(labels)} images right: {ours} here, {theirs} by timm, {again} of what timm saved, "
          f"{exported} of that exported again; {ties} ties; logits within {error:.1e}  {flags}", flush=True)
    return same


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    prefix = os.path.abspath(sys.argv[1])
    pictures, labels = read_kds(prefix + ".test.kds")
    models = [m for m in MODELS if len(sys.argv) < 3 or sys.argv[2] in m]
    print(f"KATs by {os.path.basename(register_kats())}")
    with tempfile.TemporaryDirectory() as folder:
        results = [check(flags, prefix, pictures, labels, folder) for flags in models]
    print(f"{sum(results)} of {len(results)} models agree with timm {timm.__version__} on {prefix}")
    return 0 if all(results) and results else 1


if __name__ == "__main__":
    sys.exit(main())
