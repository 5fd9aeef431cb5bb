# `vfnic fwd`, which rewrites both addresses and keeps all its statistics; it times the bursts that had frames, as testpmd does.
. /vm/cost/lib.sh
for burst in 32 64; do
  vfnic fwd "$vf0" "$vf1" --to "$mac0" --back-to "$mac1" --mode poll --busy --json --burst "$burst" >/tmp/fwd &
  forwarder=$!
  sleep 0.5
  round 192
  frames 150000
  kill -INT "$forwarder"
  wait "$forwarder" || :
  cat /tmp/fwd

  # figure NAME: a number of the report.
  figure() { sed -nE "s/^.*\"$1\":([0-9.]+),.*/\1/p" /tmp/fwd; }
  busy=$(figure busy_ns)
  echo "vfnic, burst $burst: $(figure busy_burst) frames a burst on average; a look that found none: $(figure empty_ns)" >>/tmp/looks
  forwarded=$(sed -nE 's/^[^[]*"forwarded":([0-9]+),.*/\1/p' /tmp/fwd)
  cost "vfnic-fwd-burst-$burst" "$(awk -v each="$busy" -v frames="$forwarded" 'BEGIN { printf "%.0f", each * frames }')" "$forwarded" 300000
done
