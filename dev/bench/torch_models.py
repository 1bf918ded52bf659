"""The trainer's ViT, KAT and Fourier-KArAt as a PyTorch user would write them: float32, ordinary modules, autograd.

Only for dev/bench/compare_torch.sh; nothing that trains or evaluates needs Python. Parameters have timm's names, so that
the files of ./train_kat --dump-state load by name. Shapes: B images, N tokens, C width, H heads, D = C/H, R rank, G grid.
"""
import torch
import torch.nn.functional as F
from torch import nn


class Rational(nn.Module):
    """KAT's group rational, form A: (a0 + a1 x + ... + am x^m) / (1 + |b1||x| + ... + |bn||x|^n), by Horner's rule.
    One numerator for all groups, a denominator for each of g contiguous groups of channels."""

    def __init__(self, m, n, groups):
        super().__init__()
        self.weight_numerator = nn.Parameter(torch.zeros(1, m + 1))
        self.weight_denominator = nn.Parameter(torch.zeros(groups, n))

    def forward(self, x):
        b = self.weight_denominator
        b = torch.where(b < 0, -b, b)  # |b| with derivative +1 at 0, as in the trainer; abs() has 0 there
        grouped = x.unflatten(-1, (b.shape[0], -1))  # (B, N, g, C/g)
        magnitude = grouped.abs()
        a = self.weight_numerator[0].unbind()
        b = b.unsqueeze(-1).unbind(1)  # each (g, 1)
        numerator, denominator = a[-1], b[-1]
        for coefficient in reversed(a[:-1]):
            numerator = numerator * grouped + coefficient
        for coefficient in reversed(b[:-1]):
            denominator = denominator * magnitude + coefficient
        return (numerator / (denominator * magnitude + 1)).flatten(-2)


class Mlp(nn.Module):
    def __init__(self, config, C):
        super().__init__()
        hidden = int(C * float(config["mlp_ratio"]))
        gr_kan = config["mlp"] == "gr-kan"
        orders = [int(config["rational_" + name]) for name in ("m", "n", "groups")]
        self.act1 = Rational(*orders) if gr_kan else nn.Identity()
        self.fc1 = nn.Linear(C, hidden)
        self.act2 = Rational(*orders) if gr_kan else nn.GELU()
        self.fc2 = nn.Linear(hidden, C)

    def forward(self, x):
        return self.fc2(self.act2(self.fc1(self.act1(x))))


class Karat(nn.Module):
    """Fourier-KArAt: σV with σ = W z and z_p = Σ_q s_pq Σ_m [a_pqm cos(m A_q) + c_pqm sin(m A_q)], for each row of A.
    As published, the cosines and sines of A and the N x N matrix σ are tensors; heads come first, so that each of the
    three sums is a batched product without a copy."""

    def __init__(self, H, N, R, G):
        super().__init__()
        self.coef = nn.Parameter(torch.zeros(H, R, 2 * G, N))
        self.scale_basis = nn.Parameter(torch.zeros(H, R, N))
        self.scale_base = nn.Parameter(torch.zeros(H, R, N))  # of a base activation that is 0
        self.proj = nn.Module()
        self.proj.weight = nn.Parameter(torch.zeros(H, N, R))
        self.register_buffer("multiples", torch.arange(1.0, G + 1).unsqueeze(-1), persistent=False)

    def forward(self, A, v):  # (H, B, N, N), (H, B, N, D)
        angles = A.unsqueeze(-2) * self.multiples  # (H, B, N, G, N)
        features = torch.cat((angles.cos(), angles.sin()), -2).flatten(-2).flatten(1, 2)  # (H, B N, 2 G N)
        coefficients = (self.coef * self.scale_basis.unsqueeze(2)).flatten(2)  # (H, R, 2 G N)
        z = features @ coefficients.transpose(1, 2)  # (H, B N, R)
        sigma = (z @ self.proj.weight.transpose(1, 2)).view_as(A)
        return sigma @ v


class Attention(nn.Module):
    def __init__(self, config, C, N):
        super().__init__()
        self.H = int(config["heads"])
        self.qkv = nn.Linear(C, 3 * C)
        self.proj = nn.Linear(C, C)
        if config["attn"] == "karat" and config["karat_mode"] == "block":
            self.karat = karat_of(config, N)

    def forward(self, x, universal=None):
        B, N, C = x.shape
        qkv = self.qkv(x).view(B, N, 3, self.H, C // self.H)
        karat = getattr(self, "karat", universal)
        if karat is not None:
            q, k, v = qkv.permute(2, 3, 0, 1, 4)  # each (H, B, N, D)
            mix = karat(q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1), v).permute(1, 2, 0, 3)
        else:
            q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, N, D)
            mix = softmax_attention(q, k, v).transpose(1, 2)
        return self.proj(mix.reshape(B, N, C))


def softmax_attention(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):  # from PyTorch 2.0
        return F.scaled_dot_product_attention(q, k, v)
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


def karat_of(config, N):
    return Karat(int(config["heads"]), N, int(config["karat_rank"]), int(config["grid"]))


class Block(nn.Module):
    def __init__(self, config, C, N):
        super().__init__()
        self.norm1 = nn.LayerNorm(C, eps=1e-6)
        self.attn = Attention(config, C, N)
        self.norm2 = nn.LayerNorm(C, eps=1e-6)
        self.mlp = Mlp(config, C)

    def forward(self, x, universal):
        x = x + self.attn(self.norm1(x), universal)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, P, C):
        super().__init__()
        self.proj = nn.Conv2d(3, C, P, stride=P)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """config: the metadata of a dump, strings by option name"""

    def __init__(self, config, classes):
        super().__init__()
        refuse_others(config)
        S, P, C = (int(config[name]) for name in ("image_size", "patch", "dim"))
        N = (S // P) ** 2 + 1
        self.patch_embed = PatchEmbed(P, C)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, C))
        self.pos_embed = nn.Parameter(torch.zeros(1, N, C))
        self.blocks = nn.ModuleList(Block(config, C, N) for _ in range(int(config["depth"])))
        self.karat = karat_of(config, N) if config["attn"] == "karat" and config["karat_mode"] == "universal" else None
        self.norm = nn.LayerNorm(C, eps=1e-6)
        self.head = nn.Linear(C, classes)

    def forward(self, images):
        x = self.patch_embed(images)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), 1) + self.pos_embed
        for block in self.blocks:
            x = block(x, self.karat)
        return self.head(self.norm(x)[:, 0])


def refuse_others(config):
    """Ends the program if the dump's model is not one of these."""
    known = {"pool": ("token",), "layer_scale": ("0",), "mlp": ("gelu", "gr-kan"), "attn": ("softmax", "karat"),
             "basis": ("fourier",), "karat_base": ("zero",), "karat_scales": ("on",), "karat_bias": ("off",),
             "karat_mode": ("block", "universal"), "rational_form": ("a",)}
    for name, values in known.items():
        if config[name] not in values:
            raise SystemExit(f"the PyTorch models have {name} {' or '.join(values)}, not {config[name]}")
