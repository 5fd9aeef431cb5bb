# What a pod's program finds by the device plugin's variables, both forms of them: the example of the library, and our own specs.
. /vm/igb/card.sh
card_ready
export PCIDEVICE_INTEL_COM_VFS="$vf1,$vf0"
export PCIDEVICE_INTEL_COM_VFS_INFO="{\"$vf0\":{\"vfio\":{\"dev-mount\":\"/dev/vfio/$(group_of "$vf0")\",\"mount\":\"/dev/vfio/vfio\"}},\"$vf1\":{}}"
check example 30 kubernetes_pod
says example-opens-both "$vf0: up" "$vf1: up"
check list 10 vfnic list --from-env
says list-keeps-the-order "/0 +$vf1" "/1 +$vf0 +/dev/vfio/$(group_of "$vf0")"
check first 20 vfnic probe --device k8s:intel.com/vfs/0
says first-of-the-list "$vf1"
refused several 1 "$vf1,.$vf0 one" vfnic probe --device k8s:intel.com/vfs
export PCIDEVICE_INTEL_COM_VFS=0000:77:10.0
refused absent 1 "0000:77:10.0" vfnic probe --device k8s:intel.com/vfs
