# DPDK's testpmd on all five simulated models, served over vfio-user: net_ixgbe_vf and net_e1000_igb_vf
. "$vm_dir/lib/card.sh"
. "$vm_dir/lib/passthrough.sh"
. "$vm_dir/lib/dpdk.sh"

# testpmd writes to a port that its PF has just reset under it (docs/fidelity.md).
card_provoked='written before the queue read as enabled|ring length 0 is|in a ring of 0 descriptors'

dpdk_tree || return 0
tools=$vm_cache/linux
if ! fetch_tree "$tools" trixie ethtool iperf3; then
  skipped "vm $bed" "$fetch_problem"
  return 0
fi
image=$vm_run/image
binary=$(guest_binary)
image_new "$image"
image_modules "$image" "$vm_kernel" vfio-pci vfio-iommu-type1 igbvf ixgbevf tun
image_program "$image" "$tools" usr/bin/iperf3
dpdk_programs "$image"
image_pack "$image" "$image.initrd"

dpdk_guest() {
  # dpdk/segments runs by name (CARD_SCENARIOS): it has only been seen on two models so far.
  local scenarios='dpdk/forward dpdk/commands dpdk/reset'
  # The I350 has one queue; the other two have no RSS of their own.
  [[ $1 != x550 && $1 != 82576 ]] || scenarios+=' dpdk/queues'
  card_start "$1" "$1" 2 || return 0
  card_vf 0
  card_vf 1
  card_in_order
  vm_append="intel_iommu=on card_model=$1" \
    boot "$1" 600 "$vm_kernel" "$image.initrd" "${CARD_SCENARIOS:-$scenarios}" \
    "${card_machine[@]}" "${card_iommu[@]}" "${card_line[@]}" "${card_devices[@]}"
  card_stop
}
on_every_model dpdk_guest
