# The card of these scenarios: four VFs, the first two with addresses that the frames of beds/tools.sh have. Sourced after
# igb/card.sh; makes no checks.
mac_of_vf0=02:0a:00:00:00:0a
mac_of_vf1=02:0a:00:00:00:0b

# address_of N: VF N of the PF.
address_of() { basename "$(readlink "$devices/$pf/virtfn$1")"; }
