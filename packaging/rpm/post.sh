#!/bin/sh
# After the files are in place: user, directories, units; and a daemon that runs gets the new program. Each step can be repeated.
# shellcheck shell=sh
# $1: how many versions are installed now.
systemd-sysusers spinecert.conf || echo "spinecert: the user spinecert was not made; see: systemd-sysusers spinecert.conf" >&2
systemd-tmpfiles --create spinecert.conf || echo "spinecert: some directories were not made; see: systemd-tmpfiles --create spinecert.conf" >&2

if [ "$1" -eq 1 ]; then
	echo "spinecert: spinecertd is not started yet: write /etc/spinecert/spinecert.yaml, put your CA certificates into"
	echo "spinecert: /etc/spinecert/trust, then: spinecert config check && systemctl enable --now spinecertd"
	echo "spinecert: step by step: /usr/share/doc/spinecert/install.md"
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	# It goes on with the new program, and open connections stay. Where that cannot be, the old one goes on.
	if [ "$1" -gt 1 ] && systemctl --quiet is-active spinecertd.service; then
		if /usr/bin/spinecert upgrade; then
			echo "spinecert: the daemon runs the installed version"
		else
			echo "spinecert: the daemon was not upgraded: the version that ran before goes on serving." >&2
			echo "spinecert: look: journalctl -u spinecertd; then: spinecert upgrade, or, which drops connections: systemctl restart spinecertd" >&2
		fi
	fi
fi
exit 0
