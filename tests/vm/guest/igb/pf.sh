# The PF goes away under an open port: down and up again, and for good with sriov_numvfs=0, for which the kernel asks the
# holder to let go and waits.
. /vm/igb/card.sh
card_ready

# A watcher whose events are appended, so that emptying the file starts a new page.
start_watch() {
  : >/tmp/watch
  vfnic watch --device "$vf0" --seconds 120 >>/tmp/watch 2>&1 &
  watch=$!
}
# seen NAME SECONDS PATTERN: the watcher printed such a line in time.
seen() {
  seen_start=$(now)
  if wait_for "$2" grep -Eq "$3" /tmp/watch; then
    pass "$1" "$(since "$seen_start")"
  else
    cp /tmp/watch /tmp/out
    fail "$1" "no /$3/ within $2 s"
  fi
}

ip link set "$pf_net" down
refused pf-is-down 1 "$vf0 ip.link.set.*up" vfnic probe --device "$vf0"
ip link set "$pf_net" up
wait_for 30 has_carrier

start_watch
seen link-up 15 '^LinkUp 1000'
: >/tmp/watch
ip link set "$pf_net" down
seen pf-down 15 '^(LinkDown|PfReset)'
: >/tmp/watch
ip link set "$pf_net" up
seen recovered 15 '^Recovered'
seen link-up-again 15 '^LinkUp 1000'
cat /tmp/watch
stop "$watch"
wait_for 30 has_carrier
check ping-after-pf-up 30 vfnic ping --device "$vf0" --address 10.0.2.15/24 --count 5 10.0.2.2

start_watch
seen open-again 15 '^LinkUp 1000'
echo 0 >"$devices/$pf/sriov_numvfs" &
removal=$!
seen asked-to-let-go 15 '^RemovalRequested'
check removed 20 sh -c 'while [ -e "$1" ]; do sleep 0.1; done' sh "$devices/$vf0"
wait "$removal"
status=0
wait "$watch" || status=$?
cat /tmp/watch
check watcher-exits-0 5 test "$status" = 0
refused gone 1 "$vf0" vfnic probe --device "$vf0"

card_ready
check ping-after-return 30 vfnic ping --device "$vf0" --address 10.0.2.15/24 --count 5 10.0.2.2
