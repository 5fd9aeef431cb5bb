# The card of bed A as scenarios see it: the PF, its VFs, and binding them. Sourced; makes no checks.

devices=/sys/bus/pci/devices

# The first device of these ids (VENDOR:DEVICE in hexadecimal), as DDDD:BB:DD.F.
find_device() {
  for device in "$devices"/*; do
    [ "$(cat "$device/vendor" "$device/device")" = "$(printf '0x%s\n0x%s' "${1%:*}" "${1#*:}")" ] || continue
    basename "$device"
    return
  done
}

# The PF's up and its VFs exist; sets pf, pf_net, vf0 and vf1. The PF must be up before a VF's mailbox is answered.
card_up() {
  modprobe igb
  pf=$(find_device 8086:10c9)
  wait_for 5 test -e "$devices/$pf/net"
  pf_net=$(ls "$devices/$pf/net")
  ip link set "$pf_net" up
  [ "$(cat "$devices/$pf/sriov_numvfs")" != 0 ] || echo 2 >"$devices/$pf/sriov_numvfs"
  vf0=$(basename "$(readlink "$devices/$pf/virtfn0")")
  vf1=$(basename "$(readlink "$devices/$pf/virtfn1")")
}

has_carrier() { [ "$(cat "/sys/class/net/$pf_net/carrier")" = 1 ]; }

driver_of() { basename "$(readlink "$devices/$1/driver" || echo none)"; }
group_of() { basename "$(readlink "$devices/$1/iommu_group" || echo none)"; }

# bind DEVICE DRIVER: through driver_override, which binds this device and no other; "" is nobody's.
bind() {
  [ "$(driver_of "$1")" = none ] || echo "$1" >"$devices/$1/driver/unbind"
  echo "$2" >"$devices/$1/driver_override"
  [ -z "$2" ] || echo "$1" >/sys/bus/pci/drivers_probe
}

# busybox's modprobe follows no soft dependency, and the type 1 IOMMU driver is one of vfio's.
vfio_up() { modprobe -a vfio-pci vfio_iommu_type1; }

# Everything ready for traffic: both VFs with vfio-pci, the PF's link up.
card_ready() {
  card_up
  vfio_up
  for vf in "$vf0" "$vf1"; do
    [ "$(driver_of "$vf")" = vfio-pci ] || bind "$vf" vfio-pci
  done
  wait_for 30 has_carrier
}
