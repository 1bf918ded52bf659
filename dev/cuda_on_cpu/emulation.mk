# Compiling CUDA for the CPU: rules to include in a makefile.
#
#   make path/test_x_emu EMU=plain|asan|race     builds path/test_x.cu as $(EMU_BUILD)/plain/path/test_x_emu
#
#   EMU=plain        threads in the order that EMU_ORDER says; memory that was not written holds NaNs
#   EMU=asan         the same with AddressSanitizer and UBSan: the line of an overflow or a misaligned vector access
#   EMU=race         loads and stores watched for races, missing barriers, reads of uninitialised memory: needs clang++
#
#   EMU_CXXFLAGS=    added to the flags of what is compiled (-DNAME, -Wno-...)
#   EMU_LDLIBS=      added to the link
#   EMU_CXX=g++      EMU_CLANG=clang++      EMU_BUILD=build/emu      EMU_OBJECTS=$(EMU_BUILD)/runtime, of the runtime itself
#   CUDA_HOME=       the toolkit, for its headers; found beside nvcc if not given. No library of it is used.
#
# The source is plain CUDA; it and the project's headers that it includes by "" are rewritten by cuda_to_cpp.sh.

EMU_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
EMU_BUILD ?= build/emu
EMU_OBJECTS ?= $(EMU_BUILD)/runtime
EMU ?= plain
EMU_CXX ?= g++
EMU_CLANG ?= clang++

EMU_HOMES := $(CUDA_HOME) $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v nvcc)))
EMU_HEADERS := $(firstword $(dir $(wildcard $(foreach home,$(EMU_HOMES),$(home)/include/cuda_runtime.h \
                                                $(home)/targets/*/include/cuda_runtime.h))))
EMU_NO_TOOLKIT = no CUDA toolkit: its headers are needed, found beside nvcc or in CUDA_HOME/include

# -fno-strict-aliasing: float4 views of float arrays are CUDA's everyday idiom. -g1 and -O1: compiling takes longer than most
# programs run; reports name lines, not variables.
EMU_WARNINGS = -Wall -Wextra -Wno-unknown-pragmas -Wno-unused-function -Wno-sign-compare
EMU_FLAGS = -std=c++17 -g1 -fno-strict-aliasing -isystem $(EMU_DIR)/include \
            $(if $(filter /usr/include/,$(EMU_HEADERS)),,-isystem $(EMU_HEADERS)) $(EMU_WARNINGS) $(EMU_CXXFLAGS)
# What AddressSanitizer shows at the access, UBSan need not look for: a fourth of the compiler's time
EMU_SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined \
               -fno-sanitize=vptr,null,object-size,pointer-overflow

EMU_RUNTIME := $(patsubst $(EMU_DIR)/runtime/%.cpp,$(EMU_OBJECTS)/%.o, \
                $(filter-out %/race.cpp %/race_calls.cpp %/race_none.cpp,$(wildcard $(EMU_DIR)/runtime/*.cpp)))
EMU_UNWATCHED := $(EMU_RUNTIME) $(EMU_OBJECTS)/race_none.o
EMU_WATCHED := $(EMU_RUNTIME) $(EMU_OBJECTS)/race.o $(EMU_OBJECTS)/race_calls.o
EMU_INTERFACE := $(EMU_DIR)/cuda_to_cpp.sh $(wildcard $(EMU_DIR)/include/*.h $(EMU_DIR)/include/*/*.h)

# $(call EMU_REWRITE,build): leaves the rewritten source in $(EMU_BUILD)/build/source and the dependencies beside $@.
# The shell finds absolute paths, in quotes: make's own functions take a folder with a space in its name for two.
EMU_MIRROR = $(EMU_BUILD)/$(1)/source
EMU_REWRITE = @$(if $(EMU_HEADERS),,echo '$(EMU_NO_TOOLKIT)' >&2; exit 1;) mkdir -p $(@D) && \
    files=$$($(EMU_DIR)/cuda_to_cpp.sh $< $(EMU_MIRROR) $(EMU_CXX) $(EMU_FLAGS)) && \
    { echo "$@: $$files"; for file in $$files; do echo "$$file:"; done; } >$@.d
EMU_REWRITTEN = "$(EMU_MIRROR)$$(realpath $(<D))"/$(basename $(<F)).cpp

.DELETE_ON_ERROR:
.SECONDARY: $(EMU_UNWATCHED) $(EMU_WATCHED)

$(EMU_BUILD)/plain/%_emu: %.cu $(EMU_UNWATCHED) $(EMU_INTERFACE)
	$(call EMU_REWRITE,plain)
	$(EMU_CXX) $(EMU_FLAGS) -O1 -include cuda_emu.h $(call EMU_REWRITTEN,plain) $(EMU_UNWATCHED) $(EMU_LDLIBS) -o $@

$(EMU_BUILD)/asan/%_emu: %.cu $(EMU_UNWATCHED) $(EMU_INTERFACE)
	$(call EMU_REWRITE,asan)
	$(EMU_CXX) $(EMU_FLAGS) -O1 $(EMU_SANITIZE) -include cuda_emu.h $(call EMU_REWRITTEN,asan) $(EMU_UNWATCHED) \
	    $(EMU_LDLIBS) -o $@

# clang's instrumentation, our functions behind it. g++'s leaves out the store in *p = f(). Calls of memcpy are renamed,
# so that copies are watched as well; not in the runtime, which may copy what it likes.
# DWARF 4: addr2line misreads the file names in clang's DWARF 5. It asks for all of it, hence -g1 once more.
EMU_WATCH = -gdwarf-4 -g1 -fsanitize=thread -mllvm -tsan-instrument-func-entry-exit=0 \
            -mllvm -tsan-instrument-memintrinsics=1 -mllvm -tsan-instrument-read-before-write=1
EMU_RENAME = $(foreach function,memcpy memmove memset,--redefine-sym $(function)=emu_$(function))
$(EMU_BUILD)/race/%_emu: %.cu $(EMU_WATCHED) $(EMU_INTERFACE)
	@command -v $(EMU_CLANG) >/dev/null || { echo 'the race build needs clang++: set EMU_CLANG' >&2; exit 1; }
	$(call EMU_REWRITE,race)
	$(EMU_CLANG) $(EMU_FLAGS) -O1 $(EMU_WATCH) -include cuda_emu.h -c $(call EMU_REWRITTEN,race) -o $@.o
	objcopy $(EMU_RENAME) $@.o
	$(EMU_CXX) -no-pie $@.o $(EMU_WATCHED) $(EMU_LDLIBS) -o $@

$(EMU_OBJECTS)/%.o: $(EMU_DIR)/runtime/%.cpp
	@$(if $(EMU_HEADERS),,echo '$(EMU_NO_TOOLKIT)' >&2; exit 1;) mkdir -p $(@D)
	$(EMU_CXX) $(EMU_FLAGS) -O3 -MMD -MP -c $< -o $@

EMU_GOALS := $(filter-out $(EMU_BUILD)/%,$(filter %_emu,$(MAKECMDGOALS)))
.PHONY: $(EMU_GOALS)
$(EMU_GOALS): %: $(EMU_BUILD)/$(EMU)/%
	@echo '$< is up to date'

-include $(wildcard $(EMU_OBJECTS)/*.d) $(shell find $(EMU_BUILD) -name '*_emu.d' 2>/dev/null)
