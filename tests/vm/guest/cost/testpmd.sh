# DPDK's testpmd, which counts for itself what it executes while it has packets, and leaves out when it finds none.
. /vm/cost/lib.sh
cores="--lcores 0@0,1@0"
forward() {
  echo start tx_first 6
  frames 150000
  echo stop
}
# testpmd NAME OPTION…: such a session, and what it says of itself.
testpmd() {
  testpmd_name=$1
  shift
  session "$testpmd_name" 300 forward -- --record-core-cycles "$@"
  grep -E 'cycles/packet' /tmp/out >&2 || :
  testpmd_own=$(sed -nE 's/.*cycles=([0-9]+) . total [A-Za-z]+ packets=([0-9]+).*/\1 \2/p' /tmp/out | tail -n 1)
  # shellcheck disable=SC2086 # words
  cost "$testpmd_name-cost" ${testpmd_own:-0 0} 300000
}
testpmd testpmd-mac
testpmd testpmd-mac-burst-stats --record-burst-stats
testpmd testpmd-macswap --forward-mode=macswap --port-topology=loop
