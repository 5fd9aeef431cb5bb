# The PF resets the port under testpmd, which is told, and goes on after its own reset.
. /vm/dpdk/testpmd.sh

resets() {
  echo start tx_first
  frames 2000
  card pf reset 50 >&2
  sleep 2
  echo stop
  echo port stop all
  echo port reset all
  echo port start all
  sleep 1
  echo show port info 0
  echo start tx_first
  frames 20000
  echo stop
}
session reset 90 resets --
says told 'reset'
says link-up-again 'Link status: up'
