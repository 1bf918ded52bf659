# Compiling CUDA for the CPU: rules to include in a makefile.
#
#   make path/test_x_emu EMU=plain|asan|race|bytes     builds path/test_x.cu as $(EMU_BUILD)/plain/path/test_x_emu
#
#   EMU=plain        threads in the order set by EMU_ORDER; memory that was not written holds NaNs
#   EMU=asan         the same with AddressSanitizer and UBSan: the line of an overflow or a misaligned vector access
#   EMU=race         loads and stores watched for races, missing barriers, reads of uninitialised memory: needs clang++
#   EMU=bytes        loads and stores counted, for EMU_RECORD: needs clang++
#
#   EMU_CXXFLAGS=    added to the compiler's flags (-DNAME, -Wno-...)
#   EMU_LDLIBS=      added to the link
#   EMU_NCCL=yes     with ../nccl_on_cpu, and HAVE_NCCL set
#   EMU_PRECOMPILED=yes   if many sources are compiled      EMU_OPTIMIZE=-O1   g++'s level
#   EMU_CXX=g++      EMU_CLANG=clang++      EMU_BUILD=build/emu      EMU_OBJECTS=$(EMU_BUILD)/runtime, of the runtime itself
#   CUDA_HOME=       the toolkit, for its headers; found beside nvcc if not given. Its libraries are not used.
#
# The source is plain CUDA; it and the project's headers that it includes with "" are rewritten by cuda_to_cpp.sh.

EMU_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
EMU_BUILD ?= build/emu
EMU_OBJECTS ?= $(EMU_BUILD)/runtime
EMU ?= plain
EMU_CXX ?= g++
EMU_CLANG ?= clang++
EMU_OPTIMIZE ?= -O1

# make before 4.3 runs a command without a shell, of which `command` is a part, unless something in the line needs one
EMU_HOMES := $(CUDA_HOME) $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v nvcc 2>/dev/null)))
EMU_HEADERS := $(firstword $(dir $(wildcard $(foreach home,$(EMU_HOMES),$(home)/include/cuda_runtime.h \
                                                $(home)/targets/*/include/cuda_runtime.h))))
EMU_NO_TOOLKIT = no CUDA toolkit: its headers are needed, found beside nvcc or in CUDA_HOME/include

# -fno-strict-aliasing: float4 views of float arrays are common in CUDA. -g1 and -O1: compiling takes longer than most
# programs run; reports name lines, not variables.
EMU_WARNINGS = -Wall -Wextra -Wno-unknown-pragmas -Wno-unused-function -Wno-sign-compare
EMU_NCCL ?= no
EMU_NCCL_DIR = $(EMU_DIR)/../nccl_on_cpu
EMU_NCCL_FLAGS = $(if $(filter yes,$(EMU_NCCL)),-DHAVE_NCCL -isystem $(EMU_NCCL_DIR)/include)
EMU_FLAGS = -std=c++17 -g1 -fno-strict-aliasing -isystem $(EMU_DIR)/include $(EMU_NCCL_FLAGS) \
            $(if $(filter /usr/include/,$(EMU_HEADERS)),,-isystem $(EMU_HEADERS)) $(EMU_WARNINGS) $(EMU_CXXFLAGS)
# UBSan need not check for what AddressSanitizer detects at the access: that takes a quarter of the compile time
EMU_SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined \
               -fno-sanitize=vptr,null,object-size

EMU_RUNTIME := $(patsubst $(EMU_DIR)/runtime/%.cpp,$(EMU_OBJECTS)/%.o, \
                $(filter-out %/race.cpp %/race_calls.cpp %/race_none.cpp %/bytes.cpp,$(wildcard $(EMU_DIR)/runtime/*.cpp)))
ifeq ($(EMU_NCCL),yes)
EMU_RUNTIME += $(EMU_OBJECTS)/nccl.o $(EMU_OBJECTS)/segment.o
endif
EMU_UNWATCHED := $(EMU_RUNTIME) $(EMU_OBJECTS)/race_none.o
EMU_WATCHED := $(EMU_RUNTIME) $(EMU_OBJECTS)/race.o $(EMU_OBJECTS)/race_calls.o
EMU_COUNTED := $(EMU_RUNTIME) $(EMU_OBJECTS)/bytes.o $(EMU_OBJECTS)/race_calls.o
# The runtime finds the running kernel among the program's exported symbols (dladdr)
EMU_LINK = -rdynamic $(EMU_LDLIBS) -ldl
EMU_INTERFACE := $(EMU_DIR)/cuda_to_cpp.sh $(wildcard $(EMU_DIR)/include/*.h $(EMU_DIR)/include/*/*.h)

# Results of the rewriting, for all builds: the sources in $(EMU_MIRROR), and beside the stamp their dependencies. The
# shell finds absolute paths, in quotes: make's own functions would split a path at spaces.
EMU_MIRROR = $(EMU_BUILD)/source
EMU_REWRITTEN = "$(EMU_MIRROR)$$(realpath $(dir $*))"/$(notdir $*).cpp
EMU_REWRITTEN_STAMPS = $(EMU_BUILD)/rewritten/%.stamp

# With EMU_PRECOMPILED=yes cuda_emu.h, which includes most of the toolkit, is compiled once per build, which pays for
# several sources or more. A compiler that finds that it was made with other flags reads the header itself.
EMU_PRECOMPILED ?= no
EMU_HEADER := $(EMU_DIR)/include/cuda_emu.h
ifeq ($(EMU_PRECOMPILED),yes)
EMU_GCH = $(EMU_BUILD)/$(1)/header/cuda_emu.h.gch
EMU_PCH = $(EMU_BUILD)/race/header/cuda_emu.h.pch
EMU_INCLUDE = -I$(EMU_BUILD)/$(1)/header -include cuda_emu.h
EMU_INCLUDE_RACE = -include-pch $(EMU_PCH)
else
EMU_INCLUDE = -include cuda_emu.h
EMU_INCLUDE_RACE = -include cuda_emu.h
endif

.DELETE_ON_ERROR:
.SECONDARY: $(EMU_UNWATCHED) $(EMU_WATCHED) $(EMU_COUNTED)
.PRECIOUS: $(EMU_BUILD)/race/%_emu.o $(EMU_REWRITTEN_STAMPS) $(EMU_BUILD)/%/header/cuda_emu.h.gch

$(EMU_REWRITTEN_STAMPS): %.cu $(EMU_INTERFACE)
	@$(if $(EMU_HEADERS),,echo '$(EMU_NO_TOOLKIT)' >&2; exit 1;) mkdir -p $(@D) && \
	    files=$$($(EMU_DIR)/cuda_to_cpp.sh $< $(EMU_MIRROR) $(EMU_CXX) $(EMU_FLAGS)) && \
	    { echo "$@: $$files"; for file in $$files; do echo "$$file:"; done; } >$@.d && touch $@

EMU_COMPILE_plain = $(EMU_CXX) $(EMU_FLAGS) $(EMU_OPTIMIZE)
EMU_COMPILE_asan = $(EMU_COMPILE_plain) $(EMU_SANITIZE)

$(EMU_BUILD)/plain/%_emu: $(EMU_REWRITTEN_STAMPS) $(EMU_UNWATCHED) $(call EMU_GCH,plain)
	@mkdir -p $(@D)
	$(EMU_COMPILE_plain) $(call EMU_INCLUDE,plain) $(EMU_REWRITTEN) $(EMU_UNWATCHED) $(EMU_LINK) -o $@

$(EMU_BUILD)/asan/%_emu: $(EMU_REWRITTEN_STAMPS) $(EMU_UNWATCHED) $(call EMU_GCH,asan)
	@mkdir -p $(@D)
	$(EMU_COMPILE_asan) $(call EMU_INCLUDE,asan) $(EMU_REWRITTEN) $(EMU_UNWATCHED) $(EMU_LINK) -o $@

# clang's instrumentation, with our functions. g++'s omits the store in *p = f(). Calls of memcpy are renamed, so that
# copies are watched as well; not in the runtime, which may copy freely.
# DWARF 4: addr2line misreads the file names in clang's DWARF 5. It requests all of it, hence -g1 once more.
EMU_WATCH = -gdwarf-4 -g1 -fsanitize=thread -mllvm -tsan-instrument-func-entry-exit=0 \
            -mllvm -tsan-instrument-memintrinsics=1 -mllvm -tsan-instrument-read-before-write=1
EMU_RENAME = $(foreach function,memcpy memmove memset,--redefine-sym $(function)=emu_$(function))
EMU_COMPILE_race = $(EMU_CLANG) $(EMU_FLAGS) -O1 $(EMU_WATCH)
EMU_NEEDS_CLANG = @command -v $(EMU_CLANG) >/dev/null || \
    { echo 'the builds race and bytes need clang++: set EMU_CLANG' >&2; exit 1; }

$(EMU_BUILD)/race/%_emu.o: $(EMU_REWRITTEN_STAMPS) $(EMU_PCH)
	$(EMU_NEEDS_CLANG)
	@mkdir -p $(@D)
	$(EMU_COMPILE_race) $(EMU_INCLUDE_RACE) -c $(EMU_REWRITTEN) -o $@
	objcopy $(EMU_RENAME) $@

$(EMU_BUILD)/race/%_emu: $(EMU_BUILD)/race/%_emu.o $(EMU_WATCHED)
	$(EMU_CXX) -no-pie $< $(EMU_WATCHED) $(EMU_LINK) -o $@

$(EMU_BUILD)/bytes/%_emu: $(EMU_BUILD)/race/%_emu.o $(EMU_COUNTED)
	@mkdir -p $(@D)
	$(EMU_CXX) -no-pie $< $(EMU_COUNTED) $(EMU_LINK) -o $@

$(EMU_BUILD)/%/header/cuda_emu.h.gch: $(EMU_HEADER) $(EMU_INTERFACE)
	@mkdir -p $(@D)
	$(EMU_COMPILE_$*) -w -MD -MF $@.d -x c++-header $< -o $@

$(EMU_BUILD)/race/header/cuda_emu.h.pch: $(EMU_HEADER) $(EMU_INTERFACE)
	$(EMU_NEEDS_CLANG)
	@mkdir -p $(@D)
	$(EMU_COMPILE_race) -w -MD -MF $@.d -x c++-header $< -o $@

$(EMU_OBJECTS)/%.o: $(EMU_DIR)/runtime/%.cpp
	@$(if $(EMU_HEADERS),,echo '$(EMU_NO_TOOLKIT)' >&2; exit 1;) mkdir -p $(@D)
	$(EMU_CXX) $(EMU_FLAGS) -O3 -MMD -MP -c $< -o $@

$(EMU_OBJECTS)/%.o: $(EMU_NCCL_DIR)/%.cpp
	@mkdir -p $(@D)
	$(EMU_CXX) $(EMU_FLAGS) -O3 -MMD -MP -c $< -o $@

EMU_GOALS := $(filter-out $(EMU_BUILD)/%,$(filter %_emu,$(MAKECMDGOALS)))
.PHONY: $(EMU_GOALS)
$(EMU_GOALS): %: $(EMU_BUILD)/$(EMU)/%
	@echo '$< is up to date'

-include $(wildcard $(EMU_OBJECTS)/*.d $(EMU_BUILD)/*/header/*.d) \
         $(shell find $(EMU_BUILD)/rewritten -name '*.d' 2>/dev/null)
