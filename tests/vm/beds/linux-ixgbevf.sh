# Linux's own ixgbevf on the simulated 82599, X540 and X550, over vfio-user
. "$vm_dir/lib/card.sh"
linux_bed ixgbevf 10000 30 82599 x540 x550
