# Opening a VF through the kernel's VFIO: identity, address and its origin, MTU, link, and that it can be done again.
. /vm/igb/card.sh
card_ready
admin=02:0a:0b:0c:0d:01

check probe 20 vfnic probe --device "$vf0"
says ids '8086:10ca|82576'
says mac-is-random 'random|generated'
says mtu '1500'
says link '\<up\>' '1000'
check probe-short-spec 20 vfnic probe --device "${vf0#0000:}"
check probe-json 20 vfnic probe --device "$vf0" --json
if [ "$(grep -c '^{' /tmp/out)" = 1 ]; then pass json-is-one-object; else fail json-is-one-object "not exactly one line starts with {"; fi

# The administrator's address is the VF's, and told apart from one of its own choosing; the other VF keeps its own.
ip link set "$pf_net" vf 0 mac "$admin"
check probe-administered 20 vfnic probe --device "$vf0"
says mac-is-administered "$admin" 'admin'
check probe-other-vf 20 vfnic probe --device "$vf1"
says other-mac-is-random 'random|generated'
check reopen 60 sh -euc 'for i in 1 2 3 4 5; do vfnic probe --device "$1"; done' sh "$vf0"

# A VF that a process holds is refused to the next, and free again once that process is killed.
vfnic watch --device "$vf0" --seconds 30 >/tmp/watch 2>&1 &
holder=$!
check held-port-comes-up 15 sh -c 'until grep -q LinkUp /tmp/watch; do sleep 0.1; done'
refused held 1 "$vf0 held|busy|in.use" vfnic probe --device "$vf0"
stop "$holder"
check reopen-after-kill 20 vfnic probe --device "$vf0"
