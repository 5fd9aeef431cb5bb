# our driver on all five simulated models, served over vfio-user, through the guest kernel's vfio-pci and VT-d
. "$vm_dir/lib/card.sh"
. "$vm_dir/lib/passthrough.sh"

image=$vm_run/image
binary=$(guest_binary)
image_new "$image"
image_modules "$image" "$vm_kernel" igbvf ixgbevf vfio-pci vfio-iommu-type1
cp "$binary" "$image/usr/bin/vfnic"
image_setpriv "$image"
image_pack "$image" "$image.initrd"

# Whatever the driver had not heard of when it next touched the port that its PF was resetting (docs/fidelity.md).
card_provoked='written before the queue read as enabled|ring length 0 is|in a ring of 0 descriptors'

ours_guest() {
  card_start "$1" "$1" 2 || return 0
  card_vf 0
  card_vf 1
  card_in_order
  vm_append="intel_iommu=on card_model=$1" \
    boot "$1" 480 "$vm_kernel" "$image.initrd" "${CARD_SCENARIOS:-ours/open ours/ping ours/traffic ours/pf ours/removal}" \
    "${card_machine[@]}" "${card_iommu[@]}" "${card_line[@]}" "${card_devices[@]}"
  card_stop
}
on_every_model ours_guest
