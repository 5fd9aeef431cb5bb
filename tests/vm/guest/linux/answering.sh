# One VF of a card whose other VF is in another guest: answers until that guest has had its measurement.
. /vm/linux/card.sh
load
ip addr add 10.0.0.1/24 dev "$a"
ip link set "$a" up
wait_for 30 has_carrier "$a"
check answered 150 iperf3 -s -1
# The other guest still pings.
sleep 5
