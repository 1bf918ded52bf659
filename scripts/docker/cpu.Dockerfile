# kat.c on CPUs. From the project's folder:
#     docker build -f scripts/docker/cpu.Dockerfile -t kat.c .
#     docker run --rm -it -v "$PWD/runs:/kat.c/runs" kat.c                    the quickstart
#     docker run --rm -it -v "$PWD/runs:/kat.c/runs" kat.c ./train_kat --help
# Programs are built for any x86-64 with AVX2; the quickstart builds them again for the processor that it finds.
FROM debian:bookworm
WORKDIR /kat.c
COPY scripts scripts
RUN scripts/setup.sh
COPY . .
RUN make train_kat convert_data analyze ARCH=x86-64-v3
CMD ["scripts/quickstart.sh"]
