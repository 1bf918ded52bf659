// --recipe: how published models were trained, as flags; flags given beside it take precedence. Image size and patch
// come from the model. What a paper does not say is listed separately ("likely"), with the value of the program that it
// seems to have used.
#pragma once
#include "../runtime/choices.h"

// KAT on ImageNet-1K: its table 5 and scripts, and timm 1.0.3's defaults for the rest. Its 8 GPUs with 128 images each
// become 8 micro-batches, each of which mixes by its own draws. The accuracy that it reports is that of the running
// mean.
#define KAT_TRAINING \
    "--epochs 300 --batch-size 128 --grad-accum-steps 8 " \
    "--lr 1e-3 --min-lr 0 --warmup-epochs 5 --warmup-lr 1e-5 --sched-on-updates off " \
    "--opt-betas 0.9 0.999 --opt-eps 1e-8 --weight-decay 0.05 --clip-grad 0 --model-ema-decay 0.9999 " \
    "--drop-path 0.1 --smoothing 0.1 " \
    "--mixup 0.8 --cutmix 1 --mixup-prob 1 --mixup-switch-prob 0.5 --mix-order bytes " \
    "--aa rand-m9-mstd0.5 --rrc on --scale 0.08 1 --ratio 0.75 1.3333333 --hflip 0.5 --train-interpolation random " \
    "--reprob 0.25 --remode pixel --recount 1 --interpolation bicubic --crop-pct 0.875 --normalize imagenet"
#define KAT_BASE "--drop-path 0.4"
#define KAT_START \
    "--attn-init mimetic --mlp-init trunc02 --rational-init1 identity --rational-init2 swish --rational-decay on"

// KArAt: its table 9, from scratch. lr = 5e-4 batch / 512.
#define KARAT_PRINTED \
    "--epochs 100 --grad-accum-steps 1 --min-lr 1e-5 --warmup-epochs 5 --warmup-lr 1e-6 " \
    "--opt-eps 1e-6 --weight-decay 0.05 --clip-grad 1 --model-ema-decay 0.99992 " \
    "--smoothing 0.1 --mixup-switch-prob 0.5 --aa rand-m15-n2-mstd1.0-inc1 --color-jitter 0.4 " \
    "--rrc on --scale 0.08 1 --ratio 0.67 1.5 --hflip 0.5 --crop-pct 0.9"
// That table lists the defaults of the ConViT program, with four exceptions, so that program, which is mostly DeiT's,
// decides on the rest. It keeps the running mean beside the weights, and evaluates the weights: --eval
// last.safetensors.
#define KARAT_LIKELY \
    "--sched-on-updates off --opt-betas 0.9 0.999 --drop-path 0.1 " \
    "--mixup 0.8 --cutmix 1 --mixup-prob 1 --mix-order floats " \
    "--reprob 0.25 --remode pixel --recount 1 --aug-repeats 3 --train-interpolation bicubic --interpolation bicubic " \
    "--normalize imagenet"

// DeiT without distillation: its program's defaults, 4 GPUs with 256 images each, lr = 5e-4 batch / 512. It evaluates
// the weights, not their running mean.
#define DEIT_TRAINING \
    "--epochs 300 --batch-size 256 --grad-accum-steps 4 " \
    "--lr 1e-3 --min-lr 1e-5 --warmup-epochs 5 --warmup-lr 1e-6 --sched-on-updates off " \
    "--opt-betas 0.9 0.999 --opt-eps 1e-8 --weight-decay 0.05 --clip-grad 0 --model-ema-decay 0 " \
    "--drop-path 0.1 --smoothing 0.1 " \
    "--mixup 0.8 --cutmix 1 --mixup-prob 1 --mixup-switch-prob 0.5 --mix-order floats " \
    "--aa rand-m9-mstd0.5-inc1 --color-jitter 0.4 --rrc on --scale 0.08 1 --ratio 0.75 1.3333333 --hflip 0.5 " \
    "--train-interpolation bicubic --reprob 0.25 --remode pixel --recount 1 --aug-repeats 3 " \
    "--interpolation bicubic --crop-pct 0.875 --normalize imagenet"

// What timm's train.py (1.0.3) does if a flag is not given. Mean, deviation and crop differ from model to model there;
// the learning rate has to be given.
#define TIMM_DEFAULTS \
    "--epochs 300 --batch-size 128 --min-lr 0 --warmup-epochs 5 --warmup-lr 1e-5 --sched-on-updates off " \
    "--opt-betas 0.9 0.999 --opt-eps 1e-8 --weight-decay 2e-5 --clip-grad 0 --model-ema-decay 0 " \
    "--drop-path 0 --smoothing 0.1 --mixup 0 --cutmix 0 --mixup-prob 1 --mixup-switch-prob 0.5 --mix-order bytes " \
    "--color-jitter 0.4 --rrc on --scale 0.08 1 --ratio 0.75 1.3333333 --hflip 0.5 --vflip 0 --train-interpolation random " \
    "--reprob 0 --remode pixel --recount 1 --aug-repeats 1 --interpolation bicubic --crop-pct 0.875 --normalize imagenet"

// constant, name, note; flags: printed, likely, for widths of 768 and more, for models with GR-KAN
#define RECIPES(X) \
X(RECIPE_NONE, "none", "every flag as given, or its default", "", "", "", "") \
X(RECIPE_KAT, "kat", "KAT on ImageNet-1K from scratch: 300 epochs, 1024 images a step", \
  KAT_TRAINING, "", KAT_BASE, KAT_START) \
X(RECIPE_KAT_VITFT, "kat-vitft", \
  "the same from the weights of a ViT, by --init-from: trained on ImageNet-21k, by timm's name augreg_in21k", \
  KAT_TRAINING, "", KAT_BASE, KAT_START) \
X(RECIPE_KARAT_CIFAR, "karat-cifar", "KArAt on CIFAR-10 and CIFAR-100 at 224²: 100 epochs, 32 images a step", \
  "--batch-size 32 --lr 3.125e-5 " KARAT_PRINTED, KARAT_LIKELY, "", "") \
X(RECIPE_KARAT_IMAGENET, "karat-imagenet", "KArAt on ImageNet-1K: 100 epochs, 128 images a step", \
  "--batch-size 128 --lr 1.25e-4 " KARAT_PRINTED, KARAT_LIKELY, "", "") \
X(RECIPE_DEIT, "deit", "DeiT on ImageNet-1K without distillation: 300 epochs, 1024 images a step", \
  DEIT_TRAINING, "", "", "") \
X(RECIPE_TIMM, "timm", "what timm's train.py does where a flag is not given; one of its flags brings this with it", \
  TIMM_DEFAULTS, "", "", KAT_START)
enum { RECIPES(CHOICE_CONSTANT) RECIPE_COUNT };

enum { RECIPE_PRINTED, RECIPE_LIKELY, RECIPE_WIDE, RECIPE_GR_KAN, RECIPE_PARTS };
#define RECIPE_FLAGS(constant, name, note, ...) {__VA_ARGS__},
static const char* const recipe_flags[RECIPE_COUNT][RECIPE_PARTS] = {RECIPES(RECIPE_FLAGS)};
