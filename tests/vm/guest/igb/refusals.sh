# What `vfnic` says before anything is bound: a device that cannot be opened gives an error that names what was asked,
# what was seen and what to do, and exits 1; a command line that makes no sense exits 2.
. /vm/igb/card.sh
card_up

check sriov 5 test -e "$devices/$vf0" -a -e "$devices/$vf1"
check one-group-each 5 test "$(group_of "$vf0")" != "$(group_of "$vf1")"

bind "$vf0" ""
refused not-bound 1 "$vf0 no.driver vfio-pci" vfnic probe --device "$vf0"

modprobe igbvf
bind "$vf0" igbvf
check igbvf-binds 5 test "$(driver_of "$vf0")" = igbvf
refused bound-to-igbvf 1 "$vf0 igbvf vfio-pci" vfnic probe --device "$vf0"
bind "$vf0" ""

refused pf-instead-of-vf 1 "$pf physical.function" vfnic probe --device "$pf"
refused other-vendor 1 "1af4" vfnic probe --device "$(find_device 1af4:1044)"
# vfio-pci without the driver for the IOMMU behind it: half a kernel configuration.
modprobe vfio-pci
bind "$vf0" vfio-pci
refused no-type1-driver 1 "$vf0 type.?1" vfnic probe --device "$vf0"
vfio_up
bind "$(find_device 1af4:1044)" vfio-pci
refused other-vendor-with-vfio 1 "1af4" vfnic probe --device "$(find_device 1af4:1044)"
refused absent-device 1 "0000:5a:00.0" vfnic probe --device 0000:5a:00.0
refused malformed-spec 2 "0000:zz:10" vfnic probe --device 0000:zz:10
refused no-device-given 2 "--device" vfnic probe
refused unknown-command 2 "frobnicate" vfnic frobnicate
refused unknown-mode 2 "sometimes" vfnic ping --device "$vf0" --mode sometimes 10.0.2.2
refused odd-frame-size 2 "--frame" vfnic check --device "$vf0" --peer "$vf1" --frame 63
refused peer-is-device 2 "--peer|--device" vfnic check --device "$vf0" --peer "$vf0"
