# Linux's own ixgbevf on the simulated 82599, X540 and X550, over vfio-user
# by name only: green where it was built; to run by default once it has been so on other machines a few times
. "$vm_dir/lib/card.sh"
linux_bed ixgbevf 10000 30 82599 x540 x550
