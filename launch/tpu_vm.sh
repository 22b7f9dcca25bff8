#!/usr/bin/env bash
# launch/tpu_vm.sh NAME [train arguments]
#
# One run on a slice of TPU VMs called NAME, from its creation to its deletion. Run it in the checkout, on a
# machine that stays up (in tmux on a small VM): it obtains the slice as a queued resource, copies the tracked
# files to every host, installs them, mounts the shared folder at /mnt/runs and trains on all hosts. When the
# run stops early (exit 75) or the slice is preempted, it does all that again and the run goes on; so it does
# after a fault of the run (any other code but 2, wrong input), three times in a row at most. The same
# command takes over a run that an earlier one has left. SIGTERM or Ctrl-C here stops the run; it is saved.
#
#   TPU_ZONE=us-west4-a  TPU_TYPE=v5litepod-16  TPU_RUNTIME=v2-alpha-tpuv5-lite  TPU_SHARE=10.0.0.2:/runs
#   TPU_FLAGS="--spot"   further flags of `gcloud compute tpus queued-resources create`
#
# Exit code: 0 done, and the slice deleted; 75 stopped early, else what failed: the slice is then kept.
set -u

name=${1:-}
if [[ -z $name || $name == -* ]]; then
    echo "launch/tpu_vm.sh: NAME is '$name': give the slice a name, as in launch/tpu_vm.sh glyphs --config ..." >&2
    exit 2
fi
shift
for variable in TPU_ZONE TPU_TYPE TPU_RUNTIME TPU_SHARE; do
    if [[ -z ${!variable:-} ]]; then
        echo "launch/tpu_vm.sh: $variable is not set (see the top of this file)" >&2
        exit 2
    fi
done
read -ra create_flags <<<"${TPU_FLAGS:-}"
seconds=${POLL_SECONDS:-30}

queued() { gcloud compute tpus queued-resources "$1" "$name" --zone="$TPU_ZONE" "${@:2}"; }
slice() { gcloud compute tpus tpu-vm "$1" "$name" --zone="$TPU_ZONE" "${@:2}"; }
on_all_hosts() { slice ssh --worker=all --command="$1"; }
request_state() { queued describe --format='value(state.state)' 2>/dev/null; }
slice_state() { slice describe --format='value(state)' 2>/dev/null || echo UNKNOWN; }
ready() { [[ $(request_state) == ACTIVE && $(slice_state) == READY ]]; }

# Returns when the slice is there; asks for it if there is none, or none any more.
obtain() {
    local obtained='' state
    until ready; do
        [[ -z $stopped ]] || exit 75
        state=$(request_state)
        [[ $state != ACTIVE ]] || state=$(slice_state)
        echo "launch/tpu_vm.sh: $name: ${state:-to be created}" >&2
        case $state in
            SUSPENDED | PREEMPTED | TERMINATED) queued delete --force --quiet ;;
            FAILED)
                queued describe >&2
                exit 1
                ;;
            '')
                [[ -z $obtained ]] || pause
                queued create --node-id="$name" --accelerator-type="$TPU_TYPE" \
                    --runtime-version="$TPU_RUNTIME" "${create_flags[@]}" || exit 1
                obtained=yes
                ;;
        esac
        pause
    done
}

pause() {
    sleep "$seconds" &
    wait $!
}

# shellcheck disable=SC2016 # for the hosts to expand
stop_hosts='{ pkill -TERM -f -F ~/train.pid contrastive-jax
    while pgrep -f -F ~/train.pid contrastive-jax; do sleep 0.5; done; } >/dev/null 2>&1'

# A connection that broke has left its process running, which holds the work directory and the chips: it is
# stopped first. TPU VMs may have a Python that is too old: uv brings one.
prepare() {
    git ls-files -z | tar --null --files-from=- -czf "$archive" || return
    gcloud compute tpus tpu-vm scp "$archive" "$name:contrastive-jax.tar.gz" --zone="$TPU_ZONE" --worker=all ||
        return
    on_all_hosts "$stop_hosts
        set -e
        sudo mkdir -p /mnt/runs
        mountpoint -q /mnt/runs ||
            { sudo apt-get install -qy nfs-common && sudo mount -t nfs $(printf %q "$TPU_SHARE") /mnt/runs; }
        sudo chmod 1777 /mnt/runs
        rm -rf contrastive-jax && mkdir contrastive-jax && tar -xzf contrastive-jax.tar.gz -C contrastive-jax
        PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
        ~/.local/bin/uv venv --quiet --clear --python 3.12 venv
        ~/.local/bin/uv pip install --quiet --python venv/bin/python './contrastive-jax[tpu]'"
}

train() {
    on_all_hosts "cd contrastive-jax
        ../venv/bin/contrastive-jax train$(printf ' %q' "$@") &
        echo \$! >~/train.pid
        wait \$!"
}

# Runs `$@` to its end, also when a signal comes: `wait` returns early then.
uninterrupted() {
    local process code
    "$@" &
    process=$!
    wait "$process"
    code=$?
    while kill -0 "$process" 2>/dev/null; do
        wait "$process"
        code=$?
    done
    return "$code"
}

stop() {
    stopped=yes
    on_all_hosts "$stop_hosts"
}

leave() {
    local code=$?
    rm -f "$archive"
    ((code == 0)) ||
        echo "launch/tpu_vm.sh: the slice is kept, and paid for, until" \
            "gcloud compute tpus queued-resources delete $name --zone=$TPU_ZONE --force" >&2
}

stopped='' failures=0
archive=$(mktemp --suffix=.tar.gz)
trap stop TERM INT
trap leave EXIT
while true; do
    obtain
    if uninterrupted prepare; then
        [[ -z $stopped ]] || exit 75
        uninterrupted train "$@"
        code=$?
        if ((code == 0)); then
            queued delete --force --quiet
            exit
        fi
    else
        code=1
    fi
    [[ -z $stopped ]] || exit 75
    [[ $code != 2 ]] || exit 2
    pause
    # 75: stopped early. 255: ssh lost a host. Anything else, where the slice is still there, is the run's own.
    if [[ $code == 75 || $code == 255 ]] || ! ready; then
        failures=0
    elif ((failures++ == 3)); then
        exit "$code"
    fi
done
