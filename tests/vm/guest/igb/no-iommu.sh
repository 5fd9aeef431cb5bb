# A machine whose IOMMU is off: vfio-pci will not have the VF, and `vfnic` says what is missing.
. /vm/igb/card.sh
card_up
vfio_up
check no-group 5 test "$(group_of "$vf0")" = none
refused no-iommu 1 "$vf0 iommu" vfnic probe --device "$vf0"
# The kernel refuses this binding; the message must name the cause, not the binding that cannot be had.
bind "$vf0" vfio-pci || :
refused no-iommu-after-bind 1 "$vf0 iommu" vfnic probe --device "$vf0"
