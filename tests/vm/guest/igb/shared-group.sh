# A slot without ACS: PF and VFs share one IOMMU group, which is not viable while the PF's driver has the PF. The error
# names the members and their drivers.
. /vm/igb/card.sh
card_up
vfio_up
bind "$vf0" vfio-pci
check shares-a-group 5 test "$(group_of "$pf")" = "$(group_of "$vf0")"
refused not-viable 1 "$vf0 viable $pf.*igb" vfnic probe --device "$vf0"
