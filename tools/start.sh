#!/bin/sh
# Starts the instance in whose directory this script stands, in the background. Status 0 once the server answers PING
# (or says that it is loading); otherwise the last log lines are shown and the status is 1. Harmless when it runs already.
# A replica is given some time to get its master's data, and what has become of that is told; the status is 0 either way.
. "$(dirname "$(readlink -f "$0")")/instance.sh"
seconds=${START_SECONDS:-30}
link_seconds=${LINK_SECONDS:-15}

give_up() {
    echo "$1" >&2
    if [ -n "$(log_since)" ]; then
        echo "The last lines of $logfile:" >&2
        log_since | tail -n 10 >&2
    fi
    exit 1
}

if pid=$(running_pid); then
    echo "Already running with pid $pid ($(where))."
    exit 0
fi
refuse_foreign_lines
refuse_useless_lines
if answers; then
    # It may be this instance's, started by somebody else at this moment.
    if pid=$(running_pid); then
        echo "Already running with pid $pid ($(where))."
        exit 0
    fi
    echo "Another server answers at $(where) already. Edit the port line of $conf." >&2
    exit 1
fi
if [ -e "$pidfile" ]; then
    echo "Removing $pidfile, which was left behind or copied: its process is not this instance's server."
    rm -f "$pidfile"
fi

# What is wrong with the configuration is told before the server goes to the background.
cd "$home" || exit 1
"$home/redis-rs" "$conf" --daemonize yes || give_up "redis-rs did not start."

# tell_of_link: a replica answers before it has its master's data: with nothing, or with what it had saved.
tell_of_link() {
    if ! master=$(master_of); then
        echo "It is a master: no line of its configuration names one (slaveof)."
        return
    fi
    end=$(($(date +%s) + link_seconds))
    while [ "$(date +%s)" -lt "$end" ]; do
        case $(cli info replication 2>&1 </dev/null) in
            *master_link_status:up*)
                echo "It has the data of its master $master."
                return
                ;;
            *master_link_status:down* | *LOADING*) ;;
            *) break ;;
        esac
        sleep 0.1
    done
    echo "It does not have the data of its master $master yet: master_link_status in \`redis-cli -p $port info replication\`"
    echo "tells when it has, and ${logfile:-the log} why not."
    log_since | grep -E ' # .*(MASTER|[Mm]aster|SYNC)' | tail -n 1
}

end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$end" ]; do
    # The first server process is there as soon as the command above returns; when it is gone, it failed.
    pid=$(running_pid) || give_up "redis-rs ended right after its start."
    if answers && ours "$pid"; then
        echo "Started with pid $pid ($(where))."
        tell_of_link
        exit 0
    fi
    sleep 0.1
done
give_up "redis-rs runs with pid $pid, but did not answer at $(where) within $seconds seconds."
