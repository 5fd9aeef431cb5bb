# what Linux's igbvf finds on QEMU's 82576 and on the simulated one, side by side
# by name only: a comparison to read, whose differences docs/fidelity.md explains
. "$vm_dir/lib/card.sh"
tools=$vm_cache/linux
if ! fetch_tree "$tools" trixie ethtool iperf3; then
  skipped "vm $bed" "$fetch_problem"
  return
fi
image=$vm_run/image
binary=$(guest_binary)
linux_image "$image" "$tools" igb igbvf
vm_append=card_model=qemu boot qemu 400 "$vm_kernel" "$image.initrd" linux/facts \
  -machine q35 -m 512M -smp 2 -global q35-pcihost.pci-hole64-size=0 -netdev hubport,hubid=0,id=wire \
  -device pcie-root-port,id=port1,slot=1,chassis=1 -device igb,netdev=wire,bus=port1
card_start simulated 82576 2
card_vf 0
card_vf 1
boot simulated 400 "$vm_kernel" "$image.initrd" linux/facts "${card_machine[@]}" "${card_devices[@]}"
card_stop
for side in qemu simulated; do grep '^# fact' "$vm_run/$side/results" | tr -d '\r' | sort >"$vm_run/$side.facts"; done
diff -U 0 "$vm_run/qemu.facts" "$vm_run/simulated.facts" | grep '^[-+]#' || true
