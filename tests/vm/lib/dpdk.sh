# DPDK's testpmd from the distribution, for guests.

# dpdk_tree: fetches it to $vm_dpdk; where that cannot be done, skips the bed and returns 1.
dpdk_tree() {
  vm_dpdk=$vm_cache/dpdk
  # Package names end in the library's version, which moves on with the suite.
  fetch_tree "$vm_dpdk" 'forky sid' dpdk-dev '?name(librte-net-ixgbe)' '?name(librte-net-e1000)' '?name(librte-mempool-ring)' &&
    return
  skipped "vm $bed" "$fetch_problem"
  return 1
}

# dpdk_programs ROOT: testpmd, and the drivers that it does not link, under their plain names in /usr/lib/dpdk.
dpdk_programs() {
  local root=$1 library file
  image_program "$root" "$vm_dpdk" usr/bin/dpdk-testpmd
  mkdir "$root/usr/lib/dpdk"
  for library in librte_net_ixgbe librte_net_e1000 librte_net_tap librte_mempool_ring; do
    for file in "$vm_dpdk/usr/lib/x86_64-linux-gnu/$library.so".[0-9]*; do
      # One file under one name: a driver loaded twice registers twice. Where testpmd links it, that name is the linked one.
      [[ $file =~ \.so\.[0-9]+$ ]] || continue
      image_program "$root" "$vm_dpdk" "${file#"$vm_dpdk/"}"
      mv "$root/${file#"$vm_dpdk/"}" "$root/usr/lib/${file##*/}"
      ln -s "../${file##*/}" "$root/usr/lib/dpdk/${file##*/}"
    done
  done
  # It ends its threads with pthread_cancel, for which the C library loads this.
  cp -L "$vm_dpdk/usr/lib/x86_64-linux-gnu/libgcc_s.so.1" "$root/usr/lib/"
}
