#!/usr/bin/env bash
# The sources of the commit that is checked out, as an archive that records the commit:  dist.sh FOLDER
# Prints its name. It has committed files only.
set -eu
to=$(realpath "$1")
cd "$(dirname "$0")/.."
version=$(sed -n 's/^#define KAT_VERSION "\(.*\)"/\1/p' runtime/version.h)
name=kat.c-$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git describe --always --abbrev=10 --exclude='*' >"$work/COMMIT"
git archive --prefix="$name/" --add-file="$work/COMMIT" -o "$to/$name.tar.gz" HEAD
echo "$to/$name.tar.gz"
