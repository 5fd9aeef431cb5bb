# Without privilege: an ordinary user who was given the group's node and enough locked memory needs nothing else, no
# capability above all, and is told which of the two is missing.
. /vm/igb/card.sh
card_ready
node=/dev/vfio/$(group_of "$vf0")

refused node-not-ours 1 "$node permission" /vm/as-user 65536 vfnic probe --device "$vf0"
chown user "$node"
refused memlock-too-low 1 "memlock [0-9]+ 65536" /vm/as-user 64 vfnic probe --device "$vf0"
check probe 20 /vm/as-user 65536 vfnic probe --device "$vf0"
check ping 30 /vm/as-user 65536 vfnic ping --device "$vf0" --address 10.0.2.15/24 --count 5 10.0.2.2
if [ ! -L /usr/bin/setpriv ]; then
  check has-no-capability 5 /vm/as-user 65536 cat /proc/self/status
  says nor-could-get-one '^Uid:.1000' '^CapInh:.0{16}$' '^CapPrm:.0{16}$' '^CapEff:.0{16}$' '^CapBnd:.0{16}$' \
    '^CapAmb:.0{16}$' '^NoNewPrivs:.1$'
fi
check is-unprivileged 5 /vm/as-user 65536 sh -c '[ "$(id -u)" = 1000 ] && ! echo x >/sys/kernel/uevent_seqnum 2>/dev/null'

# Frames between two VFs, each in a process of its own that has nothing but its node. No more than the sink's ring holds: a
# guest that does not get to run for a second sends what is due all at once, and QEMU's card drops what finds no descriptor.
peer=/dev/vfio/$(group_of "$vf1") there=02:0a:0b:0c:0d:02
chown user "$peer"
ip link set "$pf_net" vf 1 mac "$there"
begin /tmp/sink /vm/as-user 65536 vfnic sink --device "$vf1" --sent 2000 --duration 60s --json
receiver=$!
sleep 3
check gen 60 /vm/as-user 65536 vfnic gen --device "$vf0" --to "$there" --rate 2k --count 2000 --json
done_in sink 40 "$receiver" /tmp/sink
says sink-got-all '"received":2000' '"missing":0' '"corrupted":0' '"duplicated":0'
begin /tmp/echo /vm/as-user 65536 vfnic echo --device "$vf1" --address 192.0.2.1 --json
answering=$!
sleep 3
check ping-echo 30 /vm/as-user 65536 vfnic ping --device "$vf0" --address 192.0.2.9/24 192.0.2.1 --count 5
kill -INT "$answering"
done_in echo 20 "$answering" /tmp/echo
check fwd 30 /vm/as-user 65536 vfnic fwd "$vf0" "$vf1" --duration 2s --json
says fwd-had-both '"zero_copy":true' '"ended_by":"duration"'

# sysfs is root's. Who owns the node may reset the VF through it, who does not is told what is missing.
check reset 20 /vm/as-user 65536 vfnic reset "$vf0"
says reset-by-vfio 'by VFIO'
check probe-after-reset 20 /vm/as-user 65536 vfnic probe --device "$vf0"
chown root "$node" "$peer"
refused reset-not-ours 1 "$vf0/reset permission $node" /vm/as-user 65536 vfnic reset "$vf0"

# A child that may open nothing, and is given the nodes by a parent that may. (This kernel has no iommufd.)
check handed-over 30 handed_fds "$vf0" 1000
says handed-over-works 'child: .* is open'
check probe-after-handover 20 vfnic probe --device "$vf0"
