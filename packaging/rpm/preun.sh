#!/bin/sh
# Before the files go.
# shellcheck shell=sh
# $1: how many versions will be left. An upgrade (1) stops nothing: the new one was handed over to.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
	# Sockets first: a connection would start the daemon again. They are the operator's, and stay enabled.
	for unit in $(systemctl show --property=TriggeredBy --value spinecertd.service); do
		systemctl stop "$unit" || :
	done
	# Open connections may finish, for limits.drain. What does not stop is no reason to keep the package.
	for unit in spinecert-check.timer spinecertd.service; do
		systemctl --no-reload disable --now "$unit" || :
	done
	# Commands of services.
	systemctl stop 'spinecert-hook@*.service' || :
fi
exit 0
