# What both makefiles need to know about CUDA: where the toolkit is, and which GPUs to compile for.
#
#   NVCC=            on PATH, else in one of CUDA_FOLDERS: CUDA_HOME, and where the toolkit is usually installed
#   CUDA_ARCH=sm_90  or several, "sm_80 sm_90"; default: the GPU here, else the generations that this toolkit supports

NVCC = $(or $(if $(shell command -v nvcc 2>/dev/null),nvcc),$(firstword $(wildcard $(CUDA_FOLDERS:%=%/bin/nvcc))),nvcc)
CUDA_ARCH =
CUDA_FOLDERS ?= $(CUDA_HOME) /usr/local/cuda
CUDA_FOLDER = $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v $(NVCC) 2>/dev/null)))

# nvidia-smi prints errors to standard output
CUDA_CARD = $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | \
                    grep -xE '[0-9]+\.[0-9]+' | head -n 1)
CUDA_KNOWN = $(filter sm_80 sm_90 sm_100,$(shell $(NVCC) --list-gpu-code))
CUDA_CHOSEN = $(or $(CUDA_ARCH),$(if $(CUDA_CARD),sm_$(subst .,,$(CUDA_CARD)),$(CUDA_KNOWN)))
# and PTX of the last, for future GPUs
CUDA_TARGET = $(foreach n,$(patsubst sm_%,%,$(CUDA_CHOSEN)),-gencode arch=compute_$(n),code=sm_$(n)) \
              $(foreach n,$(patsubst sm_%,%,$(lastword $(CUDA_CHOSEN))),-gencode arch=compute_$(n),code=compute_$(n))
