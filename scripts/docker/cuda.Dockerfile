# kat.c on NVIDIA GPUs, A100 and later; needs the NVIDIA Container Toolkit. From the project's folder:
#     docker build -f scripts/docker/cuda.Dockerfile -t kat.c-cuda .
#     docker run --rm -it --gpus all -v "$PWD/runs:/kat.c/runs" kat.c-cuda                    the quickstart
#     docker run --rm -it --gpus all -v "$PWD/runs:/kat.c/runs" kat.c-cuda ./train_katcu --help
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04
WORKDIR /kat.c
COPY scripts scripts
RUN scripts/setup.sh
COPY . .
RUN make train_kat convert_data analyze ARCH=x86-64-v3
RUN make train_katcu CUDA_ARCH="sm_80 sm_90" ARCH=x86-64-v3
CMD ["scripts/quickstart.sh"]
