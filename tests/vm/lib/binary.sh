# The `vfnic` that runs in guests: statically linked, because a guest has no libraries of the host's. `--target` is
# needed even for the host's own triple, or the flag would reach build scripts and procedural macros too; the target
# folder is one of its own, or every switch of flags would rebuild the developer's.

# guest_binary: prints the path of the binary, building it if need be.
guest_binary() {
  local triple=x86_64-unknown-linux-gnu
  if [[ -n ${VFNIC_VM_BINARY:-} ]]; then
    echo "$VFNIC_VM_BINARY"
    return
  fi
  RUSTFLAGS='-C target-feature=+crt-static' nice -n 5 cargo build --release --target "$triple" \
    --target-dir "$vm_cache/cargo" --package vfnic-tools --bin vfnic >&2
  echo "$vm_cache/cargo/$triple/release/vfnic"
}
