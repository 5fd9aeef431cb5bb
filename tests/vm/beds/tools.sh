# the tools on VFs of QEMU's emulated 82576, as a user of the host has them: list, doctor, bind, set, gen, fwd, capture, bench
#
# One machine, with four VFs behind a wire that leads nowhere. Frames made here are sent there, captured there, and what
# was captured is brought back over a third serial port, to be read by tshark.

image=$vm_run/image
image_new "$image"
image_modules "$image" "$vm_kernel" igb igbvf vfio-pci vfio-iommu-type1
binary=$(guest_binary)
cp "$binary" "$image/usr/bin/vfnic"

# tshark and text2pcap, for what is not ours on either end of a capture.
tshark=$vm_cache/tshark
shark() {
  local program=$1
  shift
  WIRESHARK_DATA_DIR=$tshark/usr/share/wireshark "$tshark/usr/lib64/ld-linux-x86-64.so.2" \
    --library-path "$tshark/usr/lib/x86_64-linux-gnu" "$tshark/usr/bin/$program" "$@"
}

# Frames from the first VF to the second (addresses: guest/tools/card.sh) as a hex dump: every length that matters, VLAN tags,
# ARP, and a payload that differs in each.
frames() {
  awk 'function byte(value) { line = line sprintf(" %02x", value); if (++at % 16 == 0) flush() }
    function flush() { if (line != "") printf "%06x%s\n", int((at - 1) / 16) * 16, line; line = "" }
    BEGIN {
      count = split("60 61 63 64 65 127 128 255 256 576 1024 1499 1500 1513 1514", lengths, " ")
      for (tag = 0; tag < 2; tag++) for (n = 1; n <= count; n++) {
        at = 0; line = ""
        split("2 10 0 0 0 11 2 10 0 0 0 10", macs, " ")
        for (i = 1; i <= 12; i++) byte(macs[i])
        if (tag) { byte(129); byte(0); byte(160); byte(100) }
        byte(8); byte(n % 3 == 0 ? 6 : 0)
        # QEMU sends no IPv4 header of an impossible length.
        for (i = 14; i < lengths[n]; i++) byte(i == 14 ? 69 : (i * 7 + n * 31 + tag) % 256)
        flush(); print ""
      }
    }'
}

have_tshark=1
fetch_tree "$tshark" trixie tshark || have_tshark=''
if [[ $have_tshark ]]; then
  frames >"$vm_run/frames.hex"
  shark text2pcap -q -F pcap "$vm_run/frames.hex" "$vm_run/frames.pcap" 2>"$vm_run/text2pcap"
  cp "$vm_run/frames.pcap" "$image/frames.pcap"
else
  skipped "vm $bed tshark" "$fetch_problem"
fi
image_pack "$image" "$image.initrd"

boot tools 240 "$vm_kernel" "$image.initrd" 'tools/host tools/traffic' \
  -machine q35,kernel-irqchip=split -m 512M -smp 2 -global q35-pcihost.pci-hole64-size=0 \
  -device intel-iommu,intremap=on,caching-mode=on -netdev hubport,hubid=0,id=wire -device igb,netdev=wire \
  -serial "file:$vm_run/captured"

if [[ $have_tshark ]]; then
  tr -d '\r' <"$vm_run/captured" | base64 -d >"$vm_run/captured.pcapng"
  # Every byte of every frame as tshark shows it, and nothing that differs by file: times, numbers of interfaces.
  for file in frames.pcap captured.pcapng; do
    shark tshark -r "$vm_run/$file" -x >"$vm_run/$file.text" 2>"$vm_run/$file.error" || true
  done
  shark capinfos -TrEcS "$vm_run/captured.pcapng" || true
  if [[ -s $vm_run/frames.pcap.text ]] && cmp "$vm_run/frames.pcap.text" "$vm_run/captured.pcapng.text"; then
    passed "vm $bed/tshark reads the very frames that were sent"
  else
    failed "vm $bed/tshark reads other frames than were sent (frames.pcap, captured.pcapng in $vm_run)"
  fi
  units=$(shark tshark -r "$vm_run/captured.pcapng" -T fields -e frame.time_epoch 2>/dev/null | sed 's/.*\.//' | sort -u | wc -L)
  if [[ $units == 9 ]]; then passed "vm $bed/tshark reads nanoseconds"; else failed "vm $bed/tshark reads times of $units decimals"; fi
fi
