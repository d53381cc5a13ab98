#!/bin/sh
# Stops the instance in whose directory this script stands: SIGTERM, upon which the server saves where save points are
# configured, and waits until the process is gone. Harmless when it does not run.
. "$(dirname "$(readlink -f "$0")")/instance.sh"
seconds=${STOP_SECONDS:-600}

if ! pid=$(running_pid); then
    refuse_foreign_lines
    echo "Not running."
    exit 0
fi

kill -TERM "$pid" 2>/dev/null || {
    alive "$pid" || { echo "Stopped (pid $pid)."; exit 0; }
    echo "The server with pid $pid belongs to $(stat -c %U "/proc/$pid"): that user or root can stop it." >&2
    exit 1
}
tries=0
while alive "$pid"; do
    if [ "$tries" -ge "$((seconds * 10))" ]; then
        echo "The server with pid $pid has not ended within $seconds seconds; its log tells why: $logfile" >&2
        exit 1
    fi
    # It goes on serving when it cannot save what it has.
    if log_since | grep -q "Errors trying to shut down the server"; then
        echo "The server with pid $pid has not stopped. Its log tells why:" >&2
        log_since | grep ' # ' | tail -n 5 >&2
        exit 1
    fi
    [ "$((tries % 100))" -eq 99 ] && echo "Waiting for pid $pid to save and end..."
    sleep 0.1
    tries=$((tries + 1))
done
echo "Stopped (pid $pid)."
