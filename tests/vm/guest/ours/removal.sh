# The function goes away under an open port: the kernel asks the holder to let go, and waits; it comes back with a rescan.
. /vm/ours/card.sh
start_watch
seen open 15 "^LinkUp $mbps"
echo 1 >"$devices/$vf0/remove" &
removal=$!
seen asked-to-let-go 15 '^RemovalRequested'
check removed 20 sh -c 'while [ -e "$1" ]; do sleep 0.1; done' sh "$devices/$vf0"
wait "$removal"
status=0
wait "$watch" || status=$?
cat /tmp/watch
check watcher-exits-0 5 test "$status" = 0
refused gone 1 "$vf0" vfnic probe --device "$vf0"

echo 1 >/sys/bus/pci/rescan
wait_for 10 test -e "$devices/$vf0"
[ "$(driver_of "$vf0")" = vfio-pci ] || bind "$vf0" vfio-pci
check traffic-after-return 60 vfnic check --device "$vf0" --peer "$vf1" --frames 10000
