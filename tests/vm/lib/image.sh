# A guest's root file system: an initramfs of a few megabytes, made without root.
#
# image_new lays out busybox, tests/vm/guest (init, its library, the scenarios) and the programs that every bed needs;
# image_modules and image_program add kernel modules and programs with what they depend on; image_pack makes the archive.
# What runs here comes out of the guest's own tree (busybox for xz, depmod and cpio; its dynamic loader to list
# libraries), so that the host needs none of it.

# image_new ROOT: a guest with busybox, ip from iproute2 (busybox's knows no `vf`) and the scenarios.
image_new() {
  local root=$1 applet
  rm -rf "$root"
  mkdir -p "$root"/usr/{bin,lib64,lib/modules} "$root"/{dev,etc,proc,sys,tmp,root}
  ln -s usr/bin "$root/bin"
  ln -s usr/bin "$root/sbin"
  ln -s bin "$root/usr/sbin"
  ln -s usr/lib "$root/lib"
  ln -s usr/lib64 "$root/lib64"
  cp "$vm_guest/usr/bin/busybox" "$root/usr/bin/"
  for applet in $("$vm_guest/usr/bin/busybox" --list); do
    [[ $applet == busybox ]] || ln -s busybox "$root/usr/bin/$applet"
  done
  image_program "$root" "$vm_guest" usr/bin/ip
  cp -r "$vm_dir/guest" "$root/vm"
  ln -s vm/init "$root/init"
}

# image_program ROOT TREE PROGRAM: a program of a tree, with the libraries it links.
image_program() {
  local root=$1 tree=$2 program=$3 lib
  mkdir -p "$root/$(dirname "$program")"
  # A busybox applet of the same name gives way; copying over its link would overwrite busybox itself.
  rm -f "$root/$program"
  cp -L "$tree/$program" "$root/$program"
  cp -L "$tree/usr/lib64/ld-linux-x86-64.so.2" "$root/usr/lib64/"
  "$tree/usr/lib64/ld-linux-x86-64.so.2" --library-path "$tree/usr/lib/x86_64-linux-gnu" --list "$tree/$program" |
    sed -nE 's/.* => (.*\/(lib[^ /]*)) .*/\1/p' |
    while read -r lib; do cp -L "$lib" "$root/usr/lib/"; done
}

# image_modules ROOT KERNEL MODULE…: kernel modules and those they depend on, uncompressed, ready for modprobe.
image_modules() {
  local root=$1 kernel=$2 version
  shift 2
  version=$(basename "$kernel"/usr/lib/modules/*)
  local to=$root/usr/lib/modules/$version
  mkdir -p "$to"
  # In newer suites another package has it, whose modules nobody asks for here.
  [[ ! -e $kernel/usr/lib/modules/$version/modules.builtin ]] || cp "$kernel/usr/lib/modules/$version/modules.builtin" "$to/"
  image_module "$@"
  "$vm_guest/usr/bin/busybox" depmod -b "$root/usr" "$version"
}

# One module after another, for image_modules: only its caller's variables say from where and to where. (depmod over the
# whole kernel would tell the dependencies too, in 17 seconds; the modules say it themselves.)
image_module() {
  local name file
  for name in "$@"; do
    file=$(find "$kernel/usr/lib/modules/$version/kernel" -regex ".*/${name//[-_]/[-_]}\.ko\.xz")
    [[ -n $file ]] || { echo "kernel $version has no module $name" >&2; return 1; }
    name=$(basename "$file" .xz)
    [[ ! -e $to/$name ]] || continue
    "$vm_guest/usr/bin/busybox" xzcat "$file" >"$to/$name"
    # shellcheck disable=SC2046 # a list of names
    image_module $(grep -aoE 'depends=[a-zA-Z0-9_,-]*' "$to/$name" | sed 's/depends=//; s/,/ /g')
  done
}

# image_setpriv ROOT: what takes capabilities from a process for good, for tests/vm/guest/as-user.
image_setpriv() {
  if fetch_tree "$vm_cache/setpriv" trixie util-linux; then
    image_program "$1" "$vm_cache/setpriv" usr/bin/setpriv
  else
    skipped "vm $bed without an empty bounding set" "$fetch_problem"
  fi
}

# image_pack ROOT ARCHIVE: everything owned by root, whoever runs this.
image_pack() {
  (cd "$1" && find . | "$vm_guest/usr/bin/busybox" cpio -o -H newc -R 0:0 | gzip -1) >"$2"
}
