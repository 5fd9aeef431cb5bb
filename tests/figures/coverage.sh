#!/usr/bin/env bash
# tests/figures/coverage.sh LCOV: runs every test of the workspace, child processes and all, on instrumented builds, and
# writes which lines and branches were reached. Needs LLVM's tools, as new as the compiler's LLVM: the toolchain's own
# (rustup component add llvm-tools) or the system's (Debian: llvm-22). Exits with 3 where there are none.
set -euo pipefail
out=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
host=$(rustc -vV | sed -n 's/^host: //p')
for tools in "$(rustc --print sysroot)/lib/rustlib/$host/bin" "/usr/lib/llvm-$version/bin" ''; do
  [[ -n $tools ]] || { echo "no llvm-profdata and llvm-cov for LLVM $version here" >&2; exit 3; }
  [[ ! -x $tools/llvm-cov || ! -x $tools/llvm-profdata ]] || break
done

target=${CARGO_TARGET_DIR:-target}/coverage
mkdir -p "$target"
target=$(realpath "$target")
profiles=$target/profiles
rm -rf "$profiles"
mkdir "$profiles"

# Only the workspace's crates are instrumented, and only for them does the compiler take the flag that counts branches,
# which is not a stable one yet.
wrapper=$target/rustc
printf '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec "$@" -Cinstrument-coverage -Zcoverage-options=branch %s\n' \
  -Cllvm-args=-runtime-counter-relocation >"$wrapper.new"
chmod +x "$wrapper.new"
mv "$wrapper.new" "$wrapper"
export RUSTC_WORKSPACE_WRAPPER=$wrapper CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0
export CARGO_PROFILE_DEV_DEBUG=0

built=$target/built.json
cargo test --workspace --tests --no-run --message-format=json >"$built"
# Processes of one program count in one of four files, which they have mapped from their start: there are thousands of
# them, and those that may open nothing at their end, or are killed, count too.
export LLVM_PROFILE_FILE=$profiles/%c%4m.profraw
cargo test --workspace --tests --no-fail-fast || echo 'coverage: some tests failed; the figures are of what ran' >&2

mapfile -t programs < <(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$built" | sort -u)
"$tools/llvm-profdata" merge --sparse --failure-mode=all -o "$target/all.profdata" "$profiles"/*.profraw
"$tools/llvm-cov" export --format=lcov --instr-profile="$target/all.profdata" \
  "${programs[@]/#/--object=}" >"$out"
