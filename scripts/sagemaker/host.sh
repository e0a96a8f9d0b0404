#!/usr/bin/env bash
# One host of a job: own network, processes, name, keys and /etc/environment. Run inside a network namespace by unshare.
# usage: host.sh NAME FOLDER MOUNT COMMAND...    FOLDER has ssh/, environment and ml/; ml/ is mounted at MOUNT
set -euo pipefail
name=$1 folder=$2 mount=$3
shift 3
hostname "$name"
mkdir -p "$HOME/.ssh" /run/sshd "$mount"
mount --bind "$folder/ssh" "$HOME/.ssh"
mount --bind "$folder/environment" /etc/environment
mount --bind "$folder/ml" "$mount"
exec "$@"
