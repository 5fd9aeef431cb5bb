# Opening a VF through the kernel's VFIO: what is refused before it is bound, identity, address and its origin, MTU, link,
# that it can be done again, and by whom.
. /vm/ours/card.sh
admin=02:0a:0b:0c:0d:01

if [ -e /dev/iommu ]; then
  check cdev 20 sh -c "ls /dev/vfio/devices/vfio* && vfnic -v probe --device $vf0 2>&1 | grep -i iommufd"
else
  echo "# this kernel has no iommufd: type 1 alone" >&3
fi
check one-group-each 5 test "$(group_of "$vf0")" != "$(group_of "$vf1")"
bind "$vf0" ""
refused not-bound 1 "$vf0 no.driver vfio-pci" vfnic probe --device "$vf0"
modprobe "$kernel_driver"
bind "$vf0" "$kernel_driver"
refused bound-to-the-kernels-driver 1 "$vf0 $kernel_driver vfio-pci" vfnic probe --device "$vf0"
bind "$vf0" vfio-pci

check probe 20 vfnic probe --device "$vf0"
says model "$model"
says mac-is-random 'random|generated'
says mtu 1500
says link '\<up\>' "$mbps"
check probe-json 20 vfnic probe --device "$vf0" --json
if [ "$(grep -c '^{' /tmp/out)" = 1 ]; then pass json-is-one-object; else fail json-is-one-object "not exactly one line starts with {"; fi

# The administrator's address is the VF's, and told apart from one of its own choosing; the other VF keeps its own.
card vf 0 mac "$admin"
check probe-administered 20 vfnic probe --device "$vf0"
says mac-is-administered "$admin" admin
check probe-other-vf 20 vfnic probe --device "$vf1"
says other-mac-is-random 'random|generated'
check reopen 60 sh -euc 'for i in 1 2 3; do vfnic probe --device "$1"; done' sh "$vf0"

# A VF that a process holds is refused to the next, and free again once that process is killed.
start_watch
seen held-port-comes-up 15 LinkUp
refused held 1 "$vf0 held|busy|in.use" vfnic probe --device "$vf0"
stop "$watch"
check reopen-after-kill 20 vfnic probe --device "$vf0"

# An ordinary user needs the group's node and enough locked memory, nothing else.
node=/dev/vfio/$(group_of "$vf0")
refused node-not-ours 1 "$node permission" /vm/as-user 65536 vfnic probe --device "$vf0"
chown user "$node"
refused memlock-too-low 1 "memlock [0-9]+ 65536" /vm/as-user 64 vfnic probe --device "$vf0"
check unprivileged 20 /vm/as-user 65536 vfnic probe --device "$vf0"
chown root "$node"
