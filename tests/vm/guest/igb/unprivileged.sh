# Without privilege: an ordinary user who was given the group's node and enough locked memory needs nothing else, and is
# told which of the two is missing.
. /vm/igb/card.sh
card_ready
node=/dev/vfio/$(group_of "$vf0")

refused node-not-ours 1 "$node permission" /vm/as-user 65536 vfnic probe --device "$vf0"
chown user "$node"
refused memlock-too-low 1 "memlock [0-9]+ 65536" /vm/as-user 64 vfnic probe --device "$vf0"
check probe 20 /vm/as-user 65536 vfnic probe --device "$vf0"
check ping 30 /vm/as-user 65536 vfnic ping --device "$vf0" --address 10.0.2.15/24 --count 5 10.0.2.2
check is-unprivileged 5 /vm/as-user 65536 sh -c '[ "$(id -u)" = 1000 ] && ! echo x >/sys/kernel/uevent_seqnum 2>/dev/null'
chown root "$node"

# A child that may open nothing, and is given the nodes by a parent that may. (This kernel has no iommufd.)
check handed-over 30 handed_fds "$vf0" 1000
says handed-over-works 'child: .* is open'
check probe-after-handover 20 vfnic probe --device "$vf0"
