"""FlashKAT's group rational (Raffel and Chen, arXiv 2505.13813) in Triton, written from the paper's algorithm.

According to the paper, KAT's first kernel lacked this: the gradients of the coefficients are summed over a tile of rows
of one group within the block before they are added, by atomics, to those in memory. Storage is fp32, as published: under
autocast the input is cast before, and the output is cast again by the next layer. Orders (5, 4), form A.
"""
import torch
import triton
import triton.language as tl
from torch_models import Rational


@triton.jit
def denominator_of(x, b0, b1, b2, b3):
    y = tl.abs(x)
    return 1 + y * (b0 + y * (b1 + y * (b2 + y * b3)))


@triton.jit
def forward_kernel(out, inp, numerator, denominator, n, C, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    b = denominator + at % C // WIDTH * 4
    x = tl.load(inp + at, mask=inside, other=0.0)
    P = tl.load(numerator + 5)
    for i in tl.static_range(5):
        P = P * x + tl.load(numerator + 4 - i)
    b0 = tl.abs(tl.load(b, mask=inside, other=0.0))
    b1 = tl.abs(tl.load(b + 1, mask=inside, other=0.0))
    b2 = tl.abs(tl.load(b + 2, mask=inside, other=0.0))
    b3 = tl.abs(tl.load(b + 3, mask=inside, other=0.0))
    tl.store(out + at, P / denominator_of(x, b0, b1, b2, b3), mask=inside)


@triton.jit
def backward_kernel(dinp, dnumerator, ddenominator, dout, inp, numerator, denominator, rows, C, WIDTH: tl.constexpr,
                    ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    group = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    at = row * C + group * WIDTH + column
    inside = (row < rows) & (column < WIDTH)
    x = tl.load(inp + at, mask=inside, other=0.0)
    d = tl.load(dout + at, mask=inside, other=0.0)
    s0 = tl.load(denominator + group * 4)
    s1 = tl.load(denominator + group * 4 + 1)
    s2 = tl.load(denominator + group * 4 + 2)
    s3 = tl.load(denominator + group * 4 + 3)
    b0, b1, b2, b3 = tl.abs(s0), tl.abs(s1), tl.abs(s2), tl.abs(s3)
    P = tl.load(numerator + 5)
    dP = P * 0
    for i in tl.static_range(5):
        dP = dP * x + P
        P = P * x + tl.load(numerator + 4 - i)
    y = tl.abs(x)
    Q = denominator_of(x, b0, b1, b2, b3)
    dQ = b0 + y * (2 * b1 + y * (3 * b2 + y * 4 * b3))
    dQ = tl.where(x < 0, -dQ, dQ)
    t = d / Q
    F = P / Q
    tl.store(dinp + at, t * (dP - F * dQ), mask=inside)
    power = t
    for i in tl.static_range(6):
        tl.atomic_add(dnumerator + i, tl.sum(power))
        power = power * x
    u = -t * F * y
    b = ddenominator + group * 4
    tl.atomic_add(b, tl.where(s0 < 0, -1.0, 1.0) * tl.sum(u))
    tl.atomic_add(b + 1, tl.where(s1 < 0, -1.0, 1.0) * tl.sum(u * y))
    tl.atomic_add(b + 2, tl.where(s2 < 0, -1.0, 1.0) * tl.sum(u * y * y))
    tl.atomic_add(b + 3, tl.where(s3 < 0, -1.0, 1.0) * tl.sum(u * y * y * y))


class FlashRationalFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inp, numerator, denominator):
        inp = inp.float().contiguous()
        C, n = inp.shape[-1], inp.numel()
        out = torch.empty_like(inp)
        forward_kernel[(triton.cdiv(n, 1024),)](out, inp, numerator, denominator, n, C, C // len(denominator), 1024)
        ctx.save_for_backward(inp, numerator, denominator)
        return out

    @staticmethod
    def backward(ctx, dout):
        inp, numerator, denominator = ctx.saved_tensors
        C, groups = inp.shape[-1], len(denominator)
        rows, width, tile = inp.numel() // C, C // groups, 32
        dout = dout.float().contiguous()
        dinp = torch.empty_like(inp)
        dnumerator, ddenominator = torch.zeros_like(numerator), torch.zeros_like(denominator)
        backward_kernel[(triton.cdiv(rows, tile), groups)](dinp, dnumerator, ddenominator, dout, inp, numerator,
                                                           denominator, rows, C, width, tile,
                                                           triton.next_power_of_2(width))
        return dinp, dnumerator, ddenominator


class FlashRational(Rational):
    def forward(self, x):
        return FlashRationalFunction.apply(x, self.weight_numerator, self.weight_denominator)


def flash_error(device):
    """Largest relative difference, value and gradients, from the plain module in double precision"""
    torch.manual_seed(1)
    plain, flash = Rational(5, 4, 4).double().to(device), FlashRational(5, 4, 4).to(device)
    for p, q in zip(plain.parameters(), flash.parameters()):
        q.data = torch.randn_like(q)
        p.data = q.data.double()
    x = torch.randn(3, 17, 48, device=device, requires_grad=True)
    doubled = x.detach().double().requires_grad_()
    weights = torch.randn(3, 17, 48, device=device)
    value, wanted = flash(x), plain(doubled)
    (value * weights).sum().backward()
    (wanted * weights).sum().backward()
    pairs = [(value, wanted), (x.grad, doubled.grad)]
    pairs += [(q.grad, p.grad) for p, q in zip(plain.parameters(), flash.parameters())]
    return max(((got - want).abs().max() / want.abs().max()).item() for got, want in pairs)
