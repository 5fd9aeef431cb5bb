# our igbvf on VFs of QEMU's emulated 82576, through the guest kernel's vfio-pci and VT-d
#
# Four machines: one with QEMU's user-mode network behind the card, one whose wire leads nowhere (VF to VF only), one
# without an IOMMU, and one whose slot has no ACS.

image=$vm_run/image
image_new "$image"
image_modules "$image" "$vm_kernel" igb igbvf vfio-pci vfio-iommu-type1
binary=$(guest_binary)
cp "$binary" "$image/usr/bin/vfnic"
image_setpriv "$image"
example=$(guest_example handed_fds)
cp "$example" "$image/usr/bin/handed_fds"
example=$(guest_example kubernetes_pod)
cp "$example" "$image/usr/bin/kubernetes_pod"
image_pack "$image" "$image.initrd"

# Without pci-hole64-size=0 the VFs' BARs land above 4 GiB, where QEMU answers every register with 0.
machine=(-machine q35,kernel-irqchip=split -m 512M -smp 2 -global q35-pcihost.pci-hole64-size=0)
iommu=(-device intel-iommu,intremap=on,caching-mode=on)
slirp=(-netdev user,id=wire -device igb,netdev=wire)
# A device of another vendor, to be refused.
other=(-device virtio-rng-pci-non-transitional)

boot slirp 480 "$vm_kernel" "$image.initrd" 'igb/refusals igb/open igb/ping igb/unprivileged igb/pod igb/pf' \
  "${machine[@]}" "${iommu[@]}" "${slirp[@]}" "${other[@]}"
boot traffic 600 "$vm_kernel" "$image.initrd" 'igb/traffic' \
  "${machine[@]}" "${iommu[@]}" -netdev hubport,hubid=0,id=wire -device igb,netdev=wire
boot no-iommu 180 "$vm_kernel" "$image.initrd" 'igb/no-iommu' \
  "${machine[@]}" "${slirp[@]}"
# The switch's downstream port is the one of QEMU's that has no ACS.
boot shared-group 180 "$vm_kernel" "$image.initrd" 'igb/shared-group' \
  "${machine[@]}" "${iommu[@]}" -netdev user,id=wire \
  -device pcie-root-port,id=root,chassis=1 -device x3130-upstream,id=up,bus=root \
  -device xio3130-downstream,id=down,bus=up,chassis=2 -device igb,netdev=wire,bus=down
