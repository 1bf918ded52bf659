#!/usr/bin/env bash
# install_missing PACKAGE...: installs the Debian or Ubuntu packages that are missing. Never asks anything, never fails:
# if it cannot install (another system, no root, no network) it says so, and the build does without.
# To be sourced; run as a program, it installs everything that kat.c can use.

build_packages=(gcc make pkg-config libopenblas-openmp-dev libcjson-dev zlib1g-dev libssl-dev
    libjpeg-dev libpng-dev libarchive-dev)
if grep -qwsE 'avx512_bf16|amx_bf16' /proc/cpuinfo; then build_packages+=(libdnnl-dev); fi # useless on other processors
rank_packages=(libopenmpi-dev openmpi-bin) # for several processes that train one model
export_packages=(libprotobuf-c-dev protobuf-c-compiler) # for ONNX files
data_packages=(dataset-fashion-mnist gnuplot-nox)

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Fetching has a time limit, unpacking has none: apt-get ended midway leaves a system that installs nothing more.
apt_install() {
    "${as_root[@]}" timeout 600 "${apt[@]}" install --download-only "$@" &&
        "${as_root[@]}" "${apt[@]}" install --no-download "$@"
} >/dev/null 2>&1

install_missing() {
    local missing=() as_root=() package
    local apt=(apt-get -q -y --no-install-recommends
        -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=60)
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "This is not Debian or Ubuntu: using what is installed."
        return
    fi
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then return; fi
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
        if ! sudo -n true 2>/dev/null; then
            echo "Not root, and sudo wants a password: going on without ${missing[*]}."
            echo "To install them: sudo apt-get install ${missing[*]}"
            return
        fi
    fi
    echo "Installing ${missing[*]}"
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    "${as_root[@]}" timeout 180 "${apt[@]}" update >/dev/null 2>&1
    if ! apt_install "${missing[@]}"; then
        # a package that this release lacks must not prevent the others
        for package in "${missing[@]}"; do apt_install "$package"; done
    fi
    for package in "${missing[@]}"; do
        is_installed "$package" || echo "Could not install $package: going on without it."
    done
}

# find_cuobjdump: sets CUOBJDUMP, with which dev/test_cuda/resources.sh counts instructions, to the toolkit's or, if pip
# can get it, to PyPI's in build/cuobjdump; only if there is nvcc. Without it that check is skipped.
find_cuobjdump() {
    command -v nvcc >/dev/null && ! command -v cuobjdump >/dev/null && command -v python3 >/dev/null || return 0
    local folder=build/cuobjdump packages=(nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm)
    if [ -z "$(find $folder -name nvdisasm 2>/dev/null)" ]; then
        timeout 180 python3 -m pip install -q --no-deps --target $folder "${packages[@]}" >/dev/null 2>&1 || return 0
    fi
    CUOBJDUMP=$(realpath "$(find $folder -name cuobjdump -type f | head -n 1)")
    export CUOBJDUMP
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then install_missing "${build_packages[@]}" "${rank_packages[@]}" "${export_packages[@]}" "${data_packages[@]}"; fi
