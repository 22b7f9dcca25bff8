#!/usr/bin/env bash
# launch/sweep.sh DIR [launcher]
#
# One run for each learning rate and initial scale below, each in a work directory of its own under DIR. The
# launcher is what a run is started with, to which this adds the train arguments:
#
#   launch/sweep.sh runs/sweep                                              one after the other, in one process
#   launch/sweep.sh runs/sweep launch/local.sh 2                            each in two processes
#   launch/sweep.sh runs/sweep sbatch --ntasks-per-node=2 launch/slurm.sbatch   a job each, as the queue has room
#
# The same command goes on after a stop: a finished run says so, a begun one goes on where it was. A run that
# fails does not keep the others from being tried. Exit code: 0 all done (or submitted), 75 stopped early, else
# that of the first run that failed. Copy this file to sweep something else.
set -u

config=configs/glyphs.py
learning_rates=(2e-3 4e-3 8e-3)
scales=(10 20)

directory=${1:-}
if [[ -z $directory || $directory == -* ]]; then
    echo "launch/sweep.sh: DIR is '$directory': give a folder for the work directories, as in launch/sweep.sh runs/sweep" >&2
    exit 2
fi
shift
launcher=("$@")
((${#launcher[@]} > 0)) || launcher=("${CONTRASTIVE_JAX:-contrastive-jax}" train)

failed=0
trap : TERM INT # The run under way saves; this shell waits for it and starts no other.
for learning_rate in "${learning_rates[@]}"; do
    for scale in "${scales[@]}"; do
        "${launcher[@]}" --config "$config" --workdir "$directory/learning_rate=$learning_rate,scale=$scale" \
            --config.optimizer.learning_rate="$learning_rate" --config.losses.clip.scale="$scale" &
        run=$!
        wait "$run"
        code=$?
        while kill -0 "$run" 2>/dev/null; do
            kill -TERM "$run" # A signal to this shell alone has ended `wait`.
            wait "$run"
            code=$?
        done
        ((code != 75)) || exit 75
        ((code == 0 || failed != 0)) || failed=$code
    done
done
exit "$failed"
