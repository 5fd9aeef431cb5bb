# the ixgbevf and igbvf of the newest kernel that Debian has, on the simulated 82576 and X550: probe, PF resets, reloads
# by name only: a second kernel to fetch, and one that may be broken for reasons of its own
. "$vm_dir/lib/card.sh"
vm_kernel=$vm_cache/kernel-sid
if ! fetch_tree "$vm_kernel" sid linux-image-amd64; then
  skipped "vm $bed" "$fetch_problem"
  return
fi
CARD_SCENARIOS=${CARD_SCENARIOS:-linux/probe linux/changes}
linux_bed igbvf 1000 0 82576
linux_bed ixgbevf 10000 0 x550
