#!/usr/bin/env bash
# scripts/setup.sh with stand-ins for apt-get, dpkg-query and timeout: how it calls them, and its messages about
# packages that are unavailable. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
setup=$PWD/scripts/setup.sh bin=$work/bin
export WORK=$work PATH=$bin:$PATH
mkdir "$bin"

stand_in() { cat >"$bin/$1" && chmod +x "$bin/$1"; } # stand_in NAME: its text from standard input
stand_in id <<'END'
#!/bin/sh
echo 0
END
stand_in dpkg-query <<'END'
#!/bin/sh
for package in "$@"; do :; done
[ -e "$WORK/installed/$package" ] && echo installed
END
stand_in timeout <<'END'
#!/bin/sh
shift
LIMITED=yes "$@"
END
stand_in apt-get <<'END'
#!/bin/bash
echo "${LIMITED:+limited }$*" >>"$WORK/calls"
[ ! -e "$WORK/offline" ] || exit 100
case " $* " in
*" update "* | *" --download-only "*) [[ " $* " != *" absent "* ]]; exit ;;
*" absent "*) exit 100 ;;
esac
take=no
for word in "$@"; do
    case $word in
    install) take=yes ;;
    -*) ;;
    *) [ $take = no ] || touch "$WORK/installed/$word" ;;
    esac
done
END

# after WORDS...: what install_missing of these packages prints, on a machine with nothing but make
after() {
    rm -rf "$work/installed" "$work/calls"
    mkdir "$work/installed"
    touch "$work/installed/make" "$work/calls"
    bash -uc '. "$1"; install_missing "${@:2}"' bash "$setup" "$@"
}
tells() { [ "$(after "${@:2}")" = "$1" ] || { after "${@:2}"; return 1; }; }
installed() { for package in "$@"; do [ -e "$work/installed/$package" ] || return 1; done; }
called() { grep -qE -- "$@" "$work/calls"; }

check "what is missing is installed" tells "Installing gcc zlib1g-dev" make gcc zlib1g-dev
check "all of it" installed make gcc zlib1g-dev
check "in one go" test "$(grep ' install ' "$work/calls" | grep -vc -- --download-only)" = 1
check "what is fetched has a time limit" called '^limited .* install .*--download-only'
unpacks_without_limit() { ! grep ' install ' "$work/calls" | grep -v -- --download-only | grep '^limited '; }
check "what unpacks has none: half of it would keep every later package out" unpacks_without_limit
check "where nothing is missing, nothing is said" tells "" make
check "or asked for" test ! -s "$work/calls"
check "what this release lacks is named" tells "Installing gcc absent zlib1g-dev
Could not install absent: going on without it." gcc absent zlib1g-dev
check "and keeps no other out" installed gcc zlib1g-dev
touch "$work/offline"
check "without a network it goes on" tells "Installing gcc
Could not install gcc: going on without it." gcc
rm "$bin/apt-get" "$bin/dpkg-query"
bare_path() { PATH=$bin tells "This is not Debian or Ubuntu: using what is installed." gcc; }
for name in bash rm mkdir touch grep; do ln -s "$(PATH=${PATH#*:} command -v $name)" "$bin/$name"; done
check "on another system too" bare_path

verdict
