# What an administrator does to the PF under an open port: down and up, a reset, the cable, an address and a VLAN; each
# time the port says what it is, and comes back by itself.
. /vm/ours/card.sh

card pf down
refused pf-is-down 1 "$vf0 ip.link.set.*up" vfnic probe --device "$vf0"
card pf up
sleep 1

start_watch
seen link-up 15 "^LinkUp $mbps"
: >/tmp/watch
card pf link off
seen cable-pulled 15 '^LinkDown'
card pf link on
seen cable-plugged 15 '^LinkUp'
: >/tmp/watch
card pf down
seen pf-down 15 '^(LinkDown|PfReset)'
card pf up
seen recovered 15 '^Recovered'
seen link-up-again 15 "^LinkUp $mbps"
for round in 1 2 3; do
  : >/tmp/watch
  card pf reset 50
  seen "reset-$round" 15 '^PfReset'
  seen "recovered-$round" 15 '^Recovered'
done
cat /tmp/watch
stop "$watch"
check traffic-after-resets 60 vfnic check --device "$vf0" --peer "$vf1" --frames 10000

# Resets under traffic may lose frames, and never anything else; afterwards none. The first one waits for traffic: a port that is
# being opened while its PF resets is refused.
received() {
  host counters 1
  answer=${answer#ok }
  answer=${answer%% *}
}
received
before=$answer
{
  for _ in $(seq 200); do
    received
    [ "$answer" -lt $((before + 1000)) ] || break
    sleep 0.2
  done
  for round in 1 2 3; do card pf reset 50; sleep 1; done
} &
resets=$!
run 100 vfnic check --device "$vf0" --peer "$vf1" --frames 100000
wait "$resets"
says reset-under-traffic ' 0 duplicated, 0 reordered, 0 corrupted'
check traffic-afterwards 60 vfnic check --device "$vf0" --peer "$vf1" --frames 10000
