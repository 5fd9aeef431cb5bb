# One VF of a card whose other VF is in another guest: answers until that guest has had its measurements.
. /vm/linux/card.sh
load
ethtool -G "$a" rx 4096 tx 4096
ip addr add 10.0.0.1/24 dev "$a"
ip link set "$a" up
wait_for 30 has_carrier "$a"
for buffer in rmem_max wmem_max; do echo 16777216 >/proc/sys/net/core/$buffer; done
iperf3 -s -D
# The other guest says when it is through.
check answered 380 nc -l -p 9000
