#!/bin/busybox sh
# The first process of a machine of the lab: makes it a Linux system, does its job, says how that ended, turns it off.
b=/bin/busybox

$b mount -t devtmpfs devtmpfs /dev
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t tmpfs tmpfs /tmp
$b mount -t tmpfs tmpfs /run
$b mount -t bpf bpf /sys/fs/bpf
$b mount -t tracefs tracefs /sys/kernel/tracing
$b mount -t debugfs debugfs /sys/kernel/debug
$b mount -t securityfs securityfs /sys/kernel/security
$b mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in /modules/*; do
    $b insmod "$module" || echo "cannot load $module"
done
$b ip link set lo up
# What is written here would land in the midst of the tests' own lines. A panic is told all the same.
echo 0 >/proc/sys/kernel/printk

tainted=$($b cat /proc/sys/kernel/tainted)
/bin/busybox sh /job
status=$?
if [ "$($b cat /proc/sys/kernel/tainted)" != "$tainted" ]; then
    $b dmesg
    echo "VM-WARNED"
fi
echo "VM-EXIT $status"
$b poweroff -f
