# guest instructions per forwarded packet: ours, DPDK's testpmd and AF_PACKET on the same simulated 82599
# by name only: a comparison with others, which takes minutes
#
# QEMU counts instructions (-icount): guest time is their number, one a nanosecond, whatever the machine does meanwhile.
# What it does not see is what a cache miss or a register access costs.
. "$vm_dir/lib/card.sh"
. "$vm_dir/lib/passthrough.sh"
. "$vm_dir/lib/dpdk.sh"

dpdk_tree || return 0
if ! command -v cc >/dev/null; then
  skipped "vm $bed" "needs a C compiler for the AF_PACKET forwarder"
  return 0
fi
image=$vm_run/image
binary=$(guest_binary)
image_new "$image"
image_modules "$image" "$vm_kernel" ixgbevf vfio-pci vfio-iommu-type1
cp "$binary" "$image/usr/bin/vfnic"
cc -O2 -static -o "$image/usr/bin/packet" "$vm_dir/guest/cost/packet.c"
dpdk_programs "$image"
image_pack "$image" "$image.initrd"

# The third VF is where frames are made.
card_start 82599 82599 3 || return 0
card_vf 0
card_vf 1
card_vf 2
card_in_order
vm_append="intel_iommu=on card_model=82599" \
  boot instructions 900 "$vm_kernel" "$image.initrd" "${CARD_SCENARIOS:-cost/ours cost/testpmd cost/packet cost/table}" \
  "${card_machine[@]}" -smp 1 -icount shift=0,sleep=off "${card_iommu[@]}" "${card_line[@]}" "${card_devices[@]}"
card_stop
