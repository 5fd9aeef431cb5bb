# Linux's own igbvf on the simulated 82576 and I350, over vfio-user
# by name only: green where it was built; to run by default once it has been so on other machines a few times
. "$vm_dir/lib/card.sh"
linux_bed igbvf 1000 10 82576 i350
