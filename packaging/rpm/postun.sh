#!/bin/sh
# After the files are gone. Keys are never removed here. The user stays: files may be its own.
# shellcheck shell=sh
# $1: how many versions are left.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
fi
if [ "$1" -eq 0 ]; then
	# Sockets of others may be in it.
	rmdir /run/spinecert 2>/dev/null || :
	if [ -d /var/lib/spinecert ]; then
		echo "spinecert: kept /var/lib/spinecert, which may hold private keys, certificates and the audit file"
		echo "spinecert: to delete it, for good and with all keys: rm -rf /var/lib/spinecert"
	fi
fi
exit 0
