# Two queues on each VF, flows spread by RSS.
. /vm/dpdk/testpmd.sh

forward() {
  echo start tx_first 4
  frames 110000
  drain
}
begin
session queues 60 forward -- --rxq=2 --txq=2 --txonly-multi-flow --rss-udp
whole queues-sums 110000 512
says both-queues 'RX Port= 0/Queue= 0' 'RX Port= 0/Queue= 1'
