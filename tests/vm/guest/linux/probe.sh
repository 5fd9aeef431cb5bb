# The kernel's own driver finds the card's VFs, takes the addresses it is given, and links up at the card's speed.
. /vm/linux/card.sh

card vf 0 mac 02:00:00:00:00:0a
load
check driver 1 test "$driver" = "$(sed -n 's/.*card_driver=\([a-z]*\).*/\1/p' /proc/cmdline)"
check address-administered 1 grep -q 02:00:00:00:00:0a "/sys/class/net/$a/address"
check address-made-up 1 sh -c "! grep -q 00:00:00:00:00:00 /sys/class/net/$b/address"
ip link set "$a" up
ip link set "$b" up
check link-up 20 sh -c "until grep -q 1 /sys/class/net/$a/carrier && grep -q 1 /sys/class/net/$b/carrier; do sleep 0.1; done"
run 10 ethtool "$a"
says speed "Speed: $(sed -n 's/.*card_speed=\([0-9]*\).*/\1/p' /proc/cmdline)Mb/s"
run 10 ethtool -i "$a"
says identity "driver: $driver" "bus-info: $pci0"
check registers 10 ethtool -d "$a"
check rings-and-queues 10 sh -c "ethtool -g $a && ethtool -l $a; ethtool -c $a && ethtool -k $a"
check self-test-online 20 ethtool -t "$a" online
check self-test-offline 60 ethtool -t "$a" offline
check link-up-after-test 20 sh -c "until grep -q 1 /sys/class/net/$a/carrier; do sleep 0.1; done"
# The card costs next to nothing while there is nothing to do: it waits, and does not look again and again.
sleep 3
host idle 5
echo "# idle: ${answer#ok } ms of processor time in 5 s with both links up" >&3
# 1 % of a processor.
check idle 1 test "${answer#ok }" -le 50
ip link set "$a" down
ip link set "$b" down
