"""KAT's models under their names in timm's registry: those of its public code, katransformer.py, if that can be
imported, else timm's ViT with KAT's MLP. In both, the rationals are the formula of kernels/rational.h in PyTorch: those
of the public package, kat_rational, need a GPU, and its own for the CPU, KAT_Group_Torch, has x where its kernels have
|x|."""
import sys
import types

import torch
from timm.models import build_model_with_cfg, register_model
from timm.models.vision_transformer import VisionTransformer

GROUPS, M, N = 8, 5, 4  # of every released model


class Rational(torch.nn.Module):
    """P(x) / Q(x): P = Σ a_i x^i, i = 0 .. M, for all channels; Q = 1 + Σ |b_i| |x|^i, i = 1 .. N, for a group of them"""

    def __init__(self, mode=None):  # the initial function: irrelevant to weights from a file
        super().__init__()
        self.weight_numerator = torch.nn.Parameter(torch.zeros(1, M + 1))
        self.weight_denominator = torch.nn.Parameter(torch.zeros(GROUPS, N))

    def forward(self, x):
        z = x.unflatten(-1, (GROUPS, -1))  # (B, tokens, GROUPS, C / GROUPS)
        p = sum(a * z ** i for i, a in enumerate(self.weight_numerator[0]))
        q = 1 + sum(b.abs()[:, None] * z.abs() ** i for i, b in enumerate(self.weight_denominator.unbind(1), 1))
        return (p / q).flatten(-2)


class GroupRationalMlp(torch.nn.Module):
    def __init__(self, in_features, hidden_features, bias=True, **_):
        super().__init__()
        self.act1, self.act2 = Rational(), Rational()
        self.fc1 = torch.nn.Linear(in_features, hidden_features, bias=bias)
        self.fc2 = torch.nn.Linear(hidden_features, in_features, bias=bias)

    def forward(self, x):
        return self.fc2(self.act2(self.fc1(self.act1(x))))


def kat(name, pretrained, dim, heads, given):
    args = dict(patch_size=16, embed_dim=dim, depth=12, num_heads=heads, mlp_layer=GroupRationalMlp)
    return build_model_with_cfg(VisionTransformer, name, pretrained, **{**args, **given})


def kat_tiny_patch16_224(pretrained=False, **given):
    return kat("kat_tiny_patch16_224", pretrained, 192, 3, given)


def kat_small_patch16_224(pretrained=False, **given):
    return kat("kat_small_patch16_224", pretrained, 384, 6, given)


def kat_base_patch16_224(pretrained=False, **given):
    return kat("kat_base_patch16_224", pretrained, 768, 12, given)


def register_kats():
    """Registers them, and returns their source"""
    sys.modules["kat_rational"] = types.SimpleNamespace(KAT_Group=Rational)
    try:
        import katransformer
        return katransformer.__file__
    except ImportError:
        for model in (kat_tiny_patch16_224, kat_small_patch16_224, kat_base_patch16_224):
            register_model(model)
        return __file__
