"""Training steps of PyTorch on a GPU, to compare with dev/bench/bench_cuda.cu, for scripts/gpu_check.sh:

    torch_gpu.py [--sizes tiny,base,small] [--rounds 5] [--seconds 150] [--json FILE] [--device cuda] [--small]

ViT with the fused attention of PyTorch, for each size; then KAT with FlashKAT's rational (torch_flash_rational.py) and
Fourier-KArAt in ordinary PyTorch, each next to ViT again; last what takes longest to compile. Every model runs in several
ways, the fastest of which is the one to compare with:

    eager          as written
    compiled       each block with torch.compile: twelve blocks of the same code are compiled once
    max-autotune   the same, with its products and kernels chosen by timing
    ..., graph     the whole step as one CUDA graph, so that no kernel waits for the host

All in bf16 by autocast, with fused AdamW, the batch on the device and not augmented, without the gradient's norm: ours
does all three in its step. The ways of a model take turns in every round. Peak memory is what the model's own steps
allocate. What does not run, or does not fit into the time, is reported; the exit status is 1 if the rational in Triton is
wrong, 77 if PyTorch finds no GPU.
--small: sizes for a CPU, to test that this runs.
"""
import argparse
import json
import os
import statistics
import sys
import time

import torch
import torch._dynamo
import torch.nn.functional as F
import torch_models
from torch_models import VisionTransformer

try:
    from torch_flash_rational import FlashRational, flash_error
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    NO_TRITON = None if torch.cuda.is_available() or interpreted else "Triton has no GPU (on a CPU: TRITON_INTERPRET=1)"
except ImportError as error:
    FlashRational, NO_TRITON = None, f"no Triton ({error})"

SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # width, heads
RATIONAL_TOLERANCE = 1e-4
FIRST_STEPS = 3
GROUPS = [  # models that are timed together: family, ways
    [("vit", "compiled, graph"), ("vit", "compiled")],
    [("vit", "compiled, graph"), ("kat", "compiled, graph"), ("kat", "compiled"), ("kat", "eager")],
    [("vit", "compiled, graph"), ("karat", "compiled, graph"), ("karat", "eager"), ("kat-karat", "compiled, graph")],
    [("vit", "compiled, graph"), ("vit", "max-autotune, graph")],
]


def config_of(size, options, small):
    C, H = (48, 3) if small else SIZES[size]
    config = {"image_size": 32 if small else 224, "patch": 16, "dim": C, "heads": H, "depth": 2 if small else 12,
              "mlp_ratio": 4, "mlp": "gelu", "rational_m": 5, "rational_n": 4, "rational_groups": 8,
              "rational_form": "a", "attn": "softmax", "grid": 1 if size == "base" else 3, "karat_rank": 12,
              "karat_mode": "block", "basis": "fourier", "karat_base": "zero", "karat_scales": "on",
              "karat_bias": "off", "pool": "token", "layer_scale": "0"}
    return config | options


def start_values(model):
    """Draws what the modules leave at zero, which would make attention and rationals trivial."""
    for name, p in model.named_parameters():
        if name.endswith("weight_numerator"):
            p.data.copy_(torch.tensor([[0.0, 0.5, 0.25, 0.05, 0.006, 0.0003]]))  # about swish
        elif not p.data.any():
            torch.nn.init.trunc_normal_(p, std=0.02)


def compile_blocks(model, way, device):
    options = {"backend": "eager"}  # on a CPU, a C++ compiler is not to be tested
    if device == "cuda":  # graphs of single blocks would copy their inputs
        options = {"mode": "max-autotune-no-cudagraphs"} if way.startswith("max-autotune") else {}
    for block in model.blocks:
        block.compile(dynamic=False, **options)


class Trained:
    def __init__(self, name, way, config, flash, batch, device):
        self.name, self.way, self.device, self.times, self.graph = name, way, device, [], None
        self.images, self.targets = batch
        before = self.allocated(torch.cuda.memory_allocated)
        plain = torch_models.Rational
        try:
            torch_models.Rational = FlashRational if flash else plain
            self.model = VisionTransformer(config, self.targets.shape[1])
        finally:
            torch_models.Rational = plain
        start_values(self.model)
        self.model.to(device)
        if not way.startswith("eager"):
            compile_blocks(self.model, way, device)
        graphed = way.endswith("graph") and device == "cuda"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, weight_decay=0.05, fused=True,
                                           capturable=graphed)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        loss = self.first_steps(graphed)
        if not loss < 100:
            raise RuntimeError(f"the loss is {loss}")
        self.memory = self.allocated(torch.cuda.max_memory_allocated) - before

    def allocated(self, function):
        return function() if self.device == "cuda" else 0

    def first_steps(self, graphed):
        if not graphed:
            return [self.step().item() for _ in range(FIRST_STEPS)][-1]
        side = torch.cuda.Stream()  # a capture must not begin on the default stream
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(FIRST_STEPS):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.step()
        self.graph = graph
        graph.replay()
        return loss.item()

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, dtype=torch.bfloat16):
            loss = F.cross_entropy(self.model(self.images).float(), self.targets)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def time_round(self, steps):
        run = self.graph.replay if self.graph else self.step
        self.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            run()
        self.synchronize()
        self.times.append(1e3 * (time.perf_counter() - start) / steps)

    def synchronize(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def model_of(family, size):
    """name as in dev/bench/bench_cuda.cu, options, whether it has FlashKAT's rational"""
    kat, karat = family.startswith("kat"), family.endswith("karat")
    name = f"{'kat' if kat else 'vit'}-{size}" + (f"-g{1 if size == 'base' else 3}b" if karat else "")
    return name, ({"mlp": "gr-kan"} if kat else {}) | ({"attn": "karat"} if karat else {}), kat


def build(group, size, batch, arguments, deadline):
    trained = []
    for family, way in group:
        name, options, flash = model_of(family, size)
        reason = "no time left" if time.monotonic() > deadline else NO_TRITON if flash else None
        if reason is None:
            try:
                trained.append(Trained(name, way, config_of(size, options, arguments.small), flash, batch,
                                       arguments.device))
                trained[-1].time_round(1)
                trained[-1].times.clear()
                continue
            except Exception as error:  # any error of a compiler or the allocator
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        print(f"{name:<15} {way:<22} skipped: {reason}", flush=True)
    return trained


def report(trained, json_file):
    vit = [statistics.median(t.times) for t in trained if t.name.startswith("vit") and "-g" not in t.name]
    batch = len(trained[0].images)
    for t in trained:
        ms = statistics.median(t.times)
        of_vit = min(vit) / ms if vit else float("nan")
        print(f"{t.name:<15} {t.way:<22} {batch:6d} {ms:9.3f} {min(t.times):9.3f} {max(t.times):9.3f} "
              f"{1e3 * batch / ms:10.1f} {1e-9 * t.memory:8.3f}   {of_vit:.3f}", flush=True)
        if json_file:
            row = {"part": "torch", "name": t.name, "way": t.way, "version": torch.__version__, "batch": batch,
                   "ms": round(ms, 4), "ms_least": round(min(t.times), 4), "ms_most": round(max(t.times), 4),
                   "rounds": len(t.times), "images_s": round(1e3 * batch / ms, 1),
                   "memory_gb": round(1e-9 * t.memory, 4), "of_vit": round(of_vit, 4) if of_vit == of_vit else None,
                   "time": int(time.time())}
            json_file.write(json.dumps(row) + "\n")
            json_file.flush()


def time_group(group, size, arguments, deadline, json_file):
    B = 2 if arguments.small else 128 if size == "base" else 256
    side, classes = (32, 10) if arguments.small else (224, 1000)
    images = torch.randn(B, 3, side, side, device=arguments.device)
    targets = F.one_hot(torch.arange(B, device=arguments.device) % classes, classes).float()
    trained = build(group, size, (images, targets), arguments, deadline)
    for _ in range(arguments.rounds if trained else 0):
        for t in trained:
            t.time_round(1 if arguments.small else 5)
    if trained:
        report(trained, json_file)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="tiny,base,small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} sees no GPU")
        sys.exit(77)
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.cache_size_limit = 64  # a block of every model and size
    error = 0.0 if NO_TRITON else flash_error(arguments.device)
    print(f"PyTorch {torch.__version__}, rational in Triton: "
          + (NO_TRITON or f"differs by {error:.1e} from the plain module in double precision"))
    if not error <= RATIONAL_TOLERANCE:
        sys.exit(1)
    print(f"\n{'step':<15} {'way':<22} {'batch':>6} {'ms':>9} {'fastest':>9} {'slowest':>9} {'images/s':>10} {'GB':>8}   "
          "throughput of vit", flush=True)
    json_file = open(arguments.json, "a") if arguments.json else None
    for group in GROUPS:
        for size in arguments.sizes.split(","):
            time_group(group, size, arguments, deadline, json_file)
            if arguments.device == "cuda":
                torch.cuda.empty_cache()


main()
