#!/usr/bin/env bash
# Builds the native modules with gcc's sanitizers into a tree of their own and runs the native tests under them.
#
#   tests/native/sanitize.sh [address|thread]...     both by default; a few minutes each
#
# address: with undefined behaviour; every report is an error. thread: data races; threads of other libraries excepted.
# TESTS chooses the tests, EXT the modules to build (as in setup.py), when not all are wanted.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-$PWD/.venv/bin/python}
TESTS=${TESTS:-"tests/worker/native tests/worker/transport tests/worker/store"}

build() { # build <directory> <sanitizers>
    local tree=$1 sanitizers=$2
    mkdir -p "$tree"
    cp -a setup.py pyproject.toml README.md shuffle_worker tests docs "$tree"/
    rm -rf "$tree"/shuffle_worker/_native/*.so
    (cd "$tree" && SANITIZE=$sanitizers "$PYTHON" setup.py -q build_ext --inplace -j 2 >build.log 2>&1) || {
        tail -50 "$tree/build.log" >&2
        return 1
    }
}

run() { # run <directory> <runtime library>; the environment holds its options
    local tree=$1 runtime=$2
    # Python's own allocator hides every use after free; glibc's is watched.
    (cd "$tree" && LD_PRELOAD="$(gcc -print-file-name="$runtime") $(gcc -print-file-name=libstdc++.so.6)" \
        PYTHONMALLOC=malloc PYTHONPATH="$tree" "$PYTHON" -m pytest -q -p no:cacheprovider --timeout 600 $TESTS)
}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

for sanitizer in "${@:-address thread}"; do
    for one in $sanitizer; do
        echo "== $one: build"
        case $one in
        address)
            build "$tree/address" address,undefined
            echo "== $one: test"
            # Python never frees its interned objects at exit, so leaks are looked for by the tests' own counters.
            ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
                run "$tree/address" libasan.so
            ;;
        thread)
            build "$tree/thread" thread
            echo "== $one: test"
            TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tests/native/tsan.supp" \
                run "$tree/thread" libtsan.so
            ;;
        *)
            echo "unknown sanitizer $one: address or thread" >&2
            exit 2
            ;;
        esac
    done
done
