#!/usr/bin/env bash
# launch/local.sh N [train arguments]
#
# One run in N processes of this machine, as `contrastive-jax train` starts one. On CPUs each process has
# JAX_NUM_CPU_DEVICES virtual devices; on GPUs give each its own with CUDA_VISIBLE_DEVICES, or use one process.
#
# SIGTERM and Ctrl-C go to all processes, which save and exit 75; a second Ctrl-C ends them at once. If one
# fails, the others have $GRACE_SECONDS (90) to say whom they miss, and are then killed. Exit code: 0 done, 75
# stopped early (the same command goes on), else the code of the first process that failed.
set -u

program=${CONTRASTIVE_JAX:-contrastive-jax}
grace=${GRACE_SECONDS:-90}
processes=${1:-}
if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
    echo "launch/local.sh: N is '$processes': give the number of processes, as in launch/local.sh 2 --config ..." >&2
    exit 2
fi
shift
if ! command -v "$program" >/dev/null; then
    echo "launch/local.sh: no command $program: activate its environment, or set CONTRASTIVE_JAX to its path" >&2
    exit 2
fi

free_port() {
    local port
    while true; do
        port=$((20000 + RANDOM % 10000)) # below the ports that outgoing connections take
        (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

signal_all() {
    ((${#running[@]} == 0)) || kill "-$1" "${!running[@]}" 2>/dev/null
}

# Ctrl-C in a terminal reaches the processes too, and two SIGINT would end them: they are sent SIGTERM instead.
stop() {
    stopped=yes
    signal_all TERM
}
interrupted() {
    [[ -z $stopped ]] || signal_all KILL
    stop
}

# Reaps the processes that have ended. `code` is the first bad one: neither 0 nor 75, nor the 143 of a process
# that was stopped before it could listen.
reap() {
    local pid ended
    for pid in "${!running[@]}"; do
        kill -0 "$pid" 2>/dev/null && continue
        wait "$pid"
        ended=$?
        unset "running[$pid]"
        [[ $ended == 143 && -n $stopped ]] && ended=75
        if ((ended != 0 && ended != 75 && failed == 0)); then
            failed=$ended
            deadline=$((SECONDS + grace))
            echo "launch/local.sh: a process ended with exit code $ended; the others have $grace s" >&2
        fi
        ((ended == 75)) && early=yes
    done
}

declare -A running=()
stopped='' early='' failed=0 deadline=0
trap stop TERM
trap interrupted INT
trap 'signal_all KILL' EXIT

coordinator=127.0.0.1:$(free_port)
for ((index = 0; index < processes; index++)); do
    "$program" train "$@" --coordinator "$coordinator" --processes "$processes" --process-id "$index" &
    running[$!]=$index
done
while ((${#running[@]} > 0)); do
    sleep 0.2 &
    wait $! # rather than in the foreground: a signal is acted on at once
    reap
    ((failed == 0 || SECONDS < deadline)) || signal_all KILL
done

((failed == 0)) || exit "$failed"
[[ -z $early ]] || exit 75
