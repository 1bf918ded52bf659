# kat.c. `make` without a target lists what it can build and what it found on this machine.
#
#   CC=gcc|clang     ARCH=native          -march; such as x86-64-v3 for a program that has to run elsewhere
#   BLAS=auto|openblas|none               OPENMP, DNNL, CJSON, ZLIB, LIBCRYPTO, JPEG, PNG, ARCHIVE, MPI, NCCL, PROTOBUF_C =
#                    auto|yes|none; MPI=mpich
#   BUILD=build      where objects go, so that builds with different settings can coexist
#   EXTRA_CFLAGS=    added to the flags
#   PREFIX=/usr/local   DESTDIR=           of make install and make uninstall
#   DEBUG=1          for a debugger (-Og -g), compiled in a fraction of the time; objects go to build/debug
#   NVCC=nvcc        CUDA_ARCH=sm_90        the GPU to compile for (dev/cuda_toolkit.mk)
#   FUZZ_SECONDS=60  for each target of make fuzz            FUZZ_CC=clang
#   PYTHON=          for make check-*: one that has the packages; without it each check gets a virtual environment
#   DATA= WORD=      for make check-onnx and check-timm: which data, and which models
#   EMU=plain|asan|race                  what train_katcu_emu checks besides results (dev/cuda_on_cpu/README.md)
#
# -ffast-math (also part of -Ofast) must not be used: it removes the checks for NaN.

CC = gcc
ARCH = native
BLAS = auto
OPENMP = auto
DNNL = auto
CJSON = auto
ZLIB = auto
LIBCRYPTO = auto
JPEG = auto
PNG = auto
ARCHIVE = auto
MPI = auto
NCCL = auto
PROTOBUF_C = auto
DEBUG =
BUILD = $(if $(DEBUG),build/debug,build)
EXTRA_CFLAGS =
EMU = plain
FUZZ_CC = clang
FUZZ_SECONDS = 60
PREFIX = /usr/local
DESTDIR =
PYTHON =
DATA =
WORD =

SETTINGS = CC='$(CC)' ARCH='$(ARCH)' OPENMP='$(OPENMP)' BLAS='$(BLAS)' DNNL='$(DNNL)' CJSON='$(CJSON)' \
           ZLIB='$(ZLIB)' LIBCRYPTO='$(LIBCRYPTO)' JPEG='$(JPEG)' PNG='$(PNG)' ARCHIVE='$(ARCHIVE)' MPI='$(MPI)' NCCL='$(NCCL)' \
           CUDA='$(CUDA_FOLDER)' PROTOBUF_C='$(PROTOBUF_C)' EXTRA_CFLAGS='$(EXTRA_CFLAGS)'
CONFIG := $(BUILD)/config.mk
include dev/cuda_toolkit.mk

ifneq ($(MAKECMDGOALS),clean)
$(shell $(SETTINGS) scripts/probe.sh $(CONFIG))
include $(CONFIG)
$(shell scripts/version.sh $(CONFIG) $(BUILD)/version.c)
endif

# Stack frames stay small: a thread's stack may be only 128 KB.
CFLAGS = -std=gnu11 $(if $(DEBUG),$(DEBUG_FLAGS),$(OPTIMIZE)) -march=$(ARCH) -fno-math-errno \
         -fno-trapping-math -Wall -Wextra -Wframe-larger-than=32768 $(FOUND_FLAGS) $(EXTRA_CFLAGS)
LDLIBS = $(FOUND_LIBS) -lm -lpthread
COMPILE = $(CC) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(filter %.o,$^) $(LDLIBS)

PROGRAMS = train_kat convert_data fit_rational analyze compare_runs inspect
CUDA_PROGRAMS = train_katcu train_katcu_emu
TESTS := $(patsubst %.c,$(BUILD)/%,$(notdir $(wildcard test_*.c dev/test/test_*.c)))
SHELL_TESTS := $(wildcard dev/test/test_*.sh)

# C tests that run the trainer, as the shell tests do
RUN_TRAINER := $(patsubst dev/test/%.c,$(BUILD)/%,$(shell grep -lE "TRAIN_KAT|trainer_process" dev/test/test_*.c))

# Tests whose results cannot depend on processor flags or a library for products: they copy, count, parse and refuse, or
# run the trainer, whose arithmetic test_gpt_style.c covers from inside. They are not repeated in builds that differ in
# nothing else.
SAME_EVERYWHERE = $(SHELL_TESTS) $(RUN_TRAINER) \
    $(patsubst %,$(BUILD)/test_%,convert convert_folder convert_imagenet convert_index dataset fuzz_corpus log safetensors)

.PHONY: help $(PROGRAMS) $(CUDA_PROGRAMS) install uninstall dist bench bench-layers bench-data bench-cuda test stress \
        check-onnx check-timm check-tensorboard test-arithmetic test-asan step-bytes roofline networks test-folder test-mpich test-gpu-check clean
.DELETE_ON_ERROR:

help:
	@echo 'make train_kat      the trainer                        (./train_kat --help)'
	@echo 'make DEBUG=1 train_kat   for a debugger: built in a fraction of the time, far slower, objects in build/debug'
	@echo 'make convert_data   turns data sets into .kds files     (./convert_data --help)'
	@echo 'make analyze        analyses of finished runs: curves, weights, functions, attention, landscape, a report'
	@echo '                    (./analyze --help)'
	@echo 'make compare_runs   lists runs; means over seeds with t-tests; differences between two runs'
	@echo '                    (./compare_runs --help)'
	@echo 'make inspect        contents of a safetensors file, or differences between two  (./inspect --help)'
	@echo 'make fit_rational   fits starting coefficients of rationals (./fit_rational --help)'
	@echo 'make train_katcu    the trainer on an NVIDIA GPU: needs CUDA 12 or 13 (./train_katcu --help)'
	@echo 'make train_katcu_emu  the same on the CPU, thread by thread, for tests: needs the headers of CUDA'
	@echo 'make bench          times training steps against this machine'"'"'s own sgemm rate'
	@echo 'make bench-layers   shows in which operations a training step spends its time'
	@echo 'make bench-data     times reading, decoding, resizing and augmenting images, beside libjpeg-turbo'"'"'s own decoding'
	@echo 'make bench-cuda     times training steps and their operations on an NVIDIA GPU, compared with its limits'
	@echo 'make networks       a run on two network namespaces as nodes, its steps against a model, also for 64 nodes'
	@echo 'make roofline       the expected time of a step on an NVIDIA GPU, from the counted bytes that it moves'
	@echo 'make step-bytes     counts them again, in the emulation; UPDATE=1 keeps the result (dev/step_bytes)'
	@echo 'make test           builds and runs every test'
	@echo 'make test-karat     builds and runs dev/test/test_karat.c; test-trainer.sh: dev/test/test_trainer.sh; and so on'
	@echo 'make test-arithmetic  the tests whose results depend on processor instructions and libraries (ARCH=, BLAS=)'
	@echo 'make test-mpich     tests of several processes with MPICH: needs mpich and libmpich-dev'
	@echo 'make test-folder    builds the project in a folder with a space in its name'
	@echo 'make test-asan      all tests under AddressSanitizer and UBSan, with less work in each'
	@echo 'make stress         kills a run 100 times, and starts two in one folder 50 times: takes minutes'
	@echo 'make -C dev/test_cuda emu trainer ranks   the CUDA kernels and trainer, run on the CPU, against the CPU'"'"'s'
	@echo 'make -C dev/cuda_on_cpu test         the emulation, with planted defects; dev/nccl_on_cpu: its messages'
	@echo 'make test-gpu-check                  scripts/gpu_check.sh with stand-ins for a GPU, and in tiny sizes on the CPU'
	@echo 'make check-onnx     exported models in ONNX Runtime: 77, or those with WORD=swin in their flags'
	@echo 'make check-timm     a run'"'"'s folder in timm, and back: DATA=datasets/cifar10, else fashion-mnist; WORD='
	@echo 'make check-tensorboard  event files in TensorBoard'"'"'s own reader. These three fetch Python packages once'
	@echo 'make fuzz           looks for files and flags that crash their readers, FUZZ_SECONDS=60 each: needs clang'
	@echo 'make fuzz-kds       one of them: $(FUZZ_TARGETS)'
	@echo 'make install        programs, man page and completion for bash and zsh into $(DESTDIR)$(PREFIX); make uninstall'
	@echo 'make dist           an archive of the sources of the checked-out commit'
	@echo 'make clean          removes what make built'
	@echo
	@echo 'scripts/ranks.sh N ./train_kat ...  trains one model with N processes on this machine, by MPI'
	@echo 'scripts/gpu_check.sh               tests and benchmarks on an NVIDIA GPU, in at most 10 minutes'
	@echo 'scripts/reproduce.sh               the tables of both papers, one command per row; by default it lists them'
	@echo 'scripts/figures.sh DATA            pages of analyses: softmax against KArAt, and KAT against ViT, on CIFAR-10'
	@echo 'dev/bench/compare_torch.sh --install                       the same models in PyTorch beside this trainer'
	@echo
	@echo 'compiler   $(COMPILER_NOTE)'
	@echo 'OpenMP     $(OPENMP_NOTE)'
	@echo 'OpenBLAS   $(BLAS_NOTE)'
	@echo 'oneDNN     $(DNNL_NOTE)'
	@echo 'cJSON      $(CJSON_NOTE)'
	@echo 'zlib       $(ZLIB_NOTE)'
	@echo 'libcrypto  $(LIBCRYPTO_NOTE)'
	@echo 'JPEG       $(JPEG_NOTE)'
	@echo 'PNG        $(PNG_NOTE)'
	@echo 'archives   $(ARCHIVE_NOTE)'
	@echo 'MPI        $(MPI_NOTE)'
	@echo 'NCCL       $(NCCL_NOTE)'
	@echo 'protobuf-c $(PROTOBUF_C_NOTE)'
	@gnuplot --version >/dev/null 2>&1 && echo "gnuplot    ✓ $$(gnuplot --version)" \
	    || echo 'gnuplot    ✗ no plots: install gnuplot-nox'
	@$(NVCC) --version >/dev/null 2>&1 && echo "nvcc       ✓ $$($(NVCC) --version | grep release)" \
	    || echo 'nvcc       ✗ no CUDA: the CPU programs do without'

$(PROGRAMS) $(CUDA_PROGRAMS): %: $(BUILD)/%
	@cmp -s $< $@ || cp -f $< $@

# Programs that can be one of several processes
$(BUILD)/train_vit.o: FOUND_FLAGS += $(MPI_FLAGS)
$(BUILD)/train_kat: FOUND_LIBS += $(MPI_LIBS)

# Programs that write ONNX files, and read them back, by the schema of export/onnx.proto
WITH_ONNX = $(BUILD)/train_vit.o $(BUILD)/train_kat $(BUILD)/test_onnx
ifneq ($(PROTOBUF_C_LIBS),)
$(WITH_ONNX): FOUND_FLAGS += $(PROTOBUF_C_FLAGS) -I'$(BUILD)'
$(WITH_ONNX): FOUND_LIBS += $(PROTOBUF_C_LIBS)
$(WITH_ONNX): $(BUILD)/onnx.pb-c.o
endif

$(BUILD)/onnx.pb-c.o: export/onnx.proto $(CONFIG)
	@protoc-c -I export --c_out='$(BUILD)' $<
	@$(CC) $(CFLAGS) $(PROTOBUF_C_FLAGS) -c -o $@ $(@:.o=.c)

# A separate object, so that a new commit, which only version.o knows, recompiles nothing else
$(BUILD)/train_vit.o: train_vit.c $(CONFIG)
	$(CC) $(CFLAGS) -MMD -MP -MF $@.d -c -o $@ $<

$(BUILD)/version.o: $(BUILD)/version.c
	@$(CC) -c -o $@ $<

# Without its objects a program that is newer than its sources is up to date: one that was copied, or installed
.SECONDARY: $(BUILD)/train_vit.o $(BUILD)/version.o $(BUILD)/onnx.pb-c.o

$(BUILD)/train_kat: $(BUILD)/train_vit.o $(BUILD)/version.o
	$(CC) $(CFLAGS) -o $@ $(filter %.o,$^) $(LDLIBS)

# Makes the man page and the completion
$(BUILD)/manual: dev/manual/manual.c $(CONFIG)
	$(COMPILE)

# Programs that read archives
$(BUILD)/convert_data $(BUILD)/test_convert%: FOUND_FLAGS += $(ARCHIVE_FLAGS)
$(BUILD)/convert_data $(BUILD)/test_convert%: FOUND_LIBS += $(ARCHIVE_LIBS)

$(BUILD)/convert_data: data/convert.c $(CONFIG)
	$(COMPILE)

$(BUILD)/analyze: dev/analyze/analyze.c $(CONFIG)
	$(COMPILE)

$(BUILD)/compare_runs: dev/compare_runs/compare_runs.c $(CONFIG)
	$(COMPILE)

$(BUILD)/inspect: dev/inspect/inspect.c $(CONFIG)
	$(COMPILE)

$(BUILD)/fit_rational: dev/fit_rational/fit_rational.c $(CONFIG)
	$(COMPILE)

# They compare with OpenBLAS, even if the trainer does not use it.
$(BUILD)/bench $(BUILD)/layers: FOUND_FLAGS += $(OPENBLAS_FLAGS)
$(BUILD)/bench $(BUILD)/layers: FOUND_LIBS += $(OPENBLAS_LIBS)

$(BUILD)/bench: dev/bench/bench.c $(CONFIG)
	$(COMPILE)

$(BUILD)/layers: dev/bench/layers.c $(CONFIG)
	$(COMPILE)

$(BUILD)/bench_augment: dev/bench/bench_augment.c $(CONFIG)
	$(COMPILE)

$(BUILD)/bench_data: dev/bench/bench_data.c $(CONFIG)
	$(COMPILE)

$(BUILD)/test_%: dev/test/test_%.c $(CONFIG)
	$(COMPILE)

$(BUILD)/test_%: test_%.c $(CONFIG)
	$(COMPILE)

# ---- On the GPU. Host code as for the CPU, but without OpenBLAS and oneDNN, for which the device leaves no work.
CUDA_WARNINGS = -Wall,-Wextra,-Wno-unknown-pragmas,-Wno-missing-field-initializers
CUDA_FOUND_FLAGS = $(filter-out -DHAVE_OPENBLAS -DHAVE_DNNL -DHAVE_LIBCRYPTO,$(filter -D% -I%,$(FOUND_FLAGS)))
CUDA_OPENMP = $(addprefix -Xcompiler ,$(filter -fopenmp,$(FOUND_FLAGS)))
CUDA_LIBS = $(filter-out -L%openblas-openmp/ -lopenblas -ldnnl -lcrypto,$(FOUND_LIBS)) -lm -lpthread

CUDA_COMPILE = $(NVCC) -std=c++20 -O3 $(CUDA_TARGET) -Xcompiler $(CUDA_WARNINGS) $(CUDA_OPENMP) $(CUDA_FOUND_FLAGS) \
               -MMD -MP -MF $@.d -o $@ $< $(BUILD)/version.o $(CUDA_LIBS) -lcublasLt -Xlinker -rpath,$(CUDA_FOLDER)/lib64
NEEDS_NVCC = @command -v $(NVCC) >/dev/null || { echo '$(@F) needs the CUDA toolkit: install it, or set NVCC' >&2; exit 1; }

# nvcc does not pass on -Wl: it has its own flag for the linker
COMMA = ,
$(BUILD)/train_katcu: CUDA_FOUND_FLAGS += $(NCCL_FLAGS)
$(BUILD)/train_katcu: CUDA_LIBS += $(subst -Wl$(COMMA),-Xlinker ,$(NCCL_LIBS))

# Compiling takes minutes, so it reports the commit at which it was compiled.
$(BUILD)/train_katcu: train_vit.cu $(CONFIG) | $(BUILD)/version.o
	$(NEEDS_NVCC)
	$(CUDA_COMPILE)

$(BUILD)/bench_cuda: dev/bench/bench_cuda.cu $(CONFIG) | $(BUILD)/version.o
	$(NEEDS_NVCC)
	$(CUDA_COMPILE)

# $(call EMULATE,source without .cu[,EMU_NCCL=yes]): emulation.mk has its dependencies
EMULATE = @$(MAKE) --no-print-directory -f dev/cuda_on_cpu/emulation.mk $(BUILD)/emu/$(EMU)/$(1)_emu EMU=$(EMU) $(2) \
    EMU_BUILD=$(BUILD)/emu EMU_CXXFLAGS='-std=c++20 -Wno-missing-field-initializers -DREDUCED $(CUDA_FOUND_FLAGS)' \
    EMU_LDLIBS='$(CUDA_LIBS)' && { cmp -s $(BUILD)/emu/$(EMU)/$(1)_emu $@ || cp -f $(BUILD)/emu/$(EMU)/$(1)_emu $@; }

$(BUILD)/train_katcu_emu: FORCE $(CONFIG)
	+$(call EMULATE,train_vit,EMU_NCCL=yes)

$(BUILD)/bench_cuda_emu: FORCE $(CONFIG)
	+$(call EMULATE,dev/bench/bench_cuda)

$(BUILD)/step_bytes_emu: FORCE $(CONFIG)
	+$(call EMULATE,dev/step_bytes/step_bytes)

.PHONY: FORCE
FORCE:

# Steps on several nodes, with sleeps in place of the trainer's computations
$(BUILD)/simulate: FOUND_FLAGS += $(MPI_FLAGS)
$(BUILD)/simulate: FOUND_LIBS += $(MPI_LIBS)

$(BUILD)/simulate: dev/scaling/simulate.c $(CONFIG)
	$(COMPILE)

networks: $(BUILD)/simulate $(BUILD)/train_kat
	@SIMULATE=$(BUILD)/simulate TRAIN_KAT=$(BUILD)/train_kat dev/scaling/networks.sh

install: $(PROGRAMS:%=$(BUILD)/%) $(BUILD)/manual
	@DESTDIR='$(DESTDIR)' scripts/install.sh '$(BUILD)' '$(PREFIX)'

uninstall:
	@DESTDIR='$(DESTDIR)' scripts/install.sh --remove '$(BUILD)' '$(PREFIX)'

dist:
	@scripts/dist.sh .

bench: $(BUILD)/bench
	@$<

bench-layers: $(BUILD)/layers
	@$<

bench-data: $(BUILD)/bench_data $(BUILD)/bench_augment
	@$< && $(BUILD)/bench_augment

bench-cuda: $(BUILD)/bench_cuda
	@$< tiny && $< small && $< base

# Counts under the emulation, which takes some minutes; UPDATE=1 makes the result the reference
STEP_BYTES = $(BUILD)/emu/$(1)/dev/step_bytes/step_bytes_emu
step-bytes:
	@for build in plain bytes; do $(MAKE) --no-print-directory $(BUILD)/step_bytes_emu EMU=$$build || exit 1; done
	@dev/step_bytes/count.sh $(call STEP_BYTES,plain) $(call STEP_BYTES,bytes) >$(BUILD)/counts.txt
	@$(if $(UPDATE),cp $(BUILD)/counts.txt dev/step_bytes/counts.txt)
	@dev/step_bytes/roofline.sh $(BUILD)/counts.txt
	@diff dev/step_bytes/counts.txt $(BUILD)/counts.txt || \
	    { echo 'not what dev/step_bytes/counts.txt says (<): if that is meant, make step-bytes UPDATE=1'; exit 1; }

roofline:
	@dev/step_bytes/roofline.sh dev/step_bytes/counts.txt

stress: $(BUILD)/train_kat
	@TRAIN_KAT=$< dev/test/stress.sh

test-gpu-check:
	@JSON="$(BUILD)/gpu_check.json" dev/gpu_check/test.sh

# $(call RUN_TESTS,test...). Shell tests are told where the programs are; $(abspath) would split a path at spaces.
RUN_TESTS = @build="$$(cd $(BUILD) && pwd)" && TRAIN_KAT="$$build/train_kat" CONVERT_DATA="$$build/convert_data" \
    ANALYZE="$$build/analyze" COMPARE_RUNS="$$build/compare_runs" INSPECT="$$build/inspect" MANUAL="$$build/manual" scripts/run_tests.sh $(1)

# The longest tests come first, to overlap with the others. Benchmarks, which no test runs, have to compile.
test: $(TESTS) $(PROGRAMS:%=$(BUILD)/%) $(BUILD)/manual
	@$(CC) $(CFLAGS) $(OPENBLAS_FLAGS) -fsyntax-only dev/bench/bench.c dev/bench/layers.c dev/bench/bench_data.c \
	    dev/bench/bench_augment.c dev/scaling/simulate.c
	$(call RUN_TESTS,$(SHELL_TESTS) $(TESTS))

test-arithmetic: $(filter-out $(SAME_EVERYWHERE),$(TESTS))
	$(call RUN_TESTS,$^)

# Several processes with MPICH, in addition to Open MPI
test-mpich: $(BUILD)/convert_data
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/mpich MPI=mpich $(BUILD)/mpich/train_kat
	@build="$$(cd $(BUILD) && pwd)" && MPIRUN=mpirun.mpich TRAIN_KAT="$$build/mpich/train_kat" \
	    CONVERT_DATA="$$build/convert_data" scripts/run_tests.sh dev/test/test_ranks.sh dev/test/test_rank_faults.sh

test-folder: $(BUILD)/train_kat
	$(call RUN_TESTS,dev/test/odd_folder.sh)

$(TESTS:$(BUILD)/test_%=test-%): test-%: $(BUILD)/test_%
	$(call RUN_TESTS,$<)

$(RUN_TRAINER:$(BUILD)/test_%=test-%): $(BUILD)/train_kat

$(patsubst dev/test/test_%,test-%,$(wildcard dev/test/test_analyze*.sh)): $(BUILD)/analyze

test-inspect.sh: $(BUILD)/inspect
test-install.sh: $(PROGRAMS:%=$(BUILD)/%) $(BUILD)/manual

test-reproduce.sh test-compare_runs.sh: $(BUILD)/compare_runs

$(SHELL_TESTS:dev/test/test_%=test-%): test-%: dev/test/test_% $(BUILD)/train_kat $(BUILD)/convert_data
	$(call RUN_TESTS,$<)

# ---- What the trainer writes, read by other programs: in Python, which nothing else needs. pip fetches packages once.
PACKAGES_onnx = numpy onnx onnxruntime safetensors
PACKAGES_timm = timm
PACKAGES_tensorboard = tensorboard 'setuptools<81'

$(BUILD)/%-venv/complete: | $(CONFIG)
	python3 -m venv '$(@D)' && '$(@D)/bin/pip' install -q $(PACKAGES_$*) && touch '$@'

# $(call NEEDS_PYTHON,CHECK), $(call RUN_PYTHON,CHECK,script arguments...)
NEEDS_PYTHON = train_kat $(if $(PYTHON),,$(BUILD)/$(1)-venv/complete)
RUN_PYTHON = @$(if $(PYTHON),$(PYTHON),'$(BUILD)/$(1)-venv/bin/python') $(2)

check-onnx: $(call NEEDS_PYTHON,onnx)
	$(call RUN_PYTHON,onnx,dev/export/check_onnx.py '$(or $(DATA),procedural)' '$(WORD)')

check-timm: $(call NEEDS_PYTHON,timm)
	$(call RUN_PYTHON,timm,dev/export/check_timm.py '$(or $(DATA),datasets/fashion-mnist)' '$(WORD)')

check-tensorboard: $(call NEEDS_PYTHON,tensorboard)
	$(call RUN_PYTHON,tensorboard,dev/tensorboard/check_events.py)

# -g1: line numbers for reports, without types and variables, which take a third of the compile time. UBSan need not
# check for what AddressSanitizer detects at the access (null, object-size).
# float-cast-overflow is not part of undefined. At -O1 clang warns about each loop that `omp simd` asks it to vectorise.
SANITIZE = -O1 -g1 -DREDUCED -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all \
           -fno-sanitize=null,object-size -Wno-frame-larger-than -Wno-format-truncation \
           $(if $(findstring clang,$(CC)),-Wno-pass-failed)
test-asan:
	@$(MAKE) --no-print-directory test BUILD=$(BUILD)/asan EXTRA_CFLAGS='$(EXTRA_CFLAGS) $(SANITIZE)'

# ---- libFuzzer on the code that reads files and flags (dev/fuzz/fuzz.h)
FUZZ_TARGETS := $(patsubst dev/fuzz/fuzz_%.c,%,$(wildcard dev/fuzz/fuzz_*.c))
FUZZ_CFLAGS = -std=gnu11 -O1 -g -DFUZZING -fopenmp-simd -Wall -Wextra -Wno-pass-failed \
              -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all \
              $(filter-out -DHAVE_OPENBLAS -DHAVE_DNNL,$(filter -D% -I%,$(FOUND_FLAGS)))
FUZZ_LIBS = $(filter-out -L%openblas-openmp/ -lopenblas -ldnnl,$(FOUND_LIBS)) -lm -lpthread
NEEDS_FUZZER = @echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
    $(FUZZ_CC) -x c -fsanitize=fuzzer,address -o $@ - 2>/dev/null || { echo 'make fuzz needs clang and its libFuzzer:' \
    'install clang and libclang-rt-14-dev (14: the version of clang), or set FUZZ_CC' >&2; exit 1; }

$(FUZZ_TARGETS:%=$(BUILD)/fuzz/%): $(BUILD)/fuzz/%: dev/fuzz/fuzz_%.c $(CONFIG)
	@mkdir -p '$(@D)'
	$(NEEDS_FUZZER)
	@$(FUZZ_CC) $(FUZZ_CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(FUZZ_LIBS)
# Its words come from the option table: without a hook at every comparison it is three times as fast
$(BUILD)/fuzz/options: FUZZ_CFLAGS += -fno-sanitize-coverage=trace-cmp

.PHONY: fuzz $(FUZZ_TARGETS:%=fuzz-%)
fuzz: $(FUZZ_TARGETS:%=fuzz-%)
$(FUZZ_TARGETS:%=fuzz-%): fuzz-%: $(BUILD)/fuzz/%
	@dev/fuzz/run.sh '$<' $* $(FUZZ_SECONDS) '$(BUILD)/fuzz/found'

# Other targets of the same command have already read $(CONFIG)
clean:
	rm -rf $(if $(filter-out clean,$(MAKECMDGOALS)),$(filter-out $(CONFIG),$(wildcard $(BUILD)/*)),$(BUILD)) $(PROGRAMS) $(CUDA_PROGRAMS)

-include $(wildcard $(BUILD)/*.d $(BUILD)/fuzz/*.d)
