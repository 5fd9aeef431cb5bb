# The `vfnic` that runs in guests: statically linked, because a guest has no libraries of the host's. `--target` is
# needed even for the host's own triple, or the flag would reach build scripts and procedural macros too; the target
# folder is one of its own, or every switch of flags would rebuild the developer's.

# guest_build CARGO-SELECTION…: builds something for guests, into guest_built.
guest_triple=x86_64-unknown-linux-gnu guest_built=$vm_cache/cargo/$guest_triple/release
guest_build() {
  RUSTFLAGS='-C target-feature=+crt-static' nice -n 5 cargo build --release --target "$guest_triple" \
    --target-dir "$vm_cache/cargo" "$@" >&2
}

# guest_binary: prints the path of the binary, building it if need be.
guest_binary() {
  if [[ -n ${VFNIC_VM_BINARY:-} ]]; then
    echo "$VFNIC_VM_BINARY"
    return
  fi
  guest_build --package vfnic-tools --bin vfnic
  echo "$guest_built/vfnic"
}

# guest_example NAME: prints the path of one of the library's examples.
guest_example() {
  guest_build --package vfnic --example "$1"
  echo "$guest_built/examples/$1"
}
