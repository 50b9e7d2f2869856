#!/bin/sh
# Index the sample pictures, search them, let the ITM head put the results in order, fill a mask.
# Everything runs with the bundled checkpoint and without a network. `make demo` calls this.
set -eu
cd "$(dirname "$0")/.."

rm -rf .demo  # an index of an older bundled checkpoint would be refused
export BT_MODEL=tiny BT_INDEX=.demo/index HF_HUB_OFFLINE=1

# Print a command as it would be typed, then run it.
show() {
    printf '\n$'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./=,-]*) printf ' "%s"' "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$@"
}

printf '$ export BT_MODEL=%s BT_INDEX=%s\n' "$BT_MODEL" "$BT_INDEX"
show bt index sample_data/images --captions sample_data/captions.csv
show bt search "a green dragon below a unicorn" -k 5
show bt search "a green dragon below a unicorn" -k 5 --rerank
show bt search --image sample_data/images/scene-0163.jpg --to captions --rerank -k 3
show bt score sample_data/images/scene-0163.jpg "a green dragon below a unicorn" "a green dragon above a unicorn"
show bt fill-mask "a <mask> dragon below a <mask>" --image sample_data/images/scene-0163.jpg -k 2
