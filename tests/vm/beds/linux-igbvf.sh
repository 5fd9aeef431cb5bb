# Linux's own igbvf on the simulated 82576 and I350, over vfio-user
# by name only: still being built; not every model has passed yet
. "$vm_dir/lib/card.sh"
linux_bed igbvf 1000 82576 i350
