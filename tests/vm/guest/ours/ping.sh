# Packets to somebody else's driver and stack: the other VF is the kernel's. In every mode, and what is said when nobody
# answers.
. /vm/ours/card.sh
modprobe "$kernel_driver"
bind "$vf1" "$kernel_driver"
wait_for 20 net_of "$vf1" >/dev/null
net=$(net_of "$vf1")
ip addr add 10.0.0.2/24 dev "$net"
ip link set "$net" up
wait_for 30 grep -q 1 "/sys/class/net/$net/carrier"

for mode in poll interrupt adaptive; do
  check "$mode" 30 vfnic ping --device "$vf0" --address 10.0.0.1/24 --mode "$mode" --count 5 10.0.0.2
done
refused no-answer 1 "10.0.0.77" vfnic ping --device "$vf0" --address 10.0.0.1/24 --count 1 --timeout 2 10.0.0.77
# Its queues and mappings die with a process that is killed in the middle of its traffic; the next one is not disturbed.
vfnic ping --device "$vf0" --address 10.0.0.1/24 --count 100000 10.0.0.2 >/tmp/ping 2>&1 &
sleep 2
stop $!
check after-kill 30 vfnic ping --device "$vf0" --address 10.0.0.1/24 --count 5 10.0.0.2
