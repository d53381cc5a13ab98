#!/bin/sh
# Starts the instance in whose directory this script stands, in the background. Status 0 once the server answers PING
# (or says that it is loading); otherwise the last log lines are shown and the status is 1. Harmless when it runs already.
. "$(dirname "$0")/instance.sh"
seconds=${START_SECONDS:-30}

give_up() {
    echo "$1" >&2
    if [ -n "$logfile" ] && [ -s "$logfile" ]; then
        echo "The last lines of $logfile:" >&2
        tail -n 10 "$logfile" >&2
    fi
    exit 1
}

refuse_foreign_pidfile
if pid=$(running_pid); then
    echo "Already running with pid $pid ($(where))."
    exit 0
fi
if answers; then
    echo "Another server answers at $(where) already. Edit the port line of $conf." >&2
    exit 1
fi
if [ -e "$pidfile" ]; then
    echo "Removing $pidfile, which a server left that does not run any more."
    rm -f "$pidfile"
fi

# What is wrong with the configuration is told before the server goes to the background.
cd "$home" || exit 1
"$home/redis-rs" "$conf" --daemonize yes || give_up "redis-rs did not start."

tries=0
while [ "$tries" -lt "$((seconds * 10))" ]; do
    # The first server process is there as soon as the command above returns; when it is gone, it failed.
    pid=$(running_pid) || give_up "redis-rs ended right after its start."
    if answers && ours "$pid"; then
        echo "Started with pid $pid ($(where))."
        exit 0
    fi
    sleep 0.1
    tries=$((tries + 1))
done
give_up "redis-rs runs with pid $pid, but did not answer at $(where) within $seconds seconds."
