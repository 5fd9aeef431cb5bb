# Linux's own igbvf on the simulated 82576 and I350, over vfio-user
. "$vm_dir/lib/card.sh"
linux_bed igbvf 1000 10 82576 i350
