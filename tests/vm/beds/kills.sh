# our driver killed twenty times in full traffic, on all five simulated models, under the guest kernel's vfio-pci and VT-d
# by name only: minutes of one and the same; tests/kill.rs does it every day without a guest
CARD_SCENARIOS=ours/kills
. "$vm_dir/beds/ours.sh"
